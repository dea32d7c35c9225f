//! `layers/layer_NN.weights`: the feed-forward matrices of one layer, expert by expert, all in one format.
//!
//! | Bytes | Content |
//! |---|---|
//! | 4 | magic `LYRW`, as the number `0x4C595257` |
//! | 4 | version 1 |
//! | 4 | format, a number of its own |
//! | 4 | entries: experts, or 1 |
//! | 4 | features of each |
//! | 4 | hidden size |
//! | 32 an entry | first byte and length of gate and up rows together, and of the down matrix, as u64 from the file's start |
//! | | the matrices: gate `[features, hidden]`, up `[features, hidden]`; down `[hidden, features]` |
//!
//! Every number is little-endian. Matrices of several formats, or of a format without a number here, go into
//! a safetensors file.

use bytes::Bytes;
use larql_compute::{Format, Matrix};

use crate::Damage;

const MAGIC: u32 = 0x4C59_5257;
const VERSION: u32 = 1;
const HEADER: usize = 24;
const ENTRY: usize = 32;

/// Formats and the numbers that stand for them.
const FORMATS: [(u32, Format); 7] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::BF16),
    (3, Format::Q4_0),
    (4, Format::Q4_K),
    (5, Format::Q6_K),
    (6, Format::Q8_0),
];

/// The matrices of one expert, or of a layer without experts.
#[derive(Debug)]
pub(crate) struct LayerEntry {
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// The header: the bytes before the matrices. `matrix_bytes` is the length of one matrix.
pub(crate) fn header(
    format: Format,
    [entries, features, hidden]: [usize; 3],
    matrix_bytes: u64,
) -> Option<Vec<u8>> {
    let (number, _) = FORMATS.iter().find(|(_, known)| *known == format)?;
    let mut bytes = Vec::with_capacity(HEADER + entries * ENTRY);
    let sizes = [entries, features, hidden].map(u32::try_from);
    for field in [MAGIC, VERSION, *number] {
        bytes.extend(field.to_le_bytes());
    }
    for size in sizes {
        bytes.extend(size.ok()?.to_le_bytes());
    }
    let first = (HEADER + entries * ENTRY) as u64;
    for entry in 0..entries as u64 {
        let start = first + entry * 3 * matrix_bytes;
        for field in [start, 2 * matrix_bytes, start + 2 * matrix_bytes, matrix_bytes] {
            bytes.extend(field.to_le_bytes());
        }
    }
    Some(bytes)
}

/// Reads a file, which must have these numbers of entries and features and this hidden size.
pub(crate) fn parse(
    bytes: &Bytes,
    [entries, features, hidden]: [usize; 3],
) -> Result<Vec<LayerEntry>, Damage> {
    let u32_at = |at: usize| bytes.get(at..at + 4)?.first_chunk().map(|field| u32::from_le_bytes(*field));
    let u64_at = |at: usize| bytes.get(at..at + 8)?.first_chunk().map(|field| u64::from_le_bytes(*field));
    if bytes.len() < HEADER {
        return Err(Damage::new("the header", format_args!("{HEADER} bytes"), bytes.len()));
    }
    let field = |name: &'static str, index: usize, expected: usize| {
        let found = u32_at(index * 4).unwrap_or_default();
        if found as usize == expected { Ok(()) } else { Err(Damage::new(name, expected, found)) }
    };
    field("the magic number", 0, MAGIC as usize)?;
    field("the version", 1, VERSION as usize)?;
    field("the number of entries", 3, entries)?;
    field("the number of features", 4, features)?;
    field("the hidden size", 5, hidden)?;
    let number = u32_at(8).unwrap_or_default();
    let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == number) else {
        return Err(Damage::new("the format", "a number from 0 to 6", number));
    };
    let slice = |entry: usize, place: usize, part: &'static str| -> Result<Bytes, Damage> {
        let at = HEADER + entry * ENTRY + place * 16;
        let (offset, length) = (u64_at(at), u64_at(at + 8));
        let damage = || {
            Damage::new(
                part,
                "a range behind the header and inside the file",
                format_args!("{offset:?}, {length:?} bytes"),
            )
        };
        let start = usize::try_from(offset.ok_or_else(damage)?).map_err(|_| damage())?;
        let length = usize::try_from(length.ok_or_else(damage)?).map_err(|_| damage())?;
        let end = start.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(damage)?;
        if start < HEADER + entries * ENTRY {
            return Err(damage());
        }
        Ok(bytes.slice(start..end))
    };
    let matrix = |rows: usize, cols: usize, bytes: Bytes, part: &'static str| {
        Matrix::new(*format, rows, cols, bytes).map_err(|error| Damage::new(part, "whole rows", error))
    };
    (0..entries)
        .map(|entry| {
            let both =
                matrix(2 * features, hidden, slice(entry, 0, "gate and up rows")?, "gate and up rows")?;
            let down = matrix(hidden, features, slice(entry, 1, "the down matrix")?, "the down matrix")?;
            let (gate, up) = (both.slice_rows(0..features), both.slice_rows(features..2 * features));
            Ok(LayerEntry { gate, up, down })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = header(Format::F32, [2, 1, 2], 8).unwrap();
        bytes.extend((0..12).flat_map(|i| (i as f32).to_le_bytes()));
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let entries = parse(&file().into(), [2, 1, 2]).unwrap();
        let values = |matrix: &Matrix| (matrix.rows(), matrix.view().to_f32());
        assert_eq!(values(&entries[0].gate), (1, vec![0.0, 1.0]));
        assert_eq!(values(&entries[1].up), (1, vec![8.0, 9.0]));
        assert_eq!(values(&entries[1].down), (2, vec![10.0, 11.0]));
        assert!(header(Format::MXFP4, [1, 32, 32], 544).is_none());
    }

    #[test]
    fn damage_is_an_error_in_every_part_of_the_file() {
        for at in 0..HEADER + 2 * ENTRY {
            let mut bytes = file();
            bytes[at] ^= 0x80;
            assert!(parse(&bytes.into(), [2, 1, 2]).is_err(), "byte {at}");
        }
        for length in 0..file().len() {
            assert!(parse(&file()[..length].to_vec().into(), [2, 1, 2]).is_err(), "{length} bytes");
        }
    }
}
