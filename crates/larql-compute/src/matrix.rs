//! A weight is bytes with a format: borrowed as [`MatRef`], shared as [`Matrix`].

use bytes::Bytes;

use crate::{ComputeError, Format};

/// A borrowed matrix, row-major `[rows, cols]`, in whatever encoding its bytes have.
///
/// The constructor checks that the bytes are exactly as many as the shape needs; everything behind it
/// relies on that. Bytes need no particular alignment.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> MatRef<'a> {
    /// A view of `bytes` as `rows` rows of `cols` values.
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or `bytes` is not exactly `rows` rows long.
    pub fn new(format: Format, rows: usize, cols: usize, bytes: &'a [u8]) -> Result<Self, ComputeError> {
        let row_bytes = format.row_bytes(cols)?;
        let expected = rows.checked_mul(row_bytes).ok_or(ComputeError::TooLarge { rows, cols })?;
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(ComputeError::WrongLength { format, rows, cols, expected, found });
        }
        Ok(MatRef { format, rows, cols, row_bytes, bytes })
    }

    /// Encoding of the values.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes a row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All bytes, row after row.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of one row.
    ///
    /// # Panics
    /// If `row` is not below [`MatRef::rows`].
    pub fn row(&self, row: usize) -> &'a [u8] {
        assert!(row < self.rows, "row {row} of a matrix with {} rows", self.rows);
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// The bytes of some columns of one row, which are whole blocks.
    pub(crate) fn row_part(&self, row: usize, columns: std::ops::Range<usize>) -> &'a [u8] {
        let (len, bytes) = (self.format.block_len(), self.format.block_bytes());
        &self.row(row)[columns.start / len * bytes..columns.end / len * bytes]
    }

    /// The rows of `range` as a matrix of their own.
    ///
    /// # Panics
    /// If `range` reaches past the last row.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> MatRef<'a> {
        MatRef {
            rows: range.len(),
            bytes: &self.bytes[range.start * self.row_bytes..range.end * self.row_bytes],
            ..*self
        }
    }

    /// Writes the values of one row to `out`, of length `cols`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not one row long.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.format.decode(self.row(row), out);
    }

    /// Writes the values of some columns of one row to `out`, of the same length.
    ///
    /// # Panics
    /// If the columns do not begin and end where blocks do, a position is out of range, or `out` is of another length.
    pub fn decode_part(&self, row: usize, columns: std::ops::Range<usize>, out: &mut [f32]) {
        let block = self.format.block_len();
        assert!(
            columns.start.is_multiple_of(block) && columns.end.is_multiple_of(block),
            "{columns:?} cut a block"
        );
        self.format.decode(self.row_part(row, columns), out);
    }

    /// Writes the values of one column to `out`, of length `rows`. Of each row only the block that the column is in is
    /// decoded.
    ///
    /// # Panics
    /// If `column` is out of range or `out` is not one column long.
    pub fn decode_column(&self, column: usize, out: &mut [f32]) {
        assert!(column < self.cols, "column {column} of a matrix with {} columns", self.cols);
        assert_eq!(out.len(), self.rows, "output has the wrong size");
        let start = column / self.format.block_len() * self.format.block_len();
        let mut block = vec![0.0; self.format.block_len()];
        for (row, out) in out.iter_mut().enumerate() {
            self.format.decode(self.row_part(row, start..start + block.len()), &mut block);
            *out = block[column - start];
        }
    }

    /// All values, row after row: `[rows, cols]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        self.format.decode(self.bytes, &mut out);
        out
    }
}

/// A matrix that shares ownership of its bytes, so that it may outlive the reader that made it.
///
/// Cloning is cheap: bytes of a mapped file stay in the file.
#[derive(Clone, Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Bytes,
}

impl Matrix {
    /// `bytes` as `rows` rows of `cols` values.
    ///
    /// # Errors
    /// As [`MatRef::new`].
    pub fn new(format: Format, rows: usize, cols: usize, bytes: Bytes) -> Result<Self, ComputeError> {
        MatRef::new(format, rows, cols, &bytes)?;
        Ok(Matrix { format, rows, cols, bytes })
    }

    /// A matrix of f32 values `[rows, cols]` held in memory.
    ///
    /// # Errors
    /// If `values` are not `rows * cols`.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Result<Self, ComputeError> {
        let mut bytes = Vec::with_capacity(values.len() * 4);
        for value in values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Matrix::new(Format::F32, rows, cols, Bytes::from(bytes))
    }

    /// The matrix as a borrowed view, for computing.
    pub fn view(&self) -> MatRef<'_> {
        MatRef {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            row_bytes: self.bytes.len().checked_div(self.rows).unwrap_or(0),
            bytes: &self.bytes,
        }
    }

    /// Encoding of the values.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The rows of `range`, sharing the same bytes.
    ///
    /// # Panics
    /// If `range` reaches past the last row.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> Matrix {
        let row_bytes = self.view().row_bytes();
        Matrix {
            rows: range.len(),
            bytes: self.bytes.slice(range.start * row_bytes..range.end * row_bytes),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_file_is_checked_when_it_is_opened() {
        let bytes = [0u8; 36];
        assert!(MatRef::new(Format::Q4_0, 2, 32, &bytes).is_ok());
        let error = MatRef::new(Format::Q4_0, 3, 32, &bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a 3 x 32 matrix in Q4_0 takes 54 bytes, but there are 36: the data are cut short or of another shape"
        );
        assert!(MatRef::new(Format::F32, usize::MAX, 2, &bytes).is_err());
    }

    #[test]
    fn columns_are_found_in_their_blocks() {
        let mut bytes = Vec::new();
        let values: Vec<f32> = (0..128).map(|i| (i * 37 % 61) as f32).collect();
        Format::Q8_0.encode(&values, &mut bytes).unwrap();
        let matrix = MatRef::new(Format::Q8_0, 2, 64, &bytes).unwrap();
        let decoded = matrix.to_f32();
        for column in [0, 31, 32, 63] {
            let mut out = [0.0; 2];
            matrix.decode_column(column, &mut out);
            assert_eq!(out, [decoded[column], decoded[64 + column]]);
            let block = column / 32 * 32;
            let mut part = [0.0; 32];
            matrix.decode_part(1, block..block + 32, &mut part);
            assert_eq!(part, decoded[64 + block..][..32]);
        }
    }

    #[test]
    fn rows_are_shared_not_copied() {
        let matrix = Matrix::from_f32(3, 2, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let rows = matrix.slice_rows(1..3);
        assert_eq!(rows.view().to_f32(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(rows.bytes().as_ptr(), matrix.bytes()[8..].as_ptr());
    }
}
