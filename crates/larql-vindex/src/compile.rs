//! Compiling: writes an overlay as a new vindex.
//!
//! Files without edits are hard links to the base's where the file system allows it. In files of floats the
//! edited rows and columns are rewritten in place. A tensor of blocks that an edit touches becomes f16 in a file of its
//! own, `edited/N.safetensors`, and the list of tensors says so; its blocks stay where they are, unused. What is above
//! the level that is asked for is left out; tensors that share a file with such go to `edited/` too, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larql_compute::{Format, Matrix, Pool};
use larql_models::{LayerRole, Role, Shape, StepRoles, WeightSource};
use larql_vindex_spec::{ExtractLevel, LayerSlot, Manifest, TensorEntry, parse_tensors};
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::component::{
    Component, DOWN_META_FILE, EDITED_FOLDER, HISTORY_FILE, KNN_STORE_FILE, MANIFEST_FILE,
    TENSOR_MANIFEST_FILE,
};
use crate::extract::plan::{PlannedFile, PlannedTensor};
use crate::extract::tensors::write_tensors;
use crate::extract::workspace::{Workspace, partial};
use crate::extract::writer::sync_directory;
use crate::files::Files;
use crate::labels;
use crate::slice::{self, SlicePart, SliceParts, SlicePlan};
use crate::summary::directory_files;
use crate::{FeatureEdit, FeatureStore, History, Overlay, VindexError, digest};
use larql_core::progress::{Meter, Progress, Stage};

/// Options of compiling, other than the edits.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Level of the result; that of the base where it is absent.
    pub level: Option<ExtractLevel>,
    /// History of the result; that of the base where it is absent.
    pub history: Option<History>,
}

/// Result of compiling.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CompileReport {
    /// The vindex.
    pub path: PathBuf,
    /// Every file with its size in bytes.
    pub files: Vec<(String, u64)>,
    /// Number of them that are hard links to the base's files.
    pub kept: usize,
    /// Number of tensors that were rewritten.
    pub tensors: usize,
}

/// Copies of feed-forward matrices in another order, which other programs use; this one does not, and with
/// edits they would be wrong.
const COPIES: [&str; 2] = ["up_features.bin", "down_features.bin"];

/// Writes base, edits and edge memory of an overlay as a new vindex at `target`.
///
/// The directory appears when it is complete; after a failure nothing is left.
///
/// # Errors
/// [`VindexError::AlreadyExists`] if `target` exists; [`VindexError::NotHeld`] if an edit changes weights
/// that the base does not hold, or its level is below the requested one; [`VindexError::Cancelled`] if `progress` is cancelled; and errors of reading and writing.
pub fn compile(
    overlay: &Overlay,
    target: &Path,
    options: &CompileOptions,
    progress: &dyn Progress,
) -> Result<CompileReport, VindexError> {
    check_held(overlay)?;
    if let Some(level) = options.level {
        overlay.base().require_preset(level, &format!("level {level}, which is to be compiled,"))?;
    }
    let identity = json!({ "compile": overlay.base().path(), "level": options.level });
    let base_level = overlay.base().level();
    let selection = match options.level.unwrap_or(base_level) {
        level if level < base_level => Selection::Level(level),
        _ => Selection::Everything,
    };
    let plan = Compilation::plan(overlay, options.history.as_ref(), selection)?;
    write_compilation(plan, target, identity, progress)
}

/// Writes a plan as the vindex `target`; `identity` is what an unfinished attempt is recognised by.
pub(crate) fn write_compilation(
    mut plan: Compilation<'_>,
    target: &Path,
    identity: Value,
    progress: &dyn Progress,
) -> Result<CompileReport, VindexError> {
    let mut workspace = Workspace::open(target, identity, true)?;
    let discard = |error| {
        // What went wrong says more than what could not be cleared away.
        let _ = std::fs::remove_dir_all(partial(target.components().as_path()));
        error
    };
    let written = plan.write(&mut workspace, progress);
    let Written { mut files, kept, tensors, manifest } = written.map_err(discard)?;
    files.insert(MANIFEST_FILE.to_owned(), manifest.len() as u64);
    workspace.complete(MANIFEST_FILE, manifest.as_bytes()).map_err(discard)?;
    Ok(CompileReport { path: target.into(), files: files.into_iter().collect(), kept, tensors })
}

/// The share of the base that goes into the new vindex.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// All of it.
    Everything,
    /// All that a level below the base's includes.
    Level(ExtractLevel),
    /// Some parts.
    Parts(SliceParts),
}

impl Selection {
    fn is_everything(&self) -> bool {
        match self {
            Selection::Everything => true,
            Selection::Level(_) => false,
            Selection::Parts(parts) => parts.is_everything(),
        }
    }

    fn keeps_tensor(&self, role: Role) -> bool {
        match self {
            Selection::Everything => true,
            Selection::Level(level) => Component::of_role(role).is_in_preset(*level),
            Selection::Parts(parts) => parts.contains(SlicePart::of_role(role)),
        }
    }

    /// Returns true if a file of no matrices is kept.
    fn keeps_file(&self, name: &str) -> bool {
        match (self, Component::of_file(name)) {
            (Selection::Everything, _) => true,
            (_, None) => self.is_everything(),
            (Selection::Level(level), Some(component)) => component.is_in_preset(*level),
            (Selection::Parts(parts), Some(component)) => parts.contains(component.part()),
        }
    }

    /// Records the selection in the manifest.
    fn record(&self, manifest: &mut Manifest) {
        let level = match self {
            Selection::Everything => return,
            Selection::Level(level) => *level,
            Selection::Parts(parts) => {
                slice::record(manifest, parts);
                parts.level(manifest.level())
            }
        };
        manifest.extract_level = Some(level);
        manifest.has_model_weights = level.has_model_weights();
    }
}

/// Refuses edits of matrices that are not held.
fn check_held(overlay: &Overlay) -> Result<(), VindexError> {
    for (layer, feature, edit) in overlay.edits().iter() {
        let FeatureEdit::Changed(edited) = edit else { continue };
        let (step, _) = StepRoles::of_feature(&overlay.base().spec().layers[layer].feed_forward, feature);
        let vectors =
            [(&edited.gate, Some(step.gate)), (&edited.up, step.up), (&edited.down, Some(step.down))];
        for (vector, projection) in vectors {
            let Some(projection) = projection else { continue };
            let role = Role::Layer(layer, projection.weight);
            if vector.is_some() && !overlay.base().holds(role) {
                let what = format!("the {role}, of which feature {feature} is edited,");
                return Err(overlay.base().not_held(what, vec![Component::of_role(role)]));
            }
        }
    }
    Ok(())
}

/// Ending of the lists of tensors.
const LIST_ENDING: &str = "_manifest.json";

/// Differences of the new vindex from the base.
pub(crate) struct Compilation<'a> {
    overlay: &'a Overlay,
    history: Option<&'a History>,
    selection: Selection,
    files: Files,
    /// The files of the base of which the selection leaves out all or something.
    left_out: BTreeSet<String>,
    /// For each file of floats the tensors to be rewritten in it, by first byte, as the file has them.
    rewritten: BTreeMap<String, BTreeMap<usize, (Role, Matrix)>>,
    /// The tensors that leave their file.
    moved: Vec<PlannedTensor>,
    tensors: usize,
}

/// Files and tensors that were written.
struct Written {
    /// Files with their sizes, all but the manifest.
    files: BTreeMap<String, u64>,
    kept: usize,
    tensors: usize,
    manifest: String,
}

impl<'a> Compilation<'a> {
    pub(crate) fn plan(
        overlay: &'a Overlay,
        history: Option<&'a History>,
        selection: Selection,
    ) -> Result<Compilation<'a>, VindexError> {
        let base = overlay.base();
        let (spec, mut files) = (base.spec(), Files::new(base.path()));
        let catalogue = Catalogue::read(&mut files, base.manifest(), spec)?;
        let mut mapped = Vec::new();
        for (name, _) in directory_files(base.path())? {
            if let Some(bytes) = files.optional(&name)? {
                mapped.push((name, bytes));
            }
        }
        let is_kept = |role: Role| selection.keeps_tensor(role);
        let mut tensors = Vec::new();
        for (role, shape) in spec.tensors() {
            if let Some(matrix) = catalogue.weights.get(&role) {
                tensors.push((role, shape, matrix, place(&mapped, matrix)));
            }
        }
        let mut left_out = BTreeSet::new();
        if !selection.is_everything() {
            // Vectors are small, and writers put them where they like.
            let matrices = tensors.iter().filter(|(_, shape, ..)| matches!(shape, Shape::Matrix(..)));
            let mut of_matrices = BTreeMap::new();
            for (role, .., place) in matrices {
                if let Some((file, _)) = place {
                    *of_matrices.entry(file).or_insert(true) &= is_kept(*role);
                }
            }
            let is_whole =
                |name: &String| of_matrices.get(name).copied().unwrap_or_else(|| selection.keeps_file(name));
            left_out.extend(mapped.iter().map(|(name, _)| name).filter(|name| !is_whole(name)).cloned());
        }
        let edited: BTreeSet<Role> = overlay.edited_roles().into_iter().collect();
        let mut rewritten = BTreeMap::<String, BTreeMap<usize, (Role, Matrix)>>::new();
        let (mut moved, mut count) = (Vec::new(), 0);
        for (role, shape, matrix, place) in tensors.iter().filter(|(role, ..)| is_kept(*role)) {
            let is_edited = edited.contains(role);
            count += usize::from(is_edited);
            let stays = match place {
                Some((file, _)) => !left_out.contains(file),
                None => selection.is_everything(),
            };
            match place {
                _ if stays && !is_edited => {}
                Some((file, start)) if stays && matrix.format().is_float() => {
                    rewritten.entry(file.clone()).or_default().insert(*start, (*role, (*matrix).clone()));
                }
                _ => {
                    let is_encoded_anew = is_edited && !matrix.format().is_float();
                    let format = if is_encoded_anew { Format::F16 } else { matrix.format() };
                    moved.push(PlannedTensor::new(spec.tensor_name(*role), *role, *shape, format));
                }
            }
            // Beside blocks of gates there may be floats, to be searched.
            if let Some(rows) =
                gate_rows(&catalogue, overlay, *role).filter(|rows| is_edited && rows.format().is_float())
                && let Some((file, start)) = self::place(&mapped, &rows)
            {
                rewritten.entry(file).or_default().insert(start, (*role, rows));
            }
        }
        Ok(Compilation { overlay, history, selection, files, left_out, rewritten, moved, tensors: count })
    }

    /// Returns the files of a plan without edits, and their sizes.
    pub(crate) fn preview(&self) -> Result<SlicePlan, VindexError> {
        let mut files = directory_files(self.overlay.base().path())?;
        files.retain(|(name, _)| !self.left_out.contains(name));
        if !self.moved.is_empty() {
            let bytes = self.moved.iter().map(|tensor| tensor.entry().length).sum();
            files.push((format!("{EDITED_FOLDER}1.safetensors"), bytes));
            files.sort();
        }
        Ok(SlicePlan { files, moved: self.moved.len() })
    }

    fn write(&mut self, workspace: &mut Workspace, progress: &dyn Progress) -> Result<Written, VindexError> {
        let base = self.overlay.base();
        let files = directory_files(base.path())?;
        let mut meter = Meter::new(progress, Stage::Weights, files.iter().map(|(_, bytes)| bytes).sum());
        let (entries, moved_to) = self.write_moved(workspace, &files, &mut meter)?;
        let replaced = self.small_files(&files, &entries)?;
        let unedited = self.overlay.edits().is_empty();
        let (mut sizes, mut checksums, mut kept) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (name, bytes) in &files {
            meter.set_item(name);
            let is_left_out = name == MANIFEST_FILE
                || name == KNN_STORE_FILE
                || replaced.contains_key(name)
                || self.left_out.contains(name)
                || (!unedited && (COPIES.contains(&&**name)));
            if is_left_out {
                continue;
            }
            if let Some(tensors) = self.rewritten.get(name) {
                let old = self.files.required(name)?;
                self.write_file(workspace, name, &old, tensors)?;
            } else {
                keep(workspace, base.path(), name)?;
                kept += 1;
                sizes.insert(name.clone(), *bytes);
                if Component::of_file(name).is_none_or(Component::has_checksums) {
                    checksums.insert(name.clone(), self.checksum(name, progress)?);
                }
            }
            meter.advance(*bytes)?;
        }
        for (name, bytes) in replaced {
            workspace.write(&name, &bytes)?;
        }
        for (name, file) in workspace.files() {
            sizes.insert(name.clone(), file.bytes);
            if Component::of_file(name).is_none_or(Component::has_checksums) {
                checksums.insert(name.clone(), file.sha256.clone());
            }
        }
        let manifest = self.manifest(checksums, &entries, moved_to.as_deref());
        Ok(Written { files: sizes, kept, tensors: self.tensors, manifest })
    }

    /// Writes the tensors that leave their file; returns their entries for lists of tensors.
    fn write_moved(
        &self,
        workspace: &mut Workspace,
        files: &[(String, u64)],
        meter: &mut Meter<'_>,
    ) -> Result<(Vec<TensorEntry>, Option<String>), VindexError> {
        if self.moved.is_empty() {
            return Ok((Vec::new(), None));
        }
        let name = |number: usize| format!("{EDITED_FOLDER}{number}.safetensors");
        let is_free = |name: &String| files.iter().all(|(other, _)| other != name);
        let name = (1..).map(name).find(is_free).unwrap_or_default();
        let mut file = PlannedFile::new((Component::Edited, name.clone().into()));
        self.moved.iter().for_each(|tensor| file.add(tensor.clone()));
        file.add_header(self.overlay.base().spec());
        let mut writer = workspace.create(&name)?;
        write_tensors(&file, self.overlay, None, &mut writer, &Pool::for_this_machine(), meter)?;
        workspace.finish(&name, writer)?;
        let entry = |tensor: &PlannedTensor| TensorEntry {
            kind: Some("tensor".to_owned()),
            file: Some(name.clone()),
            ..tensor.entry()
        };
        Ok((file.tensors.iter().map(entry).collect(), Some(name)))
    }

    /// A file with some of its tensors rewritten.
    fn write_file(
        &self,
        workspace: &mut Workspace,
        name: &str,
        old: &Bytes,
        tensors: &BTreeMap<usize, (Role, Matrix)>,
    ) -> Result<(), VindexError> {
        let mut writer = workspace.create(name)?;
        let mut at = 0;
        for (start, (role, matrix)) in tensors {
            writer.write(&old[at..*start])?;
            let new = self.overlay.rewritten(*role, matrix.clone())?;
            writer.write(new.bytes())?;
            at = start + new.bytes().len();
        }
        writer.write(&old[at..])?;
        workspace.finish(name, writer)
    }

    /// The small files that differ from the base's, by name.
    fn small_files(
        &mut self,
        files: &[(String, u64)],
        moved: &[TensorEntry],
    ) -> Result<BTreeMap<String, Vec<u8>>, VindexError> {
        let overlay = self.overlay;
        let mut small = labels::rewritten(&mut self.files, overlay.edits())?;
        let tokens: Vec<_> = overlay
            .edits()
            .iter()
            .filter_map(|(layer, feature, edit)| match edit {
                FeatureEdit::Deleted => Some(((layer, feature), Vec::new())),
                FeatureEdit::Changed(edited) => Some(((layer, feature), edited.tokens.clone()?)),
            })
            .collect();
        if let Some(meta) = overlay.base().down_meta().filter(|_| !tokens.is_empty()) {
            // Lines of text become records, which are read first.
            small.insert(DOWN_META_FILE.to_owned(), meta.rewritten(&tokens));
        }
        if !overlay.knn().is_empty() {
            small.insert(KNN_STORE_FILE.to_owned(), overlay.knn().to_bytes(overlay.hidden_size()));
        }
        if let Some(history) = self.history {
            small.insert(HISTORY_FILE.to_owned(), history.to_json());
        }
        small.retain(|name, _| !self.left_out.contains(name));
        if moved.is_empty() && self.left_out.is_empty() {
            return Ok(small);
        }
        let keys: BTreeSet<&str> = moved.iter().map(|entry| &*entry.key).collect();
        let lists =
            files.iter().filter(|(name, _)| name.ends_with(LIST_ENDING) && !self.left_out.contains(name));
        for (name, _) in lists {
            let json = self.files.required(name)?;
            let mut entries = parse_tensors(&json).map_err(VindexError::manifest(self.files.path(name)))?;
            let before = entries.len();
            let default_file = name.replace(LIST_ENDING, ".bin");
            entries.retain(|entry| {
                let file = entry.file.as_ref().unwrap_or(&default_file);
                !keys.contains(&*entry.key) && !self.left_out.contains(file)
            });
            if name == TENSOR_MANIFEST_FILE {
                entries.extend(moved.iter().cloned());
            }
            if entries.len() != before || name == TENSOR_MANIFEST_FILE {
                let json = serde_json::to_vec_pretty(&entries);
                small.insert(name.clone(), json.map_err(|e| VindexError::io(name)(e.into()))?);
            }
        }
        Ok(small)
    }

    /// The digest of a file that stays as it is: from the base's manifest, if that has it.
    fn checksum(&self, name: &str, progress: &dyn Progress) -> Result<String, VindexError> {
        let base = self.overlay.base();
        match base.manifest().checksums.as_ref().and_then(|checksums| checksums.get(name)) {
            Some(checksum) => Ok(checksum.clone()),
            None => digest::of_file(&self.files.path(name), &mut Meter::new(progress, Stage::Digests, 0)),
        }
    }

    /// The manifest, sealed.
    fn manifest(
        &self,
        checksums: BTreeMap<String, String>,
        moved: &[TensorEntry],
        moved_to: Option<&str>,
    ) -> String {
        let mut manifest = self.overlay.base().manifest().clone();
        manifest.checksums = Some(checksums);
        if self.history.is_some()
            && let Some(source) = &mut manifest.source
        {
            // The same history gives the same bytes, whenever the base was extracted.
            source.extracted_at = None;
        }
        self.selection.record(&mut manifest);
        for (tensor, entry) in self.moved.iter().zip(moved) {
            let Role::Layer(layer, LayerRole::Gate | LayerRole::ExpertGate(_)) = tensor.role else {
                continue;
            };
            let is_elsewhere =
                |slot: &&mut LayerSlot| slot.layer == layer && (slot.file.is_some() || slot.shards.is_some());
            for slot in manifest.layers.iter_mut().filter(is_elsewhere) {
                if tensor.role == Role::Layer(layer, LayerRole::Gate) {
                    (slot.offset, slot.length) = (entry.offset, entry.length);
                }
                (slot.file, slot.shards) = (moved_to.map(str::to_owned), None);
            }
        }
        digest::sealed(&manifest)
    }
}

/// The rows of a gate matrix that searches read.
fn gate_rows(catalogue: &Catalogue, overlay: &Overlay, role: Role) -> Option<Matrix> {
    let Role::Layer(layer, kind) = role else { return None };
    let pieces = catalogue.gates.get(layer)?.pieces();
    let mut first = 0;
    for (index, (step, count)) in
        StepRoles::of_layer(&overlay.base().spec().layers[layer].feed_forward).into_iter().enumerate()
    {
        if step.gate.weight == kind {
            return match pieces {
                [whole] => Some(whole.slice_rows(first..first + count)),
                pieces => pieces.get(index).cloned(),
            };
        }
        first += count;
    }
    None
}

/// The file that a matrix is a part of, and its first byte there.
fn place(mapped: &[(String, Bytes)], matrix: &Matrix) -> Option<(String, usize)> {
    let start = matrix.bytes().as_ptr() as usize;
    mapped.iter().find_map(|(name, bytes)| {
        let offset = start.checked_sub(bytes.as_ptr() as usize)?;
        (offset + matrix.bytes().len() <= bytes.len()).then(|| (name.clone(), offset))
    })
}

/// Adds a file of the base to the new vindex: as a hard link, or as a copy on another file system.
fn keep(workspace: &mut Workspace, base: &Path, name: &str) -> Result<(), VindexError> {
    let (old, new) = (base.join(name), workspace.directory().join(name));
    let folder = new.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(VindexError::io(folder))?;
    // Left by an attempt that was killed.
    if new.symlink_metadata().is_ok() {
        std::fs::remove_file(&new).map_err(VindexError::io(&new))?;
    }
    // A link to a link would end where that does.
    let old = old.canonicalize().map_err(VindexError::io(&old))?;
    if std::fs::hard_link(&old, &new).is_ok() {
        return sync_directory(folder);
    }
    std::fs::copy(&old, &new).map_err(VindexError::io(&new))?;
    std::fs::File::open(&new).and_then(|file| file.sync_all()).map_err(VindexError::io(&new))?;
    sync_directory(folder)
}
