//! Holdings: the set of components that a vindex has. A slice may lack any of them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use larql_models::{ModelSpec, Role};
use larql_vindex_spec::ExtractLevel;

use crate::component::Component;

/// The components that a vindex holds.
///
/// A component of weights is held if every tensor of it exists, in any file and format; another
/// one if one of its files is. So a model with a tied head needs no file to hold its [`Component::Head`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    held: BTreeSet<Component>,
}

impl Holdings {
    /// Components of weights that a forward pass reads.
    pub const PREDICTING: [Component; 9] = [
        Component::Embeddings,
        Component::Norms,
        Component::Attention,
        Component::Router,
        Component::Gate,
        Component::Up,
        Component::Down,
        Component::PerLayerInputs,
        Component::Head,
    ];

    /// Returns the components of the tensors for which `has_tensor` holds, and of the files at `path`.
    pub(crate) fn of(spec: &ModelSpec, path: &Path, has_tensor: impl Fn(Role) -> bool) -> Holdings {
        let lacks = |role: &Role| !has_tensor(*role);
        let tensors = spec.tensors().into_iter().map(|(role, _)| role);
        let incomplete: BTreeSet<Component> = tensors.filter(lacks).map(Component::of_role).collect();
        let is_held = |component: &Component| match Holdings::PREDICTING.contains(component) {
            true => !incomplete.contains(component),
            false => component.files().iter().any(|file| path.join(file).exists()),
        };
        Holdings { held: Component::all().filter(is_held).collect() }
    }

    /// Returns true if a component is held.
    pub fn contains(&self, component: Component) -> bool {
        self.held.contains(&component)
    }

    /// Returns true if all of `components` are held.
    pub fn contains_all(&self, components: &[Component]) -> bool {
        components.iter().all(|component| self.contains(*component))
    }

    /// Returns those of `components` that are not held.
    pub fn missing(&self, components: &[Component]) -> Vec<Component> {
        components.iter().copied().filter(|component| !self.contains(*component)).collect()
    }

    /// Iterates over the components that are held.
    pub fn iter(&self) -> impl Iterator<Item = Component> {
        self.held.iter().copied()
    }
}

/// Reason why a vindex lacks components, with the way to have them: the end of a sentence about its path.
pub(crate) struct MissingComponents<'a> {
    /// The level that the manifest names.
    pub(crate) level: ExtractLevel,
    /// The components that are not held, one at least.
    pub(crate) missing: &'a [Component],
}

impl fmt::Display for MissingComponents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = self.missing.iter().map(|component| component.level()).max();
        match needed.filter(|needed| *needed > self.level) {
            Some(needed) => {
                let held = self.level;
                write!(f, "holds level {held}; extract the model at level {needed} to have it")
            }
            None => {
                f.write_str("is a slice without ")?;
                for (index, component) in self.missing.iter().enumerate() {
                    let separator = match index {
                        0 => "",
                        _ if index + 1 == self.missing.len() => " and ",
                        _ => ", ",
                    };
                    write!(f, "{separator}{component}")?;
                }
                f.write_str("; use a vindex that has them")
            }
        }
    }
}
