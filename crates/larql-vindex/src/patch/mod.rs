//! Patches: edits as files, `.vlp`, that lie over a vindex and can be taken off again.
//!
//! A patch is a JSON object: what it was made for, and operations in order. [`PatchStack`] lays patches over a vindex.

mod base;
mod fields;
mod operation;
mod stack;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::extract::writer::{sync_directory, write_file};
use crate::{Damage, Vindex, VindexError};
use fields::Fields;

pub use operation::{FeatureOperation, Operation};
pub use stack::{AppliedPatch, Conflict, PatchStack};

/// The version of patch files.
const VERSION: usize = 1;

/// Edits of a vindex as a file. Fields that this version does not know survive reading and writing.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The model that it was made for.
    pub base_model: String,
    /// [`Vindex::base_checksum`] of the vindex that it was made for, if that is known.
    pub base_checksum: Option<String>,
    /// Digests of the files that held the weights that it edits, by name; none in old files.
    pub base_weights: BTreeMap<String, String>,
    /// Time of creation, in RFC 3339; empty in old files.
    pub created_at: String,
    /// By which version of the program.
    pub larql_version: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Author.
    pub author: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    operations: Vec<Recorded>,
    rest: Map<String, Value>,
}

/// An operation with the fields of it that say nothing to this version.
#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    operation: Operation,
    rest: Map<String, Value>,
}

impl Patch {
    /// An empty patch for a vindex.
    pub fn new(base: &Vindex) -> Patch {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).ok();
        Patch {
            base_model: base.manifest().model.clone(),
            base_checksum: base.base_checksum(),
            base_weights: base.weight_digests(),
            created_at: now.and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default(),
            larql_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            description: None,
            author: None,
            tags: Vec::new(),
            operations: Vec::new(),
            rest: Map::new(),
        }
    }

    /// Reads the text of a patch file.
    ///
    /// # Errors
    /// What is wrong with it: the operation, counted from 1, and the field.
    pub fn parse(json: &[u8]) -> Result<Patch, Damage> {
        let value = serde_json::from_slice(json).map_err(|error| Damage::new("content", "JSON", error))?;
        let mut fields = Fields::new("patch", value)?;
        let version = fields.count("version")?;
        let version = fields.required("version", version)?;
        if version != VERSION {
            return Err(fields.damage("version", VERSION, version));
        }
        let tag = |value: Value| match value {
            Value::String(tag) => Ok(tag),
            other => Err(Damage::new("patch: `tags`", "strings", other)),
        };
        let operations = fields.array("operations")?;
        let operations = fields.required("operations", operations)?.into_iter().enumerate();
        let operations = operations.map(|(index, value)| {
            let (operation, rest) = Operation::parse(index + 1, value)?;
            Ok(Recorded { operation, rest })
        });
        let operations = operations.collect::<Result<_, Damage>>()?;
        let base_model = fields.text("base_model")?;
        Ok(Patch {
            base_model: fields.required("base_model", base_model)?,
            base_checksum: fields.text("base_checksum")?,
            base_weights: fields.texts("base_weights")?,
            created_at: fields.text("created_at")?.unwrap_or_default(),
            larql_version: fields.text("larql_version")?,
            description: fields.text("description")?,
            author: fields.text("author")?,
            tags: fields.array("tags")?.unwrap_or_default().into_iter().map(tag).collect::<Result<_, _>>()?,
            operations,
            rest: fields.rest(),
        })
    }

    /// Reads a patch file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`Patch::parse`].
    pub fn read(path: &Path) -> Result<Patch, VindexError> {
        let json = std::fs::read(path).map_err(VindexError::io(path))?;
        Patch::parse(&json).map_err(VindexError::damaged(path))
    }

    /// The text of the patch file.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let operations: Vec<Value> =
            self.operations.iter().map(|recorded| recorded.operation.to_json(&recorded.rest)).collect();
        let fields: [(&str, Value); 10] = [
            ("version", VERSION.into()),
            ("base_model", (&*self.base_model).into()),
            ("base_checksum", self.base_checksum.clone().into()),
            (
                "base_weights",
                self.base_weights.iter().map(|(name, digest)| (name.clone(), &**digest)).collect(),
            ),
            ("created_at", (&*self.created_at).into()),
            ("larql_version", self.larql_version.clone().into()),
            ("description", self.description.clone().into()),
            ("author", self.author.clone().into()),
            ("tags", self.tags.clone().into()),
            ("operations", operations.into()),
        ];
        object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        if self.base_weights.is_empty() {
            object.shift_remove("base_weights");
        }
        object.extend(self.rest.iter().map(|(name, value)| (name.clone(), value.clone())));
        // The alternate form is the one with line breaks.
        format!("{:#}\n", Value::Object(object))
    }

    /// Writes the patch file. At every moment there is the old file or the new one, whole.
    ///
    /// # Errors
    /// If it cannot be written; an old file is as it was then.
    pub fn save(&self, path: &Path) -> Result<(), VindexError> {
        let invalid = || VindexError::io(path)(std::io::ErrorKind::InvalidFilename.into());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        write_file(folder, name, self.to_json().as_bytes())?;
        sync_directory(folder)
    }

    /// The operations, in order.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &Operation> {
        self.operations.iter().map(|recorded| &recorded.operation)
    }

    /// Drops all but the first `operations`.
    pub(crate) fn truncate(&mut self, operations: usize) {
        self.operations.truncate(operations);
    }

    /// Appends operations.
    pub fn extend(&mut self, operations: impl IntoIterator<Item = Operation>) {
        let recorded = operations.into_iter().map(|operation| Recorded { operation, rest: Map::new() });
        self.operations.extend(recorded);
    }
}
