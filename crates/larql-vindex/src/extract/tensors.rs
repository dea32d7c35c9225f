//! Writing the tensors of one file, a few rows at a time.

use std::ops::Range;

use larql_compute::{ComputeError, Format, MatRef, Matrix, Pool, release_pages};
use larql_models::{ColumnImportance, ModelError, Shape, WeightSource};
use serde::{Deserialize, Serialize};

use super::plan::{PlannedFile, PlannedTensor};
use super::writer::FileWriter;
use crate::VindexError;
use larql_core::progress::Meter;

/// Values that are decoded at a time.
const TILE_VALUES: usize = 1 << 20;
/// Bytes that are copied at a time.
const COPY_BYTES: usize = 8 << 20;

/// Difference of a stored tensor from the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The tensor.
    pub tensor: String,
    /// Format in which it is stored.
    pub format: Format,
    /// Cosine of stored and source values.
    pub cosine: f64,
    /// Largest difference of two corresponding values.
    pub max_difference: f64,
}

/// Writes all tensors of a file, after its header. Returns the drift of those whose values changed. Of the source, memory
/// holds one tensor at most.
pub(crate) fn write_tensors(
    file: &PlannedFile,
    source: &dyn WeightSource,
    importance: Option<&ColumnImportance>,
    writer: &mut FileWriter,
    pool: &Pool,
    meter: &mut Meter<'_>,
) -> Result<Vec<Drift>, VindexError> {
    writer.write(&file.header)?;
    meter.advance(file.header.len() as u64)?;
    let mut drifts = Vec::new();
    for tensor in &file.tensors {
        let matrix = match tensor.shape {
            Shape::Matrix(..) => source.matrix(tensor.role)?,
            Shape::Vector(_) => {
                let values = source.vector(tensor.role)?;
                Matrix::from_f32(1, values.len(), &values).map_err(writer.failed(tensor))?
            }
        };
        let is_near = match tensor.shape {
            Shape::Matrix(..) => source.defined_rows(tensor.role, 0..0)?.is_some(),
            Shape::Vector(_) => false,
        };
        if matrix.format() == tensor.format && !is_near {
            for bytes in matrix.bytes().chunks(COPY_BYTES) {
                writer.write(bytes)?;
                release_pages(bytes);
                meter.advance(bytes.len() as u64)?;
            }
        } else {
            let defined = |rows| match is_near {
                true => source.defined_rows(tensor.role, rows),
                false => Ok(None),
            };
            let importance = importance.and_then(|importance| importance.of(tensor.role));
            let importance = importance.filter(|importance| importance.len() == matrix.cols());
            let source = Values { matrix: matrix.view(), defined: &defined, importance };
            let drift = convert(&source, tensor, writer, pool, meter)?;
            drifts.extend(Some(drift).filter(|drift| drift.max_difference > 0.0));
            release_pages(matrix.bytes());
        }
    }
    Ok(drifts)
}

/// Values of some rows as the source defines them, if the matrix is only near to them.
type Defined<'a> = dyn Fn(Range<usize>) -> Result<Option<Vec<f32>>, ModelError> + 'a;

/// The values of a matrix.
struct Values<'a> {
    matrix: MatRef<'a>,
    defined: &'a Defined<'a>,
    /// The importance of each column, where it is known.
    importance: Option<&'a [f32]>,
}

/// Writes a matrix in the format of `tensor`, and measures how far it is from the source.
fn convert(
    source: &Values<'_>,
    tensor: &PlannedTensor,
    writer: &mut FileWriter,
    pool: &Pool,
    meter: &mut Meter<'_>,
) -> Result<Drift, VindexError> {
    let Values { matrix, importance, .. } = *source;
    let rows_at_once = (TILE_VALUES / matrix.cols().max(1)).max(1);
    let mut sums = Sums::default();
    for start in (0..matrix.rows()).step_by(rows_at_once) {
        let range = start..(start + rows_at_once).min(matrix.rows());
        let tile = matrix.slice_rows(range.clone());
        let defined = (source.defined)(range)?;
        let new_row = || Row { encoded: Ok(()), bytes: Vec::new(), sums: Sums::default() };
        let mut rows: Vec<Row> = std::iter::repeat_with(new_row).take(tile.rows()).collect();
        pool.for_each_piece(&mut rows, 1, |first, rows| {
            let (mut values, mut stored) = (vec![0.0; tile.cols()], vec![0.0; tile.cols()]);
            for (index, row) in rows.iter_mut().enumerate() {
                match &defined {
                    Some(defined) => {
                        values.copy_from_slice(&defined[(first + index) * tile.cols()..][..tile.cols()]);
                    }
                    None => tile.decode_row(first + index, &mut values),
                }
                if tile.format() == tensor.format {
                    row.bytes.extend_from_slice(tile.row(first + index));
                } else {
                    row.encoded = match importance {
                        Some(importance) => {
                            tensor.format.encode_weighted(&values, importance, &mut row.bytes)
                        }
                        None => tensor.format.encode(&values, &mut row.bytes),
                    };
                }
                if row.encoded.is_ok() {
                    tensor.format.decode(&row.bytes, &mut stored);
                    row.sums.add(&values, &stored);
                }
            }
        });
        for row in rows {
            row.encoded.map_err(writer.failed(tensor))?;
            if let Some(value) = row.sums.lost {
                let (tensor, format) = (tensor.key.clone(), tensor.format);
                return Err(VindexError::OutOfRange { tensor, value, format });
            }
            sums.merge(&row.sums);
            writer.write(&row.bytes)?;
            meter.advance(row.bytes.len() as u64)?;
        }
    }
    Ok(Drift {
        tensor: tensor.key.clone(),
        format: tensor.format,
        cosine: sums.cosine(),
        max_difference: sums.max_difference,
    })
}

/// Buffers of one row.
struct Row {
    encoded: Result<(), ComputeError>,
    bytes: Vec<u8>,
    sums: Sums,
}

/// Number of partial sums, so that additions do not wait for one another.
const LANES: usize = 8;

/// Sums from which cosine and largest difference are computed.
#[derive(Default)]
struct Sums {
    products: f64,
    source_squares: f64,
    stored_squares: f64,
    max_difference: f64,
    /// A finite value that is stored as an infinite one.
    lost: Option<f32>,
}

impl Sums {
    fn add(&mut self, source: &[f32], stored: &[f32]) {
        if !stored.iter().fold(true, |all, value| all & value.is_finite()) {
            let mut pairs = source.iter().zip(stored);
            let lost = pairs.find(|(source, stored)| source.is_finite() && !stored.is_finite());
            self.lost = lost.map(|(source, _)| *source).or(self.lost);
        }
        let [mut products, mut source_squares, mut stored_squares, mut differences] = [[0.0; LANES]; 4];
        let mut add = |source: &[f32; LANES], stored: &[f32; LANES]| {
            for lane in 0..LANES {
                let (source, stored) = (f64::from(source[lane]), f64::from(stored[lane]));
                products[lane] += source * stored;
                source_squares[lane] += source * source;
                stored_squares[lane] += stored * stored;
                differences[lane] = (source - stored).abs().max(differences[lane]);
            }
        };
        let ((source, source_rest), (stored, stored_rest)) = (source.as_chunks(), stored.as_chunks());
        source.iter().zip(stored).for_each(|(source, stored)| add(source, stored));
        add(&filled_up(source_rest), &filled_up(stored_rest));
        self.products += products.iter().sum::<f64>();
        self.source_squares += source_squares.iter().sum::<f64>();
        self.stored_squares += stored_squares.iter().sum::<f64>();
        self.max_difference = differences.into_iter().fold(self.max_difference, f64::max);
    }

    fn merge(&mut self, other: &Sums) {
        self.products += other.products;
        self.source_squares += other.source_squares;
        self.stored_squares += other.stored_squares;
        self.max_difference = self.max_difference.max(other.max_difference);
    }

    fn cosine(&self) -> f64 {
        let norms = (self.source_squares * self.stored_squares).sqrt();
        // Nothing but zeros on both sides is the same.
        if norms == 0.0 && self.max_difference == 0.0 { 1.0 } else { self.products / norms }
    }
}

/// Zeros after the last few values add nothing.
fn filled_up(values: &[f32]) -> [f32; LANES] {
    let mut filled = [0.0; LANES];
    filled[..values.len()].copy_from_slice(values);
    filled
}
