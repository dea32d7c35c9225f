//! Edge memory: a residual as a key for each edge, and the answer where another residual is near it.
//! `EdgeMemory` of `larql-knowledge` searches it.
//!
//! `knn_store.bin`: "LKNN", then u32 version, u32 width of keys, u32 layers; for each layer u32 layer, u32 entries, the
//! keys in f16, `[entries, width]`, each of length 1, and for each entry u32 token, u32 length and so many bytes of JSON,
//! which has the length that the key had, `norm`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use larql_compute::Format;
use larql_compute::vector::norm;
use larql_models::{ModelSpec, WeightSource};
use serde::{Deserialize, Serialize};

use larql_core::Triple;

use crate::component::KNN_STORE_FILE;
use crate::{Damage, Vindex, VindexError};

const MAGIC: &[u8] = b"LKNN";
const VERSION: u32 = 1;

/// An edge with the key that recalls it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnEntry {
    /// The layer whose residual the key is.
    pub layer: usize,
    /// The edge.
    pub triple: Triple,
    /// The answer's first token.
    pub target_id: u32,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Feed-forward input of the layer at the end of the question, `[hidden]`.
    pub key: Arc<[f32]>,
    /// The cosine, centred and whitened, from which it answers, if it was measured for this entry.
    pub threshold: Option<f32>,
}

/// Entries by layer.
#[derive(Clone, Debug, Default)]
pub struct KnnStore {
    layers: BTreeMap<usize, KnnLayer>,
}

/// The entries of one layer.
#[derive(Clone, Debug, Default)]
struct KnnLayer {
    entries: Vec<KnnEntry>,
    /// Index of the entry of an entity and a relation.
    places: HashMap<(String, String), usize>,
}

impl KnnLayer {
    /// Adds an entry, in place of one of the same entity and relation.
    fn insert(&mut self, entry: KnnEntry) {
        let last = self.entries.len();
        let place =
            *self.places.entry((entry.triple.entity.clone(), entry.triple.relation.clone())).or_insert(last);
        match self.entries.get_mut(place) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }
}

impl KnnEntry {
    /// Validates an entry for a model.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), Damage> {
        if self.layer >= spec.layers.len() {
            return Err(Damage::new(
                "layer",
                format_args!("a layer below {}", spec.layers.len()),
                self.layer,
            ));
        }
        if self.key.len() != spec.hidden_size {
            let (expected, found) = (spec.hidden_size, self.key.len());
            return Err(Damage::new(
                "key vector",
                format_args!("{expected} values"),
                format_args!("{found} values"),
            ));
        }
        if let Some(place) = self.key.iter().position(|value| !value.is_finite()) {
            let found = format!("{} at place {place}", self.key[place]);
            return Err(Damage::new("key vector", "finite numbers", found));
        }
        if self.target_id as usize >= spec.vocab_size {
            return Err(Damage::new(
                "target_id",
                format_args!("a token below {}", spec.vocab_size),
                self.target_id,
            ));
        }
        Ok(())
    }
}

impl KnnStore {
    /// Adds an entry, in place of one of the same layer, entity and relation.
    pub fn insert(&mut self, entry: KnnEntry) {
        self.layers.entry(entry.layer).or_default().insert(entry);
    }

    /// Removes all entries of an entity.
    pub fn remove(&mut self, entity: &str) {
        self.layers.retain(|_, layer| {
            if layer.entries.iter().any(|entry| entry.triple.entity == entity) {
                let entries = std::mem::take(layer).entries.into_iter();
                entries.filter(|entry| entry.triple.entity != entity).for_each(|entry| layer.insert(entry));
            }
            !layer.entries.is_empty()
        });
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.layers.values().map(|layer| layer.entries.len()).sum()
    }

    /// True if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers that have entries, ascending.
    pub fn layers(&self) -> impl Iterator<Item = usize> {
        self.layers.keys().copied()
    }

    /// The entries of a layer, in the order in which they came.
    pub fn entries(&self, layer: usize) -> &[KnnEntry] {
        self.layers.get(&layer).map_or(&[], |layer| &layer.entries)
    }

    /// All entries, layer by layer.
    pub fn iter(&self) -> impl Iterator<Item = &KnnEntry> {
        self.layers.values().flat_map(|layer| &layer.entries)
    }

    /// Reads a `knn_store.bin`.
    ///
    /// # Errors
    /// [`Damage`] with the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<KnnStore, Damage> {
        let mut reader = Reader { bytes, at: 0 };
        let magic = reader.take(MAGIC.len(), "magic")?;
        if magic != MAGIC {
            return Err(Damage::new("magic", "`LKNN`", format_args!("{magic:02x?}")));
        }
        let version = reader.word("version")?;
        if version != VERSION {
            return Err(Damage::new("version", VERSION, version));
        }
        let (width, layers) = (reader.word("width of keys")? as usize, reader.word("layers")?);
        let mut store = KnnStore::default();
        for _ in 0..layers {
            let (layer, count) = (reader.word("layer")? as usize, reader.word("entries")? as usize);
            let part = format!("keys of layer {layer}");
            let length = count.checked_mul(width).and_then(|values| values.checked_mul(2));
            let keys = reader.take(length.unwrap_or(usize::MAX), &part)?;
            // An entry takes eight bytes at least, whatever the width, so there are no more of them than bytes.
            if count > (bytes.len() - reader.at) / 8 {
                let room = (bytes.len() - reader.at) / 8;
                return Err(Damage::new(part, format_args!("at most {room} entries"), count));
            }
            let of_layer = store.layers.entry(layer).or_default();
            for index in 0..count {
                let part = || format!("entry {index} of layer {layer}");
                let (target_id, length) = (reader.word(&part())?, reader.word(&part())? as usize);
                let json = reader.take(length, &part())?;
                let fact: Fact = serde_json::from_slice(json)
                    .map_err(|error| Damage::new(part(), "JSON of an entry", error))?;
                let mut key = vec![0.0; width];
                Format::F16.decode(&keys[index * width * 2..][..width * 2], &mut key);
                let norm = fact.norm.unwrap_or(1.0);
                key.iter_mut().for_each(|value| *value *= norm);
                of_layer.insert(fact.into_entry(layer, target_id, key.into()));
            }
        }
        if reader.at != bytes.len() {
            return Err(Damage::new("length", format_args!("{} bytes", reader.at), bytes.len()));
        }
        store.layers.retain(|_, layer| !layer.entries.is_empty());
        Ok(store)
    }

    /// The bytes of a `knn_store.bin`, for keys of so many values.
    pub fn to_bytes(&self, width: usize) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let word = |bytes: &mut Vec<u8>, word: usize| bytes.extend((word as u32).to_le_bytes());
        [VERSION as usize, width, self.layers.len()].into_iter().for_each(|number| word(&mut bytes, number));
        for (layer, KnnLayer { entries, .. }) in &self.layers {
            word(&mut bytes, *layer);
            word(&mut bytes, entries.len());
            for entry in entries {
                let norm = stored_norm(&entry.key).unwrap_or(1.0);
                let key: Vec<f32> = entry.key.iter().map(|value| value / norm).collect();
                Format::F16.encode(&key, &mut bytes).expect("floats take any number of values");
            }
            for entry in entries {
                let json = serde_json::to_vec(&Fact::of(entry)).expect("texts and numbers are JSON");
                word(&mut bytes, entry.target_id as usize);
                word(&mut bytes, json.len());
                bytes.extend(json);
            }
        }
        bytes
    }
}

/// The length of a key, which is stored apart; none for one that is of length 1 but for rounding.
fn stored_norm(key: &[f32]) -> Option<f32> {
    Some(norm(key).max(f32::MIN_POSITIVE)).filter(|length| (length - 1.0).abs() > 1e-3)
}

/// An entry's text in the file.
#[derive(Deserialize, Serialize)]
struct Fact {
    #[serde(default = "certain")]
    confidence: f64,
    entity: String,
    relation: String,
    target_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    norm: Option<f32>,
}

fn certain() -> f64 {
    1.0
}

impl Fact {
    fn of(entry: &KnnEntry) -> Fact {
        Fact {
            confidence: entry.confidence,
            entity: entry.triple.entity.clone(),
            relation: entry.triple.relation.clone(),
            target_token: entry.triple.target.clone(),
            threshold: entry.threshold,
            norm: stored_norm(&entry.key),
        }
    }

    fn into_entry(self, layer: usize, target_id: u32, key: Arc<[f32]>) -> KnnEntry {
        let Fact { confidence, entity, relation, target_token: target, threshold, .. } = self;
        let triple = Triple { entity, relation, target };
        KnnEntry { layer, triple, target_id, confidence, key, threshold }
    }
}

/// Bytes that are read from front to back.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, part: &str) -> Result<&'a [u8], Damage> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or_else(|| {
            Damage::new(part, format_args!("{length} bytes"), format_args!("{} before the end", rest.len()))
        })?;
        self.at += length;
        Ok(taken)
    }

    fn word(&mut self, part: &str) -> Result<u32, Damage> {
        let bytes = self.take(4, part)?;
        Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }
}

impl Vindex {
    /// The edge memory that it was compiled with; empty in most vindexes.
    ///
    /// # Errors
    /// If their file is damaged, or does not fit the model.
    pub fn knn_store(&self) -> Result<KnnStore, VindexError> {
        let path = self.path().join(KNN_STORE_FILE);
        if !path.is_file() {
            return Ok(KnnStore::default());
        }
        let bytes = larql_compute::map_file(&path).map_err(VindexError::io(&path))?;
        let store = KnnStore::parse(&bytes).map_err(VindexError::damaged(&path))?;
        store.iter().try_for_each(|entry| entry.check(self.spec())).map_err(VindexError::damaged(&path))?;
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(entity: &str, key: &[f32]) -> KnnEntry {
        KnnEntry {
            layer: 1,
            triple: Triple::new(entity, "capital", "x"),
            target_id: 7,
            confidence: 0.9,
            key: key.into(),
            threshold: None,
        }
    }

    #[test]
    fn the_file_of_the_existing_implementation_is_read_and_written() {
        let bytes = std::fs::read(larql_testing::repository("fixtures/knn_store.bin")).unwrap();
        let store = KnnStore::parse(&bytes).unwrap();
        let [entry] = store.entries(1) else { panic!("{store:?}") };
        assert_eq!(
            (&*entry.triple.entity, &*entry.triple.relation, &*entry.triple.target),
            ("Japan", "currency", "yen")
        );
        assert_eq!((entry.target_id, entry.confidence, entry.key.len()), (309, 1.0, 256));
        assert_eq!(store.to_bytes(256), bytes);
    }

    #[test]
    fn lengths_of_keys_are_kept() {
        let mut store = KnnStore::default();
        store.insert(entry("Atlantis", &[3e5, -4e5]));
        let read = KnnStore::parse(&store.to_bytes(2)).unwrap();
        let key = &read.entries(1)[0].key;
        assert!((key[0] - 3e5).abs() < 200.0 && (key[1] + 4e5).abs() < 200.0, "{key:?}");
    }

    #[test]
    fn an_edge_is_there_once_and_goes_with_its_entity() {
        let mut store = KnnStore::default();
        store.insert(entry("Atlantis", &[1.0, 0.0]));
        store.insert(entry("Atlantis", &[0.0, 1.0]));
        store.insert(entry("Lemuria", &[1.0, 1.0]));
        assert_eq!((store.len(), &*store.entries(1)[0].key), (2, &[0.0, 1.0][..]));
        store.remove("Mu");
        store.remove("Atlantis");
        store.insert(entry("Lemuria", &[0.0, 2.0]));
        assert_eq!((store.len(), &*store.entries(1)[0].key), (1, &[0.0, 2.0][..]));
        store.remove("Lemuria");
        assert!(store.is_empty() && store.entries(1).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_entries_or_an_error(position: usize, byte: u8, length: usize) {
            let mut store = KnnStore::default();
            store.insert(entry("Atlantis", &[1.0, 2.0]));
            store.insert(entry("Mu", &[1.0, 70_000.0]));
            let mut bytes = store.to_bytes(2);
            let position = position % bytes.len();
            bytes[position] = byte;
            bytes.truncate(length % (bytes.len() + 1));
            let _ = KnnStore::parse(&bytes);
        }
    }
}
