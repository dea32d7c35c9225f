//! Writing the tensors of one file, a few rows at a time.

use larql_compute::{ComputeError, Format, MatRef, Matrix, Pool};
use larql_models::{Shape, WeightSource};
use serde::Serialize;

use super::plan::{PlannedFile, PlannedTensor};
use super::writer::FileWriter;
use crate::VindexError;
use crate::progress::Meter;

/// Values that are decoded at a time.
const TILE_VALUES: usize = 1 << 20;
/// Bytes that are copied at a time.
const COPY_BYTES: usize = 8 << 20;

/// How far what is stored lies from the source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// The tensor.
    pub tensor: String,
    /// How it is stored.
    pub format: Format,
    /// Cosine of stored and source values.
    pub cosine: f64,
    /// Largest difference of two corresponding values.
    pub max_difference: f64,
}

/// Writes all tensors of a file, after its header. Returns the drift of those whose values changed.
pub(crate) fn write_tensors(
    file: &PlannedFile,
    source: &dyn WeightSource,
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
        if matrix.format() == tensor.format {
            for bytes in matrix.bytes().chunks(COPY_BYTES) {
                writer.write(bytes)?;
                meter.advance(bytes.len() as u64)?;
            }
        } else {
            let drift = convert(matrix.view(), tensor, writer, pool, meter)?;
            drifts.extend(Some(drift).filter(|drift| drift.max_difference > 0.0));
        }
    }
    Ok(drifts)
}

fn convert(
    matrix: MatRef<'_>,
    tensor: &PlannedTensor,
    writer: &mut FileWriter,
    pool: &Pool,
    meter: &mut Meter<'_>,
) -> Result<Drift, VindexError> {
    let rows_at_once = (TILE_VALUES / matrix.cols().max(1)).max(1);
    let mut sums = Sums::default();
    for start in (0..matrix.rows()).step_by(rows_at_once) {
        let tile = matrix.slice_rows(start..(start + rows_at_once).min(matrix.rows()));
        let new_row = || Row { encoded: Ok(()), bytes: Vec::new(), sums: Sums::default() };
        let mut rows: Vec<Row> = std::iter::repeat_with(new_row).take(tile.rows()).collect();
        pool.for_each_piece(&mut rows, 1, |first, rows| {
            let (mut values, mut stored) = (vec![0.0; tile.cols()], vec![0.0; tile.cols()]);
            for (index, row) in rows.iter_mut().enumerate() {
                tile.decode_row(first + index, &mut values);
                row.encoded = tensor.format.encode(&values, &mut row.bytes);
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

/// One row on its way.
struct Row {
    encoded: Result<(), ComputeError>,
    bytes: Vec<u8>,
    sums: Sums,
}

/// What cosine and largest difference are made of.
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
        for (source, stored) in source.iter().zip(stored) {
            if source.is_finite() && !stored.is_finite() {
                self.lost = Some(*source);
            }
            let (source, stored) = (f64::from(*source), f64::from(*stored));
            self.products += source * stored;
            self.source_squares += source * source;
            self.stored_squares += stored * stored;
            self.max_difference = self.max_difference.max((source - stored).abs());
        }
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
