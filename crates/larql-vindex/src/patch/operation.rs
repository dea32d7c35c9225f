//! One step of a patch, and its form in JSON.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fields::{Fields, encoded_vector, short_number};
use larql_core::Triple;

use crate::knn_store::KnnEntry;
use crate::{Damage, EditedFeature, StatedEdge, TokenScore};

/// One step of a patch.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A feature becomes the carrier of an edge: parts that are absent are the base's. One without any part is the base's
    /// feature again.
    Insert(FeatureOperation),
    /// Parts of a feature change; those that are absent stay as the patches so far have them.
    Update(FeatureOperation),
    /// A feature goes.
    Delete {
        /// Its layer.
        layer: usize,
        /// Its number there.
        feature: usize,
        /// Reason, in words.
        reason: Option<String>,
    },
    /// Adds an entry to the edge memory, in place of one of the same layer, entity and relation.
    InsertKnn(KnnEntry),
    /// Removes all entries of an entity from the edge memory.
    DeleteKnn {
        /// The entity.
        entity: String,
    },
}

/// New state of a feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureOperation {
    /// Its layer.
    pub layer: usize,
    /// Its number there.
    pub feature: usize,
    /// The parts that the operation states.
    pub edited: EditedFeature,
    /// The text of the token that it writes most; for readers, never read back into tokens.
    pub token_text: Option<String>,
}

impl Operation {
    /// The feature that it changes, if it is one of a feature.
    pub fn feature(&self) -> Option<(usize, usize)> {
        match self {
            Operation::Insert(of) | Operation::Update(of) => Some((of.layer, of.feature)),
            Operation::Delete { layer, feature, .. } => Some((*layer, *feature)),
            Operation::InsertKnn(_) | Operation::DeleteKnn { .. } => None,
        }
    }

    /// Confidence, 0 to 1, if it is stated.
    pub fn confidence(&self) -> Option<f64> {
        match self {
            Operation::Insert(of) | Operation::Update(of) => of.edited.edge.confidence,
            Operation::InsertKnn(entry) => Some(entry.confidence),
            Operation::Delete { .. } | Operation::DeleteKnn { .. } => None,
        }
    }

    /// The operation that an object describes, and the fields of it that say nothing to this version. `number` counts
    /// from 1.
    pub(super) fn parse(number: usize, value: Value) -> Result<(Operation, Map<String, Value>), Damage> {
        let mut fields = Fields::new(format!("operation {number}"), value)?;
        let op = fields.text("op")?;
        let op = fields.required("op", op)?;
        let operation = match &*op {
            "insert" => Operation::Insert(FeatureOperation::parse(&mut fields)?),
            "update" => Operation::Update(FeatureOperation::parse(&mut fields)?),
            "delete" => {
                let (layer, feature) = place(&mut fields)?;
                Operation::Delete { layer, feature, reason: fields.text("reason")? }
            }
            "insert_knn" => Operation::InsertKnn(parse_entry(&mut fields)?),
            "delete_knn" => {
                let entity = fields.text("entity")?;
                Operation::DeleteKnn { entity: fields.required("entity", entity)? }
            }
            other => {
                let known = "insert, update, delete, insert_knn or delete_knn";
                return Err(fields.damage("op", known, format_args!("`{other}`")));
            }
        };
        Ok((operation, fields.rest()))
    }

    /// The object that describes it.
    pub(super) fn to_json(&self, rest: &Map<String, Value>) -> Value {
        let mut object = Map::new();
        match self {
            Operation::Insert(of) => of.write("insert", &mut object),
            Operation::Update(of) => of.write("update", &mut object),
            Operation::Delete { layer, feature, reason } => {
                put(&mut object, "op", "delete");
                put(&mut object, "layer", *layer);
                put(&mut object, "feature", *feature);
                put(&mut object, "reason", reason.clone());
            }
            Operation::InsertKnn(entry) => {
                put(&mut object, "op", "insert_knn");
                put(&mut object, "layer", entry.layer);
                put(&mut object, "entity", &*entry.triple.entity);
                put(&mut object, "relation", &*entry.triple.relation);
                put(&mut object, "target", &*entry.triple.target);
                put(&mut object, "target_id", entry.target_id);
                put(&mut object, "confidence", entry.confidence);
                put(&mut object, "key_vector_b64", encoded_vector(&entry.key));
                if let Some(threshold) = entry.threshold {
                    put(&mut object, "threshold", short_number(threshold));
                }
            }
            Operation::DeleteKnn { entity } => {
                put(&mut object, "op", "delete_knn");
                put(&mut object, "entity", &**entity);
            }
        }
        object.extend(rest.iter().map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(object)
    }
}

fn put(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    object.insert(name.to_owned(), value.into());
}

fn place(fields: &mut Fields) -> Result<(usize, usize), Damage> {
    let (layer, feature) = (fields.count("layer")?, fields.count("feature")?);
    Ok((fields.required("layer", layer)?, fields.required("feature", feature)?))
}

fn parse_entry(fields: &mut Fields) -> Result<KnnEntry, Damage> {
    let layer = fields.count("layer")?;
    let mut text = |name: &str| {
        let value = fields.text(name)?;
        fields.required(name, value)
    };
    let (entity, relation, target) = (text("entity")?, text("relation")?, text("target")?);
    let (target_id, key) = (fields.token("target_id")?, fields.vector("key_vector_b64")?);
    Ok(KnnEntry {
        layer: fields.required("layer", layer)?,
        triple: Triple { entity, relation, target },
        target_id: fields.required("target_id", target_id)?,
        confidence: fields.number("confidence")?.unwrap_or(1.0),
        key: fields.required("key_vector_b64", key)?,
        threshold: fields.number("threshold")?.map(|threshold| threshold as f32),
    })
}

impl FeatureOperation {
    fn parse(fields: &mut Fields) -> Result<FeatureOperation, Damage> {
        let (layer, feature) = place(fields)?;
        let edge = StatedEdge {
            entity: fields.text("entity")?,
            relation: fields.text("relation")?,
            target: fields.text("target")?,
            confidence: fields.number("confidence")?,
        };
        let (gate, up) = (fields.vector("gate_vector_b64")?, fields.vector("up_vector_b64")?);
        let down = fields.vector("down_vector_b64")?;
        let mut token_text = None;
        let mut tokens = None;
        if let Some(mut meta) = fields.object("down_meta")? {
            token_text = meta.text("t")?;
            let first = token_score(&mut meta, "c")?;
            let more = meta.array("k")?.unwrap_or_default();
            let more = more
                .into_iter()
                .map(|value| token_score(&mut Fields::new(format!("{}: `k`", "down_meta"), value)?, "s"));
            let more: Vec<TokenScore> = more.collect::<Result<_, _>>()?;
            tokens = Some(if more.is_empty() { vec![first] } else { more });
        }
        let edited = EditedFeature { gate, up, down, tokens, edge };
        Ok(FeatureOperation { layer, feature, edited, token_text })
    }

    fn write(&self, op: &str, object: &mut Map<String, Value>) {
        let EditedFeature { gate, up, down, tokens, edge } = &self.edited;
        put(object, "op", op);
        put(object, "layer", self.layer);
        put(object, "feature", self.feature);
        let texts = [("relation", &edge.relation), ("entity", &edge.entity), ("target", &edge.target)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
            put(object, name, text);
        }
        if let Some(confidence) = edge.confidence {
            put(object, "confidence", confidence);
        }
        let vectors = [("gate_vector_b64", gate), ("up_vector_b64", up), ("down_vector_b64", down)];
        for (name, vector) in vectors {
            put(object, name, vector.as_ref().map(|vector: &Arc<[f32]>| encoded_vector(vector)));
        }
        let Some([first, others @ ..]) = tokens.as_deref() else { return };
        let text = self.token_text.as_deref().or(edge.target.as_deref()).unwrap_or_default();
        let mut meta = json!({ "t": text, "i": first.token, "c": short_number(first.score) });
        if !others.is_empty() {
            let all = tokens.iter().flatten();
            let pair = |score: &TokenScore| json!({ "i": score.token, "s": short_number(score.score) });
            meta["k"] = all.map(pair).collect();
        }
        put(object, "down_meta", meta);
    }
}

/// A token in field `i` with its score in the field of the given name.
fn token_score(fields: &mut Fields, score: &str) -> Result<TokenScore, Damage> {
    let (token, found) = (fields.token("i")?, fields.number(score)?);
    Ok(TokenScore { token: fields.required("i", token)?, score: fields.required(score, found)? as f32 })
}
