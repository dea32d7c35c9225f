//! Shared by the examples that write vectors of features to a file.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, FeatureEdits, FeatureStore, FeatureVectors, Overlay, Vindex, extract};
use larql_vindex_spec::ExtractLevel;

/// Writes one vector `[hidden]` of every feature, in f32, as a file of the vindex that the command line names; of the bundled
/// model, in a folder that is deleted at the end, where it names none.
pub(crate) fn write_vectors(
    file: &str,
    vector: impl Fn(&FeatureVectors, usize) -> Option<Vec<f32>>,
) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => bundled(folder.path())?,
    };
    let overlay = Overlay::new(Arc::new(Vindex::open(&path)?), FeatureEdits::default())?;
    let mut out = BufWriter::new(File::create(path.join(file))?);
    let mut written = 0;
    for layer in 0..overlay.layers() {
        // One layer at a time: in f32, all of a model may be larger than memory.
        let vectors = overlay.feature_vectors(layer)?;
        for feature in 0..overlay.features(layer) {
            let values = vector(&vectors, feature)
                .ok_or("the vindex has no such vectors; extract with --level inference")?;
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?;
            written += 1;
        }
    }
    out.flush()?;
    let bytes = written * overlay.hidden_size() * size_of::<f32>();
    println!("{}: {written} vectors, {:.1} MB", path.join(file).display(), bytes as f64 / 1e6);
    Ok(())
}

/// Extracts the bundled model.
fn bundled(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let path = folder.join("atlas.vindex");
    let checkpoint = Checkpoint::open(&larql_testing::shipped("atlas"))?;
    let options = ExtractOptions { level: ExtractLevel::Inference, ..ExtractOptions::default() };
    extract(&checkpoint, &path, &options, &NoProgress)?;
    Ok(path)
}
