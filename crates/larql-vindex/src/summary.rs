//! Summary of a vindex, and the vindexes in a folder.

use std::path::{Path, PathBuf};

use larql_vindex_spec::{ExtractLevel, FloatType, Manifest, Quant};
use serde::Serialize;

use crate::VindexError;
use crate::component::{Component, MANIFEST_FILE};

/// A vindex at a glance, from its manifest and the sizes of its files.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The directory.
    pub path: PathBuf,
    /// Name of the model.
    pub model: String,
    /// Name of its family.
    pub family: String,
    /// Level.
    pub level: ExtractLevel,
    /// Encoding of plain floats.
    pub dtype: FloatType,
    /// Storage of weights: plain floats or blocks.
    pub quant: Quant,
    /// Layers of the model.
    pub layers: usize,
    /// Features whose gates are listed, in all layers.
    pub features: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// The files, in order of name.
    pub files: Vec<FileSummary>,
}

/// A file of a vindex.
#[derive(Clone, Debug, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Component that it belongs to, if that is known.
    #[serde(skip)]
    pub component: Option<Component>,
}

impl FileSummary {
    /// Describes files by their names and sizes in bytes.
    pub fn of(files: &[(String, u64)]) -> Vec<FileSummary> {
        let of_file = |(name, bytes): &(String, u64)| FileSummary {
            name: name.clone(),
            bytes: *bytes,
            component: Component::of_file(name),
        };
        files.iter().map(of_file).collect()
    }
}

impl Summary {
    /// Reads the manifest of a vindex and the sizes of its files, and nothing else.
    ///
    /// # Errors
    /// [`VindexError::NotAVindex`] if there is no manifest; otherwise what is wrong with it.
    pub fn read(path: &Path) -> Result<Summary, VindexError> {
        let manifest_path = path.join(MANIFEST_FILE);
        if !manifest_path.is_file() {
            let problem = format!("it has no {MANIFEST_FILE}");
            return Err(VindexError::NotAVindex { path: path.into(), problem });
        }
        let json = std::fs::read(&manifest_path).map_err(VindexError::io(&manifest_path))?;
        let manifest = Manifest::parse(&json).map_err(VindexError::manifest(manifest_path))?;
        let files = directory_files(path)?.into_iter().map(|(name, bytes)| {
            let component = Component::of_file(&name);
            FileSummary { name, bytes, component }
        });
        Ok(Summary {
            path: path.into(),
            level: manifest.level(),
            dtype: manifest.float_type(),
            quant: manifest.quant,
            layers: manifest.num_layers,
            features: manifest.layers.iter().map(|slot| slot.num_features).sum(),
            hidden_size: manifest.hidden_size,
            vocab_size: manifest.vocab_size,
            model: manifest.model,
            family: manifest.family,
            files: files.collect(),
        })
    }

    /// Size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The vindexes that lie directly in a folder, in order of name. Folders that are no readable vindex are left out.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Summary>, VindexError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(VindexError::io(folder))? {
        paths.push(entry.map_err(VindexError::io(folder))?.path());
    }
    paths.sort();
    let finished = paths.iter().filter(|path| path.extension().is_none_or(|ending| ending != "partial"));
    Ok(finished.filter_map(|path| Summary::read(path).ok()).collect())
}

/// The files in a directory and one level below it, as in `layers/layer_00.weights`, with their sizes, in order of
/// name.
pub(crate) fn directory_files(path: &Path) -> Result<Vec<(String, u64)>, VindexError> {
    let mut files = Vec::new();
    let mut folders = vec![(path.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(VindexError::io(&folder))? {
            let entry = entry.map_err(VindexError::io(&folder))?;
            let metadata = std::fs::metadata(entry.path()).map_err(VindexError::io(entry.path()))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if metadata.is_file() {
                files.push((name, metadata.len()));
            } else if prefix.is_empty() {
                folders.push((entry.path(), format!("{name}/")));
            }
        }
    }
    files.sort();
    Ok(files)
}
