//! Verification of a vindex against its checksums.

use std::path::{Path, PathBuf};

use larql_vindex_spec::Manifest;
use serde::Serialize;

use crate::VindexError;
use crate::component::{Component, MANIFEST_FILE};
use crate::digest;
use crate::summary::directory_files;
use larql_core::progress::{Meter, Progress, Stage};

/// Result of comparing a vindex with its checksums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The vindex.
    pub path: PathBuf,
    /// Every file that was looked at, in order of name.
    pub files: Vec<FileReport>,
}

/// Result for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name in the vindex.
    pub name: String,
    /// State of the file.
    pub state: FileState,
}

/// State of a file compared with its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FileState {
    /// The digest matches.
    Sound,
    /// It has another digest.
    Changed {
        /// The digest in the manifest.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// The manifest lists it, but it is not there.
    Missing,
    /// The manifest gives no digest of it, as for labels, which may change, and in old vindexes.
    Unchecked,
}

impl VerifyReport {
    /// True if no file is changed or missing.
    pub fn is_sound(&self) -> bool {
        self.damaged().next().is_none()
    }

    /// The files that are changed or missing.
    pub fn damaged(&self) -> impl Iterator<Item = &FileReport> {
        self.files.iter().filter(|file| !matches!(file.state, FileState::Sound | FileState::Unchecked))
    }
}

/// Compares every file with its digest in the manifest. Any flipped bit is found, and the
/// file named.
///
/// # Errors
/// If there is no vindex, its manifest cannot be read, or a file cannot be; [`VindexError::Cancelled`] if
/// `progress` is cancelled. Damage is not an error; the report lists it.
pub fn verify(path: &Path, progress: &dyn Progress) -> Result<VerifyReport, VindexError> {
    let manifest_path = path.join(MANIFEST_FILE);
    let json = match std::fs::read(&manifest_path) {
        Ok(json) => json,
        Err(_) if !manifest_path.exists() => {
            return Err(VindexError::NotAVindex {
                path: path.into(),
                problem: format!("it has no {MANIFEST_FILE}"),
            });
        }
        Err(error) => return Err(VindexError::io(&manifest_path)(error)),
    };
    let seal = digest::seal_of(&json);
    let manifest = match Manifest::parse(&json) {
        Ok(manifest) => manifest,
        // What is no manifest any more, but was sealed once, is damage like any other.
        Err(source) => match seal {
            Some((expected, found)) => {
                return Ok(only_manifest(path, FileState::Changed { expected, found }));
            }
            None => return Err(VindexError::manifest(manifest_path)(source)),
        },
    };
    let sealed_by_us = manifest.spec.is_some();
    let manifest_state = match seal {
        Some((stated, found)) if stated == found => FileState::Sound,
        Some((expected, found)) => FileState::Changed { expected, found },
        None if sealed_by_us => {
            FileState::Changed { expected: "a digest of itself".into(), found: "none".into() }
        }
        None => FileState::Unchecked,
    };
    let mut files = vec![FileReport { name: MANIFEST_FILE.to_owned(), state: manifest_state }];
    files.extend(compare(path, &manifest, progress)?);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(VerifyReport { path: path.into(), files })
}

fn only_manifest(path: &Path, state: FileState) -> VerifyReport {
    VerifyReport { path: path.into(), files: vec![FileReport { name: MANIFEST_FILE.to_owned(), state }] }
}

/// All files but the manifest.
fn compare(
    path: &Path,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Vec<FileReport>, VindexError> {
    let present = directory_files(path)?;
    let no_checksums = Default::default();
    let checksums = manifest.checksums.as_ref().unwrap_or(&no_checksums);
    let to_read = present.iter().filter(|(name, _)| checksums.contains_key(name));
    let mut meter = Meter::new(progress, Stage::Verify, to_read.map(|(_, bytes)| bytes).sum());
    let mut reports = Vec::new();
    for (name, expected) in checksums {
        meter.set_item(name);
        let state = if present.iter().any(|(file, _)| file == name) {
            let found = digest::of_file(&path.join(name), &mut meter)?;
            match found == *expected {
                true => FileState::Sound,
                false => FileState::Changed { expected: expected.clone(), found },
            }
        } else {
            FileState::Missing
        };
        reports.push(FileReport { name: name.clone(), state });
    }
    let unchecked = present.into_iter().map(|(name, _)| name).filter(|name| {
        Component::of_file(name).is_some_and(|component| component != Component::Manifest)
            && !checksums.contains_key(name)
    });
    reports.extend(unchecked.map(|name| FileReport { name, state: FileState::Unchecked }));
    Ok(reports)
}
