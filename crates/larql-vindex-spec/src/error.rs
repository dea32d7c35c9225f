use crate::CONTAINER_VERSION;

/// Errors in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of this form.
    #[error("not a valid manifest: {0}")]
    Json(String),
    /// Written by a version of the format that is not known.
    #[error("container version {found} is not supported: this reader knows 1 to {CONTAINER_VERSION}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// A field whose value cannot be right.
    #[error("`{field}` is {found}, but {expected}")]
    Field {
        /// Path of the field, for instance `layers[3].num_features`.
        field: String,
        /// Value found.
        found: String,
        /// Expected value, as the rest of the sentence.
        expected: String,
    },
}

impl ManifestError {
    pub(crate) fn field(
        field: impl Into<String>,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> ManifestError {
        ManifestError::Field { field: field.into(), found: found.to_string(), expected: expected.into() }
    }
}

impl From<serde_json::Error> for ManifestError {
    fn from(error: serde_json::Error) -> Self {
        ManifestError::Json(error.to_string())
    }
}
