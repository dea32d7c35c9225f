//! Building by a Vindexfile: each instruction is a layer over those before it, cached by all that it depends on.
//!
//! A layer is a patch. INSERT and DELETE are carried out as statements on the result of the layers below, and what they
//! do is kept; PATCH and LABELS are read anew. So a build that was interrupted, or whose last lines changed, takes over
//! what it did before, and the vindex at its end is the same, whether its layers were cached or not.

mod cache;
mod error;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use larql_lql::ast::{Spanned, Statement};
use larql_lql::output::Output;
use larql_lql::vindexfile::{Instruction, Step, Vindexfile};
use larql_models::Checkpoint;
use larql_vindex::{
    CompileOptions, CompileReport, EditedFeature, ExtractOptions, FeatureOperation, History, HistoryLayer,
    Labels, Operation, Patch, StatedEdge, Summary, Vindex, compile,
};
use larql_vindex_spec::ExtractLevel;

use crate::digest::Digest;
use crate::{ExecuteError, PatchError, Session};
use cache::Cache;
pub use error::{BuildError, LayerError};

/// Subject of messages about what needs a vindex.
const NEEDS_VINDEX: &str = "a layer";

/// The part of a Vindexfile to build, and its folder.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// The folder that relative paths begin at, which is the Vindexfile's.
    pub folder: &'a Path,
    /// The stage, if there are any.
    pub stage: Option<&'a str>,
}

/// A layer of a build that is done.
#[derive(Clone, Copy, Debug)]
pub struct LayerDone<'a> {
    /// Its place among all layers, from 1.
    pub number: usize,
    /// The number of layers.
    pub of: usize,
    /// The layer.
    pub layer: &'a HistoryLayer,
    /// True if it was taken from the cache.
    pub cached: bool,
}

/// The layers of a Vindexfile over its base, which lie in the session that built them.
#[derive(Debug)]
pub struct Build {
    /// The layers, after those of the base.
    pub history: History,
    /// The most that may be held, if the Vindexfile limits it.
    pub exposed: Option<ExtractLevel>,
}

impl Session {
    /// Carries out the instructions of a Vindexfile, and leaves their result open. `watch` is told of each layer,
    /// and may stop the build after it.
    ///
    /// # Errors
    /// The line and what is wrong there. Nothing is written but layers in the cache, whole ones.
    pub fn build(
        &mut self,
        vindexfile: &Vindexfile,
        options: BuildOptions<'_>,
        watch: &mut dyn FnMut(LayerDone<'_>) -> ControlFlow<()>,
    ) -> Result<Build, BuildError> {
        let steps = vindexfile.steps(options.stage)?;
        let mut builder = Builder {
            cache: Cache::new(self.catalog().models().builds()),
            session: self,
            folder: options.folder,
            build: Build { history: History::default(), exposed: None },
            digest: Digest::default(),
        };
        for (index, step) in steps.iter().enumerate() {
            let (layer, cached) =
                builder.step(step).map_err(|problem| BuildError::of_layer(step, problem))?;
            builder.build.history.layers.push(layer.clone());
            let done = LayerDone { number: index + 1, of: steps.len(), layer: &layer, cached };
            if watch(done).is_break() {
                return Err(BuildError::Interrupted);
            }
        }
        Ok(builder.build)
    }

    /// Writes what was built as a vindex of its own at `target`, which holds no more than was exposed.
    ///
    /// # Errors
    /// As [`larql_vindex::compile()`]; nothing is left then.
    pub fn write_build(&self, build: &Build, target: &Path) -> Result<CompileReport, ExecuteError> {
        let options = CompileOptions { level: build.exposed, history: Some(build.history.clone()) };
        let view = self.viewed("building")?;
        Ok(compile(view.overlay(), target, &options, self.progress())?)
    }
}

/// A build that goes on.
struct Builder<'a> {
    session: &'a mut Session,
    cache: Cache,
    folder: &'a Path,
    build: Build,
    /// Digest of all that the next layer lies on.
    digest: Digest,
}

impl Builder<'_> {
    /// Carries out a step; says whether it was in the cache.
    fn step(&mut self, step: &Step) -> Result<(HistoryLayer, bool), LayerError> {
        let instruction = step.instruction.to_string();
        self.digest.add(instruction.as_bytes());
        let patch = match &step.instruction {
            Instruction::From(vindex) => return Ok((self.begin(&instruction, vindex)?, false)),
            Instruction::Expose(level) => {
                let base = self.session.viewed("EXPOSE")?.base();
                base.require_preset(*level, "what EXPOSE names").map_err(ExecuteError::from)?;
                self.build.exposed = Some(*level);
                Patch::new(base)
            }
            Instruction::Patch(file) => {
                let path = self.file(file)?;
                let json = self.read(&path)?;
                Patch::parse(&json).map_err(LayerError::damaged(path))?
            }
            Instruction::Labels(file) => {
                let path = self.file(file)?;
                let json = self.read(&path)?;
                labels(self.session.viewed("LABELS")?.base(), &json).map_err(LayerError::damaged(path))?
            }
            Instruction::Insert(insert) => {
                return self.edit(&instruction, &Statement::Insert(insert.clone()));
            }
            Instruction::Delete(delete) => {
                return self.edit(&instruction, &Statement::Delete(delete.clone()));
            }
        };
        let layer = self.layer(instruction.clone(), &patch, stated_edges(&patch));
        self.session.lay(&instruction, patch)?;
        Ok((layer, false))
    }

    /// Opens what the build begins with.
    fn begin(&mut self, instruction: &str, vindex: &Spanned<String>) -> Result<HistoryLayer, LayerError> {
        let mut path = self.session.catalog().models().find_from(self.folder, vindex.value.as_ref())?;
        if !Vindex::is_at(&path) {
            path = self.extracted(&path)?;
        }
        self.session.open_path(&path)?;
        let (base, summary) = (self.session.viewed("FROM")?.base(), Summary::read(&path));
        let summary = summary.map_err(ExecuteError::from)?;
        self.digest.add_vindex(base, &summary).map_err(LayerError::unreadable(&path))?;
        self.build.history = History::read(&path).map_err(ExecuteError::from)?;
        Ok(HistoryLayer {
            instruction: instruction.to_owned(),
            digest: self.digest.to_string(),
            features: summary.features,
            edges: 0,
            bytes: summary.bytes(),
        })
    }

    /// Returns a vindex of level all of a checkpoint, which is extracted into the cache unless it is there.
    fn extracted(&self, model: &Path) -> Result<PathBuf, LayerError> {
        let checkpoint = Checkpoint::open(model).map_err(ExecuteError::from)?;
        let Some(cache) = self.session.catalog().models().builds() else {
            let path = model.display().to_string();
            return Err(ExecuteError::NeedsVindex { statement: "FROM", path }.into());
        };
        // Other weights under the same name are another vindex.
        let mut state = DefaultHasher::new();
        for file in checkpoint.weight_files() {
            let metadata = file.metadata().map_err(LayerError::unreadable(file))?;
            (file.canonicalize().ok(), metadata.len(), metadata.modified().ok()).hash(&mut state);
        }
        let into = cache.join("extracted").join(format!("{:016x}.vindex", state.finish()));
        if !Vindex::is_at(&into) {
            if let Some(folder) = into.parent() {
                std::fs::create_dir_all(folder).map_err(LayerError::unreadable(folder))?;
            }
            let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
            larql_vindex::extract(&checkpoint, &into, &options, self.session.progress())
                .map_err(ExecuteError::from)?;
        }
        Ok(into)
    }

    /// Carries out a statement that edits, unless what it did here is known.
    fn edit(&mut self, instruction: &str, statement: &Statement) -> Result<(HistoryLayer, bool), LayerError> {
        let digest = self.digest.to_string();
        if let Some((layer, patch)) = self.cache.get(&digest) {
            self.session.lay(instruction, patch)?;
            return Ok((layer, true));
        }
        let (patch, edges) = self.session.edit_as_patch(instruction, statement)?;
        let layer = self.layer(instruction.to_owned(), &patch, edges);
        self.cache.put(&layer, &patch)?;
        Ok((layer, false))
    }

    fn layer(&self, instruction: String, patch: &Patch, edges: usize) -> HistoryLayer {
        let features: BTreeSet<_> = patch.operations().filter_map(Operation::feature).collect();
        HistoryLayer {
            instruction,
            digest: self.digest.to_string(),
            features: features.len(),
            edges,
            bytes: patch.operations().map(vector_bytes).sum(),
        }
    }

    /// Returns the path of a file that an instruction names.
    fn file(&self, name: &Spanned<String>) -> Result<PathBuf, LayerError> {
        Ok(self.session.catalog().models().find_file(self.folder, name)?)
    }

    /// The content of a file, on which the layers from here on depend.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, LayerError> {
        let content = std::fs::read(path).map_err(LayerError::unreadable(path))?;
        self.digest.add(&content);
        Ok(content)
    }
}

impl Session {
    /// Lays a patch on top, named after the instruction that brings it.
    fn lay(&mut self, instruction: &str, patch: Patch) -> Result<(), ExecuteError> {
        self.vindex_mut(NEEDS_VINDEX)?.apply(instruction, patch)
    }

    /// Carries out a statement that edits, as a patch of its own on top; says of how many edges it is.
    fn edit_as_patch(
        &mut self,
        instruction: &str,
        statement: &Statement,
    ) -> Result<(Patch, usize), ExecuteError> {
        self.vindex_mut(NEEDS_VINDEX)?.begin(instruction)?;
        let edges = match self.execute(statement)? {
            Output::Changed(changed) => changed.count,
            _ => 0,
        };
        let patch = self.vindex_mut(NEEDS_VINDEX)?.end().ok_or(PatchError::NoneOpen)?;
        Ok((patch.clone(), edges))
    }
}

/// Labels as edits that change nothing but names.
fn labels(base: &Vindex, json: &[u8]) -> Result<Patch, larql_vindex::Damage> {
    let mut labels = Labels::default();
    labels.add_file(json, larql_vindex::LabelSource::Probe)?;
    let mut patch = Patch::new(base);
    patch.extend(labels.iter().map(|(layer, feature, label)| {
        let edge = StatedEdge { relation: Some(label.relation.clone()), ..StatedEdge::default() };
        let edited = EditedFeature { edge, ..EditedFeature::default() };
        Operation::Update(FeatureOperation { layer, feature, edited, token_text: None })
    }));
    Ok(patch)
}

/// Returns the number of edges that a patch states.
fn stated_edges(patch: &Patch) -> usize {
    let edges = patch.operations().filter_map(|operation| match operation {
        Operation::Insert(of) | Operation::Update(of) => {
            let StatedEdge { entity, relation, target, .. } = &of.edited.edge;
            Some((entity.as_deref()?, relation.as_deref()?, target.as_deref()?))
        }
        Operation::InsertKnn(entry) => {
            Some((&*entry.triple.entity, &*entry.triple.relation, &*entry.triple.target))
        }
        Operation::Delete { .. } | Operation::DeleteKnn { .. } => None,
    });
    edges.collect::<BTreeSet<_>>().len()
}

/// Bytes of the vectors that an operation brings.
fn vector_bytes(operation: &Operation) -> u64 {
    let values = match operation {
        Operation::Insert(of) | Operation::Update(of) => {
            let EditedFeature { gate, up, down, .. } = &of.edited;
            [gate, up, down].into_iter().flatten().map(|vector| vector.len()).sum()
        }
        Operation::InsertKnn(entry) => entry.key.len(),
        Operation::Delete { .. } | Operation::DeleteKnn { .. } => 0,
    };
    (values * size_of::<f32>()) as u64
}
