use crate::Format;

/// Errors in the shape, size or format of numbers handed to this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The bytes are not as many as the shape needs.
    #[error(
        "a {rows} x {cols} matrix in {format} takes {expected} bytes, but there are {found}: the data are cut \
         short or of another shape"
    )]
    WrongLength {
        /// Encoding of the matrix.
        format: Format,
        /// Rows asked for.
        rows: usize,
        /// Values a row.
        cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A row would end inside a block.
    #[error(
        "rows of {cols} values cannot be stored as {format}, whose blocks hold {}: choose a format with smaller \
         blocks",
        format.block_len()
    )]
    PartialBlock {
        /// Encoding asked for.
        format: Format,
        /// Values a row.
        cols: usize,
    },
    /// The size does not fit in memory's address range.
    #[error("a {rows} x {cols} matrix is larger than memory can address")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Values a row.
        cols: usize,
    },
    /// A GGUF file uses a type that is not read.
    #[error("ggml type {number} ({name}) is not supported: take a file whose tensors are {}", names(|_| true))]
    UnsupportedGgmlType {
        /// The number in the file.
        number: u32,
        /// Its name, or `unknown`.
        name: &'static str,
    },
    /// A value that the scales of a block format cannot reach.
    #[error(
        "value {index} is {value}: {format} holds finite values up to 65504; choose F32 or BF16 for this matrix"
    )]
    OutOfRange {
        /// Encoding asked for.
        format: Format,
        /// Place of the value among those to encode.
        index: usize,
        /// The value, as text because a NaN equals nothing.
        value: String,
    },
    /// A rotary embedding that cannot be computed.
    #[error(
        "`{field}` of the rotary embedding must be {expected}, but is {found}: check the model's configuration"
    )]
    InvalidRotary {
        /// Field of the specification.
        field: &'static str,
        /// The largest permitted value.
        expected: String,
        /// The value found.
        found: String,
    },
    /// There is a decoder for the format, but no encoder.
    #[error("values cannot be encoded as {format}: choose one of {}", names(Format::can_encode))]
    NoEncoder {
        /// The format asked for.
        format: Format,
    },
}

/// Names of the formats that files may have and that `filter` lets pass.
fn names(filter: impl Fn(Format) -> bool) -> String {
    let names: Vec<&str> = Format::all()
        .filter(|f| *f != Format::Q8_K && f.ggml_type().is_some() && filter(*f))
        .map(Format::name)
        .collect();
    names.join(", ")
}
