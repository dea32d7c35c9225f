//! Slices: vindexes with some of the parts of another.
//!
//! Files whose tensors are all kept become hard links to the whole's where the file system allows it. Tensors that are kept
//! and share a file with others that are not, as gate rows in blocks do, move to `edited/N.safetensors`, bit for bit.

mod part;
mod preset;

pub use part::{SlicePart, SliceParts, UnknownPart};
pub use preset::{SlicePreset, UnknownPreset};

use std::path::Path;
use std::sync::Arc;

use larql_core::progress::Progress;
use larql_vindex_spec::Manifest;
use serde_json::{Value, json};

use crate::compile::{Compilation, Selection, write_compilation};
use crate::{CompileReport, FeatureEdits, Overlay, Vindex, VindexError};

/// Field of the manifest with the parts of a slice.
const SLICE_FIELD: &str = "slice";

/// Content of a slice before it is written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SlicePlan {
    /// Every file with its size in bytes, in order of name. The sizes of the manifests and of moved tensors are those of the
    /// whole's, or estimates.
    pub files: Vec<(String, u64)>,
    /// Number of tensors that move out of a file which is left out.
    pub moved: usize,
}

impl SlicePlan {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Writes the `parts` of a vindex as a new vindex at `target`.
///
/// The directory appears when it is complete; after a failure nothing is left.
///
/// # Errors
/// [`VindexError::AlreadyExists`] if `target` exists; [`VindexError::NothingToSlice`] if the vindex has no weights of the
/// parts; [`VindexError::Cancelled`] if `progress` is cancelled; and errors of reading and writing.
pub fn slice(
    whole: &Arc<Vindex>,
    target: &Path,
    parts: &SliceParts,
    progress: &dyn Progress,
) -> Result<CompileReport, VindexError> {
    check(whole, parts)?;
    let overlay = Overlay::new(Arc::clone(whole), FeatureEdits::default())?;
    let names: Vec<&str> = parts.iter().map(SlicePart::name).collect();
    let identity = json!({ "slice": whole.path(), "parts": names });
    let plan = Compilation::plan(&overlay, None, Selection::Parts(parts.clone()))?;
    write_compilation(plan, target, identity, progress)
}

/// Returns what [`slice()`] would write.
///
/// # Errors
/// As [`slice()`], as far as they show before writing.
pub fn plan_slice(whole: &Arc<Vindex>, parts: &SliceParts) -> Result<SlicePlan, VindexError> {
    check(whole, parts)?;
    let overlay = Overlay::new(Arc::clone(whole), FeatureEdits::default())?;
    Compilation::plan(&overlay, None, Selection::Parts(parts.clone()))?.preview()
}

/// Refuses a set of parts of whose weights nothing is held.
fn check(whole: &Vindex, parts: &SliceParts) -> Result<(), VindexError> {
    use larql_models::WeightSource;
    let roles = whole.spec().tensors().into_iter().map(|(role, _)| role);
    let mut kept = roles.filter(|role| parts.contains(SlicePart::of_role(*role)) && whole.holds(*role));
    let has_down_meta = parts.contains(SlicePart::DownMeta) && whole.down_meta().is_some();
    if kept.next().is_some() || has_down_meta {
        return Ok(());
    }
    let names: Vec<&str> = parts.iter().map(SlicePart::name).collect();
    Err(VindexError::NothingToSlice { path: whole.path().into(), parts: names.join(", ") })
}

/// Records in a manifest that a vindex is a slice.
pub(crate) fn record(manifest: &mut Manifest, parts: &SliceParts) {
    if !parts.is_everything() {
        let names: Vec<&str> = parts.iter().map(SlicePart::name).collect();
        manifest.extra.insert(SLICE_FIELD.to_owned(), json!({ "parts": names }));
    }
}

/// Returns the parts that a manifest says a slice has; none if it is not one. Names of parts that this version does not
/// know are left out.
pub(crate) fn recorded(manifest: &Manifest) -> Option<SliceParts> {
    let parts = manifest.extra.get(SLICE_FIELD)?.get("parts")?.as_array()?;
    Some(parts.iter().filter_map(Value::as_str).filter_map(|name| name.parse().ok()).collect())
}
