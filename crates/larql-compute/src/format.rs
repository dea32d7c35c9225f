//! The number formats that weights are stored in, and what each one's blocks look like.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ComputeError;

/// Encoding of a matrix's values in bytes.
///
/// A row is a whole number of blocks; a block holds [`Format::block_len`] values in
/// [`Format::block_bytes`] bytes, least significant byte first and without alignment. The float formats have
/// blocks of one value. Layouts of the quantised formats are those of ggml (`ggml-common.h`), which GGUF files
/// contain. Serialised, a format is its name.
///
/// ```
/// use larql_compute::Format;
///
/// let mut bytes = Vec::new();
/// Format::Q4_0.encode(&[-2.0; 32], &mut bytes)?;
/// assert_eq!(bytes.len(), Format::Q4_0.row_bytes(32)?);
///
/// let mut values = [0.0; 32];
/// Format::Q4_0.decode(&bytes, &mut values);
/// assert_eq!(values, [-2.0; 32]);
/// # Ok::<(), larql_compute::ComputeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[allow(non_camel_case_types, reason = "these are the names the field uses")]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 32 values: f16 scale, 4-bit codes minus 8.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 4-bit codes.
    Q4_1,
    /// 32 values: f16 scale, 5-bit codes minus 16.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 5-bit codes.
    Q5_1,
    /// 32 values: f16 scale, 8-bit codes.
    Q8_0,
    /// 256 values: 2-bit codes in 16 sub-blocks with 4-bit scales and minima.
    Q2_K,
    /// 256 values: 3-bit codes in 16 sub-blocks with 6-bit scales.
    Q3_K,
    /// 256 values: 4-bit codes in 8 sub-blocks with 6-bit scales and minima.
    Q4_K,
    /// 256 values: 5-bit codes in 8 sub-blocks with 6-bit scales and minima.
    Q5_K,
    /// 256 values: 6-bit codes in 16 sub-blocks with 8-bit scales.
    Q6_K,
    /// 256 values: 8-bit codes, f32 scale, 16 partial sums. For activations, never in files.
    Q8_K,
    /// 32 values: f16 scale, 4-bit indices into a fixed non-linear table.
    IQ4_NL,
    /// 256 values: as `IQ4_NL` with 8 sub-blocks that have 6-bit scales.
    IQ4_XS,
    /// 256 values: groups of 8 from a codebook of 256, with 7 bits of signs; 4-bit scales of 32 values.
    IQ2_XXS,
    /// 256 values: as `IQ2_XXS` with a codebook of 512 and scales of 16 values.
    IQ2_XS,
    /// 256 values: as `IQ2_XS` with a codebook of 1024 and a sign for each value.
    IQ2_S,
    /// 256 values: groups of 4 from a codebook of 256, with 7 bits of signs for 8; 4-bit scales of 32 values.
    IQ3_XXS,
    /// 256 values: as `IQ3_XXS` with a codebook of 512 and a sign for each value.
    IQ3_S,
    /// 256 values: groups of 8 from a codebook of 2048, shifted up or down; 3-bit scales of 32 values.
    IQ1_S,
    /// 256 values: as `IQ1_S` with scales of 16 values and shifts of 8.
    IQ1_M,
    /// 256 values: -1, 0 or 1 times a scale, five in a byte.
    TQ1_0,
    /// 256 values: 2-bit codes minus 1 times a scale.
    TQ2_0,
    /// 32 values: 8-bit power-of-two scale, 4-bit floats (OCP microscaling).
    MXFP4,
    /// 32 values: f32 scale, f32 minimum, 8-bit codes. What the groups of MLX checkpoints are unpacked to.
    AFFINE8,
}

/// Constants of a format: one row of the table below.
struct Facts {
    format: Format,
    name: &'static str,
    /// None of formats that GGUF files do not have.
    ggml_type: Option<u32>,
    block_len: usize,
    block_bytes: usize,
    can_encode: bool,
}

#[rustfmt::skip]
const FACTS: [Facts; 27] = { use Format::*; [
    Facts { format: F32,    name: "F32",    ggml_type: Some(0),  block_len: 1,   block_bytes: 4,   can_encode: true },
    Facts { format: F16,    name: "F16",    ggml_type: Some(1),  block_len: 1,   block_bytes: 2,   can_encode: true },
    Facts { format: BF16,   name: "BF16",   ggml_type: Some(30), block_len: 1,   block_bytes: 2,   can_encode: true },
    Facts { format: Q4_0,   name: "Q4_0",   ggml_type: Some(2),  block_len: 32,  block_bytes: 18,  can_encode: true },
    Facts { format: Q4_1,   name: "Q4_1",   ggml_type: Some(3),  block_len: 32,  block_bytes: 20,  can_encode: true },
    Facts { format: Q5_0,   name: "Q5_0",   ggml_type: Some(6),  block_len: 32,  block_bytes: 22,  can_encode: true },
    Facts { format: Q5_1,   name: "Q5_1",   ggml_type: Some(7),  block_len: 32,  block_bytes: 24,  can_encode: true },
    Facts { format: Q8_0,   name: "Q8_0",   ggml_type: Some(8),  block_len: 32,  block_bytes: 34,  can_encode: true },
    Facts { format: Q2_K,   name: "Q2_K",   ggml_type: Some(10), block_len: 256, block_bytes: 84,  can_encode: true },
    Facts { format: Q3_K,   name: "Q3_K",   ggml_type: Some(11), block_len: 256, block_bytes: 110, can_encode: true },
    Facts { format: Q4_K,   name: "Q4_K",   ggml_type: Some(12), block_len: 256, block_bytes: 144, can_encode: true },
    Facts { format: Q5_K,   name: "Q5_K",   ggml_type: Some(13), block_len: 256, block_bytes: 176, can_encode: true },
    Facts { format: Q6_K,   name: "Q6_K",   ggml_type: Some(14), block_len: 256, block_bytes: 210, can_encode: true },
    Facts { format: Q8_K,   name: "Q8_K",   ggml_type: Some(15), block_len: 256, block_bytes: 292, can_encode: true },
    Facts { format: IQ4_NL, name: "IQ4_NL", ggml_type: Some(20), block_len: 32,  block_bytes: 18,  can_encode: true },
    Facts { format: IQ4_XS, name: "IQ4_XS", ggml_type: Some(23), block_len: 256, block_bytes: 136, can_encode: true },
    Facts { format: IQ2_XXS, name: "IQ2_XXS", ggml_type: Some(16), block_len: 256, block_bytes: 66, can_encode: false },
    Facts { format: IQ2_XS, name: "IQ2_XS", ggml_type: Some(17), block_len: 256, block_bytes: 74,  can_encode: false },
    Facts { format: IQ2_S,  name: "IQ2_S",  ggml_type: Some(22), block_len: 256, block_bytes: 82,  can_encode: false },
    Facts { format: IQ3_XXS, name: "IQ3_XXS", ggml_type: Some(18), block_len: 256, block_bytes: 98, can_encode: false },
    Facts { format: IQ3_S,  name: "IQ3_S",  ggml_type: Some(21), block_len: 256, block_bytes: 110, can_encode: false },
    Facts { format: IQ1_S,  name: "IQ1_S",  ggml_type: Some(19), block_len: 256, block_bytes: 50,  can_encode: false },
    Facts { format: IQ1_M,  name: "IQ1_M",  ggml_type: Some(29), block_len: 256, block_bytes: 56,  can_encode: false },
    Facts { format: TQ1_0,  name: "TQ1_0",  ggml_type: Some(34), block_len: 256, block_bytes: 54,  can_encode: false },
    Facts { format: TQ2_0,  name: "TQ2_0",  ggml_type: Some(35), block_len: 256, block_bytes: 66,  can_encode: false },
    Facts { format: MXFP4,  name: "MXFP4",  ggml_type: Some(39), block_len: 32,  block_bytes: 17,  can_encode: true },
    Facts { format: AFFINE8, name: "AFFINE8", ggml_type: None,   block_len: 32,  block_bytes: 40,  can_encode: false },
] };

/// ggml types that exist in files but are not read, named so that the error can say which one it met.
const UNSUPPORTED_GGML_TYPES: [(u32, &str); 9] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl Format {
    /// Every format, floats first.
    pub fn all() -> impl Iterator<Item = Format> {
        FACTS.iter().map(|facts| facts.format)
    }

    fn facts(self) -> &'static Facts {
        let facts = &FACTS[self as usize];
        debug_assert_eq!(facts.format, self);
        facts
    }

    /// The name as ggml and safetensors spell it, for instance `Q4_K` or `BF16`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The format of that name, in any case.
    pub fn from_name(name: &str) -> Option<Format> {
        FACTS.iter().find(|facts| facts.name.eq_ignore_ascii_case(name)).map(|facts| facts.format)
    }

    /// The number that stands for this format in a GGUF file, if they have it.
    pub fn ggml_type(self) -> Option<u32> {
        self.facts().ggml_type
    }

    /// The format that a GGUF file means by `number`.
    ///
    /// # Errors
    /// [`ComputeError::UnsupportedGgmlType`] with the type's name where it is known.
    pub fn from_ggml_type(number: u32) -> Result<Format, ComputeError> {
        FACTS
            .iter()
            .find(|facts| facts.ggml_type == Some(number) && facts.format != Format::Q8_K)
            .map(|facts| facts.format)
            .ok_or_else(|| ComputeError::UnsupportedGgmlType {
                number,
                name: UNSUPPORTED_GGML_TYPES
                    .iter()
                    .find(|(n, _)| *n == number)
                    .map_or("unknown", |(_, name)| name),
            })
    }

    /// Values in a block.
    pub fn block_len(self) -> usize {
        self.facts().block_len
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// True if values are stored one by one, as floats.
    pub fn is_float(self) -> bool {
        self.block_len() == 1
    }

    /// True if [`Format::encode`] knows the format. All can be decoded.
    pub fn can_encode(self) -> bool {
        self.facts().can_encode
    }

    /// Bytes of a row of `cols` values.
    ///
    /// # Errors
    /// [`ComputeError::PartialBlock`] if `cols` is not a whole number of blocks, [`ComputeError::TooLarge`] if
    /// the bytes cannot be counted.
    pub fn row_bytes(self, cols: usize) -> Result<usize, ComputeError> {
        if !cols.is_multiple_of(self.block_len()) {
            return Err(ComputeError::PartialBlock { format: self, cols });
        }
        (cols / self.block_len())
            .checked_mul(self.block_bytes())
            .ok_or(ComputeError::TooLarge { rows: 1, cols })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Format> for &'static str {
    fn from(format: Format) -> Self {
        format.name()
    }
}

impl TryFrom<String> for Format {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Format::from_name(&name).ok_or_else(|| format!("`{name}` is not a number format"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_rows_stand_in_enum_order() {
        for format in Format::all() {
            assert_eq!(format.facts().format, format);
            assert_eq!(Format::from_name(&format.name().to_lowercase()), Some(format));
        }
    }

    #[test]
    fn ggml_types_round_trip_and_unsupported_ones_are_named() {
        for format in Format::all().filter(|f| *f != Format::Q8_K) {
            if let Some(number) = format.ggml_type() {
                assert_eq!(Format::from_ggml_type(number), Ok(format));
            }
        }
        let error = Format::from_ggml_type(40).unwrap_err().to_string();
        assert_eq!(
            error,
            "ggml type 40 (NVFP4) is not supported: take a file whose tensors are F32, F16, BF16, Q4_0, Q4_1, \
             Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, \
             IQ3_S, IQ1_S, IQ1_M, TQ1_0, TQ2_0, MXFP4"
        );
        assert_eq!(
            Format::from_ggml_type(15),
            Err(ComputeError::UnsupportedGgmlType { number: 15, name: "Q8_K" })
        );
        assert!(Format::from_ggml_type(1000).unwrap_err().to_string().contains("(unknown)"));
    }

    #[test]
    fn formats_are_serialised_by_name() {
        assert_eq!(serde_json::to_string(&Format::Q4_K).unwrap(), "\"Q4_K\"");
        assert_eq!(serde_json::from_str::<Format>("\"bf16\"").unwrap(), Format::BF16);
        let error = serde_json::from_str::<Format>("\"Q9\"").unwrap_err().to_string();
        assert!(error.contains("`Q9` is not a number format"), "{error}");
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Format::Q4_K.row_bytes(512), Ok(288));
        assert_eq!(
            Format::Q4_K.row_bytes(640).unwrap_err().to_string(),
            "rows of 640 values cannot be stored as Q4_K, whose blocks hold 256: choose a format with smaller blocks"
        );
        assert_eq!(
            Format::F32.row_bytes(usize::MAX),
            Err(ComputeError::TooLarge { rows: 1, cols: usize::MAX })
        );
    }
}
