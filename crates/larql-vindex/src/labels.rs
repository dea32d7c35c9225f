//! Labels of features, from probes, clustering, patterns and edits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::component::{
    FEATURE_CLUSTERS_FILE, FEATURE_LABELS_FILE, FEATURE_PATTERNS_FILE, RELATION_CLUSTERS_FILE,
};
use crate::extract::write_file;
use crate::files::Files;
use crate::{Damage, FeatureEdit, FeatureEdits, FeatureStore, Vindex, VindexError};

/// The label of a feature: the relation that it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// For instance `capital`.
    pub relation: String,
    /// Origin of the label.
    pub source: LabelSource,
}

/// Origin of a label, in increasing order of reliability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelSource {
    /// The feature's tokens match a list, for instance of months.
    Pattern,
    /// The feature is in a group whose pairs of tokens match known facts.
    Cluster,
    /// The model was asked in the wordings that ship with LARQL, without a probe; only edges have this source.
    #[serde(rename = "shipped wordings")]
    ShippedWordings,
    /// The feature was seen to carry facts of the relation.
    Probe,
    /// An edit inserted the edge.
    Inserted,
}

impl LabelSource {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            LabelSource::Pattern => "pattern",
            LabelSource::Cluster => "cluster",
            LabelSource::ShippedWordings => "shipped wordings",
            LabelSource::Probe => "probe",
            LabelSource::Inserted => "inserted",
        }
    }
}

/// The labels of a vindex.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    by_feature: HashMap<(usize, usize), Label>,
}

/// The fields of `relation_clusters.json` that are used.
#[derive(Deserialize)]
struct Clusters {
    labels: Vec<String>,
}

/// A line of `feature_clusters.jsonl`.
#[derive(Deserialize)]
struct Membership {
    l: usize,
    f: usize,
    c: usize,
}

impl Labels {
    /// Reads the label files of a vindex; all are optional.
    pub(crate) fn read(files: &mut Files) -> Result<Labels, VindexError> {
        let mut labels = Labels::default();
        let clusters = files.optional(RELATION_CLUSTERS_FILE)?;
        let memberships = files.optional(FEATURE_CLUSTERS_FILE)?;
        if let (Some(clusters), Some(memberships)) = (clusters, memberships) {
            labels
                .add_clusters(&clusters, &memberships)
                .map_err(VindexError::damaged(files.path(FEATURE_CLUSTERS_FILE)))?;
        }
        for (file, source) in
            [(FEATURE_PATTERNS_FILE, LabelSource::Pattern), (FEATURE_LABELS_FILE, LabelSource::Probe)]
        {
            if let Some(json) = files.optional(file)? {
                labels.add_file(&json, source).map_err(VindexError::damaged(files.path(file)))?;
            }
        }
        Ok(labels)
    }

    /// Adds the labels of a file like `feature_labels.json`: relations by feature, written `27:9515` or `L27_F9515`.
    ///
    /// # Errors
    /// If it is not a JSON object of such keys and strings.
    pub fn add_file(&mut self, json: &[u8], source: LabelSource) -> Result<(), Damage> {
        for (feature, relation) in parse(json)? {
            self.add(feature, Label { relation, source });
        }
        Ok(())
    }

    /// Adds labels from clustering: the names of groups, and the group of each feature.
    ///
    /// # Errors
    /// If either is not of its form, or a feature is in a group that does not exist.
    pub fn add_clusters(&mut self, clusters: &[u8], memberships: &[u8]) -> Result<(), Damage> {
        let Clusters { labels } = serde_json::from_slice(clusters)
            .map_err(|e| Damage::new(RELATION_CLUSTERS_FILE, "groups with `labels`", e))?;
        let lines = memberships.split(|byte| *byte == b'\n').enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
            let part = format!("line {}", number + 1);
            let Membership { l, f, c } =
                serde_json::from_slice(line).map_err(|e| Damage::new(&part, "the group of a feature", e))?;
            let relation = labels
                .get(c)
                .ok_or_else(|| Damage::new(part, format_args!("a group below {}", labels.len()), c))?;
            if !relation.is_empty() {
                self.add((l, f), Label { relation: relation.clone(), source: LabelSource::Cluster });
            }
        }
        Ok(())
    }

    /// The label of a feature.
    pub fn get(&self, layer: usize, feature: usize) -> Option<&Label> {
        self.by_feature.get(&(layer, feature))
    }

    /// All labelled features as layer, feature and label, in that order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, &Label)> {
        let mut labelled: Vec<_> = self.by_feature.iter().map(|((l, f), label)| (*l, *f, label)).collect();
        labelled.sort_by_key(|(layer, feature, _)| (*layer, *feature));
        labelled.into_iter()
    }

    /// Number of labelled features.
    pub fn len(&self) -> usize {
        self.by_feature.len()
    }

    /// True if no feature is labelled.
    pub fn is_empty(&self) -> bool {
        self.by_feature.is_empty()
    }

    /// Sets the label of a feature, or takes it away, whatever it was.
    pub(crate) fn set(&mut self, feature: (usize, usize), label: Option<Label>) {
        match label {
            Some(label) => self.by_feature.insert(feature, label),
            None => self.by_feature.remove(&feature),
        };
    }

    /// Keeps the label with the more reliable source.
    fn add(&mut self, feature: (usize, usize), label: Label) {
        let kept = self.by_feature.entry(feature).or_insert_with(|| label.clone());
        if label.source > kept.source {
            *kept = label;
        }
    }
}

/// Adds labels to the `feature_labels.json` of a vindex, from a file of that form. What was there stays; the number of new
/// ones is given.
///
/// # Errors
/// If `json` is not of that form or names a feature that the vindex does not have, or a file cannot be read or written.
pub fn merge_labels(vindex: &Vindex, path: &Path, json: &[u8]) -> Result<usize, VindexError> {
    let damaged = |what: &Path| VindexError::damaged(what.to_path_buf());
    let file = vindex.path().join(FEATURE_LABELS_FILE);
    let mut labels = match std::fs::read(&file) {
        Ok(json) => parse(&json).map_err(damaged(&file))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(VindexError::io(&file)(error)),
    };
    let before = labels.len();
    for ((layer, feature), relation) in parse(json).map_err(damaged(path))? {
        if layer >= vindex.layers() || feature >= vindex.features(layer) {
            let expected =
                format!("features of {} layers as {} has them", vindex.layers(), vindex.path().display());
            return Err(damaged(path)(Damage::new("key", expected, format_args!("`{layer}:{feature}`"))));
        }
        labels.entry((layer, feature)).or_insert(relation);
    }
    let keyed: BTreeMap<String, &str> = labels
        .iter()
        .map(|((layer, feature), relation)| (format!("{layer}:{feature}"), &**relation))
        .collect();
    let json = serde_json::to_vec_pretty(&keyed).expect("texts are JSON");
    write_file(vindex.path(), FEATURE_LABELS_FILE, &json)?;
    Ok(labels.len() - before)
}

/// Relations by layer and feature.
fn parse(json: &[u8]) -> Result<BTreeMap<(usize, usize), String>, Damage> {
    let relations: HashMap<String, String> =
        serde_json::from_slice(json).map_err(|e| Damage::new("content", "relations by feature", e))?;
    let keyed = relations.into_iter().map(|(key, relation)| {
        let feature = parse_key(&key).ok_or_else(|| {
            Damage::new("key", "`LAYER:FEATURE` or `LLAYER_FFEATURE`", format_args!("`{key}`"))
        })?;
        Ok((feature, relation))
    });
    keyed.collect()
}

/// The label files with what edits say of relations, by name; those that stay as they are, are not among them.
pub(crate) fn rewritten(
    files: &mut Files,
    edits: &FeatureEdits,
) -> Result<BTreeMap<String, Vec<u8>>, VindexError> {
    let deleted =
        |feature: (usize, usize)| matches!(edits.get(feature.0, feature.1), Some(FeatureEdit::Deleted));
    let mut rewritten = BTreeMap::new();
    let path = files.path(FEATURE_LABELS_FILE);
    let mut relations: BTreeMap<String, String> = match files.optional(FEATURE_LABELS_FILE)? {
        Some(json) => serde_json::from_slice(&json)
            .map_err(|e| VindexError::damaged(path)(Damage::new("content", "relations by feature", e)))?,
        None => BTreeMap::new(),
    };
    let before = relations.clone();
    relations.retain(|key, _| !parse_key(key).is_some_and(deleted));
    for (layer, feature, edit) in edits.iter() {
        let FeatureEdit::Changed(edited) = edit else { continue };
        if let Some(relation) = &edited.edge.relation {
            relations.retain(|key, _| parse_key(key) != Some((layer, feature)));
            relations.insert(format!("{layer}:{feature}"), relation.clone());
        }
    }
    if relations != before {
        let json = serde_json::to_vec_pretty(&relations).expect("texts are JSON");
        rewritten.insert(FEATURE_LABELS_FILE.to_owned(), json);
    }
    let path = files.path(FEATURE_PATTERNS_FILE);
    if let Some(json) = files.optional(FEATURE_PATTERNS_FILE)? {
        let mut kinds: BTreeMap<String, String> = serde_json::from_slice(&json).map_err(|e| {
            VindexError::damaged(path)(Damage::new("content", "kinds of words by feature", e))
        })?;
        let before = kinds.len();
        kinds.retain(|key, _| !parse_key(key).is_some_and(deleted));
        if kinds.len() != before {
            let json = serde_json::to_vec_pretty(&kinds).expect("texts are JSON");
            rewritten.insert(FEATURE_PATTERNS_FILE.to_owned(), json);
        }
    }
    if let Some(lines) = files.optional(FEATURE_CLUSTERS_FILE)? {
        let is_deleted =
            |line: &&[u8]| serde_json::from_slice(line).is_ok_and(|Membership { l, f, .. }| deleted((l, f)));
        let kept: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !is_deleted(line)).collect();
        let kept = kept.join(&b'\n');
        if kept != *lines {
            rewritten.insert(FEATURE_CLUSTERS_FILE.to_owned(), kept);
        }
    }
    Ok(rewritten)
}

/// Layer and feature of a key in either style.
fn parse_key(key: &str) -> Option<(usize, usize)> {
    let (layer, feature) = match key.strip_prefix('L') {
        Some(rest) => rest.split_once("_F")?,
        None => key.split_once(':')?,
    };
    Some((layer.parse().ok()?, feature.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_key_are_read_and_probes_beat_clusters() {
        let mut labels = Labels::default();
        labels.add_file(br#"{"27:9515": "capital", "L3_F4": "language"}"#, LabelSource::Probe).unwrap();
        labels.add_file(br#"{"3:5": "weekday", "3:7": "weekday"}"#, LabelSource::Pattern).unwrap();
        let clusters = br#"{"k": 3, "labels": ["month", "", "day"], "counts": [1, 2, 3], "top_tokens": []}"#;
        let memberships =
            b"{\"l\":3,\"f\":4,\"c\":0}\n{\"l\":3,\"f\":5,\"c\":2}\n\n{\"l\":3,\"f\":6,\"c\":1}\n";
        labels.add_clusters(clusters, memberships).unwrap();
        let all: Vec<_> = labels.iter().map(|(l, f, label)| (l, f, &*label.relation, label.source)).collect();
        assert_eq!(
            all,
            [
                (3, 4, "language", LabelSource::Probe),
                (3, 5, "day", LabelSource::Cluster),
                (3, 7, "weekday", LabelSource::Pattern),
                (27, 9515, "capital", LabelSource::Probe),
            ]
        );
    }

    #[test]
    fn deleted_features_lose_their_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FEATURE_PATTERNS_FILE);
        std::fs::write(&path, br#"{"1:2": "month", "1:3": "month"}"#).unwrap();
        let mut edits = FeatureEdits::default();
        edits.set(1, 2, FeatureEdit::Deleted);
        let rewritten = rewritten(&mut Files::new(folder.path()), &edits).unwrap();
        let kinds: BTreeMap<String, String> =
            serde_json::from_slice(&rewritten[FEATURE_PATTERNS_FILE]).unwrap();
        assert_eq!(kinds.into_keys().collect::<Vec<_>>(), ["1:3"]);
    }

    #[test]
    fn damage_is_named() {
        let mut labels = Labels::default();
        let error =
            labels.add_file(br#"{"27-9515": "capital"}"#, LabelSource::Probe).unwrap_err().to_string();
        assert_eq!(error, "key: expected `LAYER:FEATURE` or `LLAYER_FFEATURE`, found `27-9515`");
        let error = labels.add_clusters(br#"{"labels": ["a"]}"#, br#"{"l":0,"f":0,"c":1}"#).unwrap_err();
        assert_eq!(error.to_string(), "line 1: expected a group below 1, found 1");
    }
}
