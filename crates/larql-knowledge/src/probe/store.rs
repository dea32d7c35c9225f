//! Files of a probe in a vindex: `relation_templates.json`, `feature_labels.json` and, with the reasons, a line a
//! feature in `feature_evidence.jsonl`. Each is replaced whole by renaming; none is under the vindex's checksums.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use half::f16;
use larql_models::ModelSpec;
use serde::{Deserialize, Serialize};

use super::encoding::{numbers, of_bytes, of_halves, to_halves};
use super::{LabelledFeature, Probed};
use crate::ProbeFileError;
use crate::reading::{AskableRelations, QuestionSense, SubjectKinds};

/// File of the relations with their templates, and the belief in answers.
pub const RELATIONS_FILE: &str = "relation_templates.json";
/// File of relations by feature.
pub const LABELS_FILE: &str = "feature_labels.json";
/// File of the evidence for labels.
pub const EVIDENCE_FILE: &str = "feature_evidence.jsonl";

/// The file's content: the relations, and the vectors as base64 of little-endian floats.
#[derive(Serialize, Deserialize)]
struct RelationsFile {
    #[serde(flatten)]
    relations: AskableRelations,
    kind_layer: usize,
    kind_least: f32,
    kind_offsets: Vec<f32>,
    /// `[subjects, hidden]`, as signed bytes: how alike two vectors are needs no more.
    kind_subjects: String,
    /// Scale of the bytes of each subject, `[subjects]`, in half precision.
    kind_scales: String,
    /// `[subjects, relations]`, in half precision.
    kind_weights: String,
    /// `[relations, hidden]`, in half precision.
    sense_weights: String,
    sense_offsets: Vec<f32>,
}

impl AskableRelations {
    /// Reads the relations that a probe wrote into a folder, for the model of `spec`; none if it was never
    /// probed.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or was made of another model.
    pub fn read(folder: &Path, spec: &ModelSpec) -> Result<Option<AskableRelations>, ProbeFileError> {
        let path = folder.join(RELATIONS_FILE);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        AskableRelations::from_bytes(&path, &bytes, spec).map(Some)
    }

    /// Parses the content of such a file; `path` is its name in errors.
    ///
    /// # Errors
    /// If it is damaged, or was made of another model than that of `spec`.
    pub fn from_bytes(
        path: &Path,
        bytes: &[u8],
        spec: &ModelSpec,
    ) -> Result<AskableRelations, ProbeFileError> {
        let damaged = |part, expected: String, found: String| ProbeFileError::Damaged {
            path: path.into(),
            part,
            expected,
            found,
        };
        let file: RelationsFile = serde_json::from_slice(bytes)
            .map_err(|error| damaged("content", "askable relations".into(), error.to_string()))?;
        let mut relations = file.relations;
        let count = relations.relations.len();
        let rows = |part, values: Option<Vec<f32>>, width: usize| match values {
            Some(values) if width > 0 && values.len().is_multiple_of(width) => Ok(values),
            Some(values) => {
                Err(damaged(part, format!("rows of {width} values"), format!("{} values", values.len())))
            }
            None => Err(damaged(part, "base64 of finite numbers".into(), "something else".into())),
        };
        let mut known = rows(
            "kind_subjects",
            numbers(&file.kind_subjects, |[byte]| f32::from(byte as i8)),
            spec.hidden_size,
        )?;
        let weights = rows("kind_weights", to_halves(&file.kind_weights), count)?;
        let scales = rows("kind_scales", to_halves(&file.kind_scales), 1)?;
        let subjects = known.len() / spec.hidden_size;
        for (part, found) in [("kind_weights", weights.len() / count), ("kind_scales", scales.len())] {
            if found != subjects {
                return Err(damaged(part, format!("{subjects} rows"), format!("{found} rows")));
            }
        }
        for (row, scale) in known.chunks_exact_mut(spec.hidden_size).zip(&scales) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        if file.kind_layer >= spec.layers.len() {
            return Err(damaged(
                "kind_layer",
                format!("a layer below {}", spec.layers.len()),
                file.kind_layer.to_string(),
            ));
        }
        let sense_weights = rows("sense_weights", to_halves(&file.sense_weights), spec.hidden_size)?;
        for (part, found) in [
            ("kind_offsets", file.kind_offsets.len()),
            ("sense_weights", sense_weights.len() / spec.hidden_size),
            ("sense_offsets", file.sense_offsets.len()),
        ] {
            if found != count {
                return Err(damaged(part, format!("{count}, one for each relation"), found.to_string()));
            }
        }
        if relations.version != 2 {
            return Err(damaged("version", "2".into(), relations.version.to_string()));
        }
        relations.sense = QuestionSense { weights: sense_weights, offsets: file.sense_offsets };
        relations.kinds = SubjectKinds {
            layer: file.kind_layer,
            least: file.kind_least,
            relations: count,
            known,
            weights,
            offsets: file.kind_offsets,
        };
        Ok(relations)
    }

    /// Content of a file of them.
    ///
    /// # Errors
    /// If they cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProbeFileError> {
        let kinds = &self.kinds;
        let (mut scales, mut bytes) = (Vec::new(), Vec::new());
        for row in kinds.known_rows() {
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = f16::from_f32((largest / 127.0).max(f16::MIN_POSITIVE.to_f32())).to_f32();
            scales.push(scale);
            bytes.extend(row.iter().map(|value| (value / scale).round().clamp(-127.0, 127.0) as i8 as u8));
        }
        json(&RelationsFile {
            relations: self.clone(),
            kind_layer: kinds.layer,
            kind_least: kinds.least,
            kind_offsets: kinds.offsets.clone(),
            kind_subjects: of_bytes(bytes.into_iter()),
            kind_scales: of_halves(&scales),
            kind_weights: of_halves(&kinds.weights),
            sense_weights: of_halves(&self.sense.weights),
            sense_offsets: self.sense.offsets.clone(),
        })
    }
}

impl Probed {
    /// Leaves what was found in a folder, in place of what an earlier probe left there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ProbeFileError> {
        let labels: BTreeMap<String, &str> = self
            .labels
            .iter()
            .map(|label| (format!("{}:{}", label.layer, label.feature), &*label.relation))
            .collect();
        let mut evidence = Vec::new();
        for label in &self.labels {
            evidence.extend(json(label)?);
            evidence.push(b'\n');
        }
        self.plan.write(folder)?;
        replace(folder, EVIDENCE_FILE, &evidence)?;
        replace(folder, LABELS_FILE, &json(&labels)?)?;
        replace(folder, RELATIONS_FILE, &self.relations.to_bytes()?)
    }
}

impl LabelledFeature {
    /// The labels, with their reasons, that a probe left in a folder; none if it was never probed.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read_all(folder: &Path) -> Result<Vec<LabelledFeature>, ProbeFileError> {
        let path = folder.join(EVIDENCE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ProbeFileError::Io { path, source }),
        };
        let parse = |line: &str| {
            serde_json::from_str(line).map_err(|error| ProbeFileError::Damaged {
                path: path.clone(),
                part: "a line",
                expected: "a labelled feature".into(),
                found: error.to_string(),
            })
        };
        text.lines().map(parse).collect()
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ProbeFileError> {
    serde_json::to_vec(value)
        .map_err(|error| ProbeFileError::Io { path: RELATIONS_FILE.into(), source: error.into() })
}

/// Reads a file, if there is one.
pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, ProbeFileError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ProbeFileError::Io { path: path.into(), source }),
    }
}

/// Puts a file into a folder, in place of one of that name.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ProbeFileError> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.partial")));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|source| {
        // What went wrong says more than what could not be cleared away.
        let _ = std::fs::remove_file(&new);
        ProbeFileError::Io { path: path.clone(), source }
    })
}
