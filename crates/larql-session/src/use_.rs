//! USE: opening a vindex or a checkpoint.

use std::collections::HashSet;
use std::path::Path;

use larql_hub::model_name;
use larql_lql::ast::Use;
use larql_lql::output::{self, OpenedAs, Output};
use larql_models::Checkpoint;
use larql_vindex::{FeatureStore, Labels, Vindex};

use crate::open_vindex::OpenVindex;
use crate::session::Opened;
use crate::{ExecuteError, Session, extract};

pub(crate) fn run(session: &mut Session, statement: &Use) -> Result<Output, ExecuteError> {
    match statement {
        Use::Vindex(name) => {
            // Users write USE for a checkpoint, too, where USE MODEL is meant.
            let path = session.find(name)?;
            match !Vindex::is_at(&path) && Checkpoint::open(&path).is_ok() {
                true => checkpoint(session, &path),
                false => vindex(session, &path),
            }
        }
        Use::Model { model: name, auto_extract } => {
            let path = session.find_checkpoint(name)?;
            if *auto_extract {
                let extracted = extract::automatic(session, &path)?;
                return vindex(session, &extracted);
            }
            checkpoint(session, &path)
        }
        Use::Remote(_) => Err(ExecuteError::NotAvailable { statement: "USE REMOTE" }),
    }
}

impl Session {
    /// Opens a vindex or a checkpoint, whichever lies at `path`.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_path(&mut self, path: &Path) -> Result<Output, ExecuteError> {
        if Vindex::is_at(path) { vindex(self, path) } else { checkpoint(self, path) }
    }
}

fn checkpoint(session: &mut Session, path: &Path) -> Result<Output, ExecuteError> {
    let language = session.catalog().checkpoint(path)?;
    let spec = language.model().spec();
    let opened = output::Opened {
        path: path.display().to_string(),
        opened_as: OpenedAs::Model,
        model: model_name(path),
        level: None,
        layers: spec.layers.len(),
        features: spec.layers.iter().map(|layer| layer.feed_forward.features()).sum(),
        relations: 0,
    };
    session.set_opened(Opened::Checkpoint { path: path.into(), language, unprobed: Box::default() });
    Ok(Output::Use(opened))
}

fn vindex(session: &mut Session, path: &Path) -> Result<Output, ExecuteError> {
    let view = session.catalog().database(path)?.view()?;
    let base = view.base();
    let opened = output::Opened {
        path: path.display().to_string(),
        opened_as: OpenedAs::Vindex,
        model: base.manifest().model.clone(),
        level: Some(base.level()),
        layers: base.layers(),
        features: (0..base.layers()).map(|layer| base.features(layer)).sum(),
        relations: relations(base.labels()),
    };
    session.set_opened(Opened::Vindex(OpenVindex::new(view, path.into())));
    Ok(Output::Use(opened))
}

/// Returns the number of different relations among labels.
fn relations(labels: &Labels) -> usize {
    labels.iter().map(|(_, _, label)| &*label.relation).collect::<HashSet<_>>().len()
}
