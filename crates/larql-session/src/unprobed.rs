//! Models that were never probed: what they can be asked about, and DESCRIBE of a checkpoint, which has no features to look
//! up.

use std::path::Path;

use larql_core::progress::Progress;
use larql_knowledge::unprobed::ShippedReading;
use larql_knowledge::{AskableRelations, EntityResidual, LanguageModel, PrefixCache, entity_tokens};
use larql_lql::ast::{Describe, Detail};
use larql_lql::output::{Band, BandEdges, Described, Output};

use crate::common::wire;
use crate::digest::Digest;
use crate::measured::{keep, kept_file};
use crate::{ExecuteError, QueryError, Session};

/// A model that was never probed, as it is asked.
pub(crate) struct Unprobed {
    pub(crate) relations: AskableRelations,
    prefixes: PrefixCache,
}

/// Digest of all that the answers about reference subjects depend on, beside the model.
pub(crate) fn digest() -> [u8; 8] {
    ShippedReading::shipped().digest().to_le_bytes()
}

/// Returns the relations that a model can be asked about: those in the file `kept`, or else as the model's answers about the
/// reference subjects have it, which the file then keeps.
pub(crate) fn relations(
    kept: Option<&Path>,
    language: &LanguageModel,
    progress: &dyn Progress,
) -> Result<AskableRelations, ExecuteError> {
    let shipped = ShippedReading::shipped();
    let model = language.unedited();
    let read = |path: &Path| {
        let bytes = std::fs::read(path).ok()?;
        AskableRelations::from_bytes(path, &bytes, model.spec()).ok()
    };
    match kept.and_then(read) {
        Some(relations) => Ok(shipped.believed(relations)),
        None => {
            let relations = shipped.relations_of(model, language.tokenizer(), progress)?;
            keep(kept, &relations.to_bytes()?);
            Ok(relations)
        }
    }
}

impl Unprobed {
    /// Asks the model of the checkpoint at `path` about the reference subjects, unless that was done before.
    pub(crate) fn of_checkpoint(
        session: &Session,
        path: &Path,
        language: &LanguageModel,
    ) -> Result<Unprobed, ExecuteError> {
        let kept = session.catalog().models().measurements().and_then(|folder| {
            let mut content = checkpoint_content(path)?;
            content.extend(digest());
            let mut digest = Digest::default();
            digest.add(&content);
            Some(kept_file(&folder, &digest, "unprobed.json"))
        });
        let relations = relations(kept.as_deref(), language, session.progress())?;
        Ok(Unprobed { relations, prefixes: PrefixCache::default() })
    }
}

/// Path, size and time of change of a checkpoint and the files in it, which change when it does; none if they are not known.
fn checkpoint_content(path: &Path) -> Option<Vec<u8>> {
    let mut files = vec![path.canonicalize().ok()?];
    if path.is_dir() {
        files.extend(std::fs::read_dir(&files[0]).ok()?.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let mut content = Vec::new();
    for file in files {
        let metadata = file.metadata().ok()?;
        content.extend(
            format!("{} {} {:?}\n", file.display(), metadata.len(), metadata.modified().ok()?).bytes(),
        );
    }
    Some(content)
}

/// DESCRIBE of the model in a checkpoint: what it says when it is asked.
pub(crate) fn describe(
    session: &Session,
    statement: &Describe,
    path: &Path,
    language: &LanguageModel,
    unprobed: &Unprobed,
) -> Result<Output, ExecuteError> {
    if statement.layer.is_some() || statement.scope.is_some() || statement.detail == Some(Detail::Raw) {
        let path = path.display().to_string();
        return Err(ExecuteError::NeedsVindex { statement: "DESCRIBE of layers", path });
    }
    let entity = &statement.entity.text().ok_or(QueryError::NoSubject)?.value;
    let language = language.with_cancel(session.cancel_token());
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let tokens = entity_tokens(tokenizer, entity)?;
    let layers = model.spec().layers.len();
    let mut edges = Vec::new();
    if !tokens.is_empty() {
        let residual = EntityResidual::of(model, tokenizer, &tokens)?;
        let Unprobed { relations, prefixes } = unprobed;
        let found = relations.edges(model, tokenizer, prefixes, entity.trim(), &residual, 0..layers)?;
        edges.extend(found.into_iter().map(|(edge, _)| wire::edge(edge)));
    }
    let source = path.display();
    let next = format!(
        "asked in the shipped wordings; `larql extract {source} -o X.vindex` and a probe make it better"
    );
    edges.retain(|edge| !statement.relations_only || edge.relation.is_some());
    edges.truncate(statement.limit.map_or(usize::MAX, |limit| limit.value));
    Ok(Output::Describe(Described {
        entity: entity.clone(),
        detail: statement.detail.unwrap_or(Detail::Verbose),
        approximate_in: None,
        bands: vec![BandEdges {
            band: Band::All,
            layer: 0,
            layer_max: layers - 1,
            edges,
            left_out: 0,
            unlabelled: 0,
        }],
        next: Some(next),
    }))
}
