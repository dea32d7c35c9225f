//! Matrix products straight from encoded weights.

use std::borrow::Cow;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::kernels::{
    ACTIVATIONS_AT_ONCE, CodeActivations, CodeTile, GroupProducts, Groups, Isa, PANEL_ROWS, QuantisedRow,
    ROWS_AT_ONCE, Tile,
};
use crate::{Format, MatRef, Pool, Precision};

/// Activations `[batch, width]` that several matrices may read. Their 8-bit forms are made at most once.
#[derive(Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    width: usize,
    fine: bool,
    /// Rows of each part, where kernels are chosen part by part; all rows are one part if `None`.
    parts: Option<Cow<'a, [usize]>>,
    /// In blocks of 32 and in blocks of 256, as sums of one, two or three planes.
    codes: [[OnceLock<Codes>; EXACT_PLANES]; 2],
}

/// Activation rows in 8 bits: of each row the planes whose sum it is.
type Codes = Vec<Vec<QuantisedRow>>;

/// Planes of 8 bits that hold as much of an activation as f32 does: what the last one leaves over is at most 6e-8 of the
/// largest value of its block.
const EXACT_PLANES: usize = 3;

impl<'a> Activations<'a> {
    /// `values` as rows of `width`.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    pub fn new(values: &'a [f32], width: usize) -> Self {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} values in rows of {width}",
            values.len()
        );
        Activations { values, width, fine: false, parts: None, codes: Default::default() }
    }

    /// The same activations, marked as spanning orders of magnitude: where [`Precision::Fast`] turns others into 8 bits,
    /// it takes 16 for these, as two numbers of 8.
    #[must_use]
    pub fn fine(self) -> Self {
        Activations { fine: true, ..self }
    }

    /// The same activations, as parts of `parts[i]` consecutive rows each. The kernel for a row is chosen by the size of
    /// its part, so that a part's products are the same bits whatever other parts stand beside it.
    ///
    /// # Panics
    /// If the parts do not add up to all rows.
    #[must_use]
    pub fn in_parts(self, parts: impl Into<Cow<'a, [usize]>>) -> Self {
        let parts = parts.into();
        assert_eq!(parts.iter().sum::<usize>(), self.batch(), "the parts are not all rows");
        Activations { parts: Some(parts), ..self }
    }

    /// Other values of the same rows, in the same parts.
    ///
    /// # Panics
    /// If `values` are not as many rows of `width`.
    #[must_use]
    pub fn with_values<'b>(&self, values: &'b [f32], width: usize) -> Activations<'b> {
        let activations = Activations::new(values, width);
        match &self.parts {
            None => activations,
            Some(parts) => activations.in_parts(parts.to_vec()),
        }
    }

    /// Values of some of these rows, ascending, in parts accordingly: `values` is `[rows, width]`.
    ///
    /// # Panics
    /// As [`Activations::with_values`], or if there is no such row.
    #[must_use]
    pub fn with_values_of_rows<'b>(
        &self,
        rows: impl IntoIterator<Item = usize>,
        values: &'b [f32],
        width: usize,
    ) -> Activations<'b> {
        let activations = Activations::new(values, width);
        let Some(parts) = &self.parts else { return activations };
        let mut chosen = vec![0; parts.len()];
        let (mut part, mut end) = (0, parts[0]);
        for row in rows {
            while row >= end {
                part += 1;
                end += parts[part];
            }
            chosen[part] += 1;
        }
        activations.in_parts(chosen)
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values, `[batch, width]`.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Euclidean length, for each row, of the part that 8 bits do not represent, where [`Precision::Fast`] uses
    /// 8 bits for weights in `format`. A product may be off by this times the length of the weight row.
    pub fn lost_in_8_bits(&self, pool: &Pool, format: Format) -> Option<Vec<f32>> {
        let in_8_bits = !self.fine && Isa::best().multiplies_codes(format);
        in_8_bits.then(|| {
            let rows = self.values.chunks_exact(self.width);
            let codes = self.quantised(pool, format.block_len(), 1);
            rows.zip(codes).map(|(values, planes)| planes[0].squared_distance(values).sqrt()).collect()
        })
    }

    /// The rows in blocks of `block_len` (32 or 256), as sums of `planes` of 8 bits.
    fn quantised(&self, pool: &Pool, block_len: usize, planes: usize) -> &Codes {
        self.codes[usize::from(block_len != 32)][planes - 1].get_or_init(|| {
            let mut rows = vec![Vec::new(); self.batch()];
            pool.for_each_piece(&mut rows, 1, |start, rows| {
                for (values, codes) in self.values[start * self.width..].chunks_exact(self.width).zip(rows) {
                    *codes = Isa::best().quantise(values, block_len, planes);
                }
            });
            rows
        })
    }

    /// The kernels that multiply these activations with weights in `format`, and the rows that each of them multiplies:
    /// all rows if `None`.
    fn kernels(&self, isa: Isa, format: Format, precision: Precision) -> Vec<(Kernel, Option<Vec<usize>>)> {
        let kernel = |batch| Kernel::choose(isa, format, self.width, batch, precision, self.fine);
        let any_batch =
            precision == Precision::Fast && isa.multiplies_codes(format) && isa.adds_up_codes_in_one_order();
        let parts = match &self.parts {
            Some(parts) if !any_batch => parts,
            _ => return vec![(kernel(self.batch()), None)],
        };
        let mut kernels: Vec<(Kernel, Vec<usize>)> = Vec::new();
        let mut first = 0;
        for rows in parts.iter().filter(|rows| **rows > 0) {
            let (kernel, part) = (kernel(*rows), first..first + rows);
            first = part.end;
            match kernels.iter_mut().find(|(other, _)| *other == kernel) {
                Some((_, rows)) => rows.extend(part),
                None => kernels.push((kernel, part.collect())),
            }
        }
        let one = kernels.len() == 1;
        kernels.into_iter().map(|(kernel, rows)| (kernel, (!one).then_some(rows))).collect()
    }
}

/// Number of rows of a [part](Activations::in_parts) from which on products of block formats with [`Precision::Fast`] use the
/// kernels for many rows; a power of two, at most 64.
pub fn rows_of_a_part() -> usize {
    Isa::best().code_panel_batch(1).unwrap_or(1).next_power_of_two()
}

/// A product of a matrix with activations, `out = input x weights^T`: for each activation row its product with every weight
/// row.
#[derive(Debug)]
pub struct Matmul<'a> {
    /// `[rows, width]`
    pub weights: MatRef<'a>,
    /// `[batch, width]`
    pub input: &'a Activations<'a>,
    /// `[batch, rows]`
    pub out: &'a mut [f32],
}

/// Computes one [`Matmul`].
///
/// # Panics
/// If the widths differ or `out` is not `[batch, rows]`.
pub fn matmul(
    pool: &Pool,
    weights: MatRef<'_>,
    input: &Activations<'_>,
    precision: Precision,
    out: &mut [f32],
) {
    matmul_each(pool, [Matmul { weights, input, out }], precision);
}

/// Computes several products as one job of the threads. Those that take longest are best given first.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_each<'a>(pool: &Pool, products: impl IntoIterator<Item = Matmul<'a>>, precision: Precision) {
    let isa = Isa::best();
    let prepared = products.into_iter().map(|Matmul { weights, input, out }| {
        assert_eq!(weights.cols(), input.width(), "weights and activations differ in width");
        assert_eq!(out.len(), input.batch() * weights.rows(), "output has the wrong size");
        let out = Arc::new(Columns::new(out, weights.rows()));
        let kernels = input.kernels(isa, weights.format(), precision).into_iter();
        let product = |(kernel, rows)| Product::new(pool, (isa, kernel), weights, input, rows, out.clone());
        (weights.rows(), kernels.map(product).collect())
    });
    let prepared: Vec<(usize, Vec<Product<'_>>)> = prepared.collect();
    let in_panels = prepared.iter().flat_map(|(_, parts)| parts).any(|part| part.kernel.reads_panels());
    let grain = if in_panels { PANEL_ROWS } else { ROWS_AT_ONCE };
    // Every matrix begins with a new piece.
    let items = prepared.iter().map(|(rows, _)| rows.next_multiple_of(grain)).sum();
    pool.for_each_range(items, grain, |range| {
        let mut first = 0;
        for (rows, products) in &prepared {
            let part = range.start.max(first) - first..(range.end.max(first) - first).min(*rows);
            if !part.is_empty() {
                products.iter().for_each(|product| product.multiply(part.clone()));
            }
            first += rows.next_multiple_of(grain);
        }
    });
}

/// One way to multiply. Each gives a row of activations the same bits, whatever other rows it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Integer products of activations in this number of planes of 8 bits, one weight row after another.
    Codes { planes: usize },
    /// The same with weights in panels.
    CodePanels { planes: usize },
    /// Float products with a few weight rows at a time, decoded first or in registers.
    Groups { decode: bool },
    /// Float products with decoded weights in panels.
    Panels,
    /// Float products with one decoded weight row after another.
    Decoded,
    /// Float products with weights that are decoded as they are multiplied.
    DecodedOnce,
}

impl Kernel {
    /// The fastest kernel for `batch` activation rows of `width`.
    fn choose(
        isa: Isa,
        format: Format,
        width: usize,
        batch: usize,
        precision: Precision,
        fine: bool,
    ) -> Kernel {
        let planes = match precision {
            Precision::Fast if fine => 2,
            Precision::Fast => 1,
            Precision::Exact => EXACT_PLANES,
        };
        let panel_batch = isa.code_panel_batch(planes);
        let in_panels = panel_batch.is_some_and(|least| batch >= least);
        let in_codes = isa.multiplies_codes(format)
            && match precision {
                Precision::Fast if in_panels => true,
                Precision::Fast if planes > 1 => batch < PLANES_BATCH,
                Precision::Fast => panel_batch.is_some() || batch < isa.panel_batch(),
                Precision::Exact => batch < isa.decoded_batch(),
            };
        if in_codes {
            if in_panels { Kernel::CodePanels { planes } } else { Kernel::Codes { planes } }
        } else if batch >= isa.panel_batch() {
            Kernel::Panels
        } else if batch == 1 {
            // No other row shares what is decoded.
            Kernel::DecodedOnce
        } else if isa.has_groups() {
            Kernel::Groups { decode: Groups::decode_first(isa, format, width, batch) }
        } else {
            Kernel::Decoded
        }
    }

    fn reads_panels(self) -> bool {
        matches!(self, Kernel::Panels | Kernel::CodePanels { .. })
    }
}

thread_local! {
    /// Working memory, which a thread keeps: to clear it takes a good part of a small product.
    static CODE_TILE: RefCell<CodeTile> = RefCell::default();
}

/// A matrix, the activation rows that one kernel multiplies it with, and where the products go.
struct Product<'a> {
    isa: Isa,
    kernel: Kernel,
    weights: MatRef<'a>,
    /// The rows of the output that the activation rows belong to, where those are not all.
    rows: Option<Vec<usize>>,
    /// `[rows, width]`
    values: Cow<'a, [f32]>,
    /// Planes of 8 bits of each row, where those are multiplied.
    codes: Vec<&'a [QuantisedRow]>,
    /// The same for panels.
    panel_codes: Option<CodeActivations<'a>>,
    /// The values in groups, where those are multiplied.
    groups: Option<Groups>,
    out: Arc<Columns<'a>>,
}

impl<'a> Product<'a> {
    fn new(
        pool: &Pool,
        (isa, kernel): (Isa, Kernel),
        weights: MatRef<'a>,
        input: &'a Activations<'a>,
        rows: Option<Vec<usize>>,
        out: Arc<Columns<'a>>,
    ) -> Self {
        let (format, width) = (weights.format(), input.width);
        let values = match &rows {
            None => Cow::Borrowed(input.values),
            Some(rows) => {
                rows.iter().flat_map(|row| &input.values[row * width..][..width]).copied().collect()
            }
        };
        let codes = |planes| -> Vec<&'a [QuantisedRow]> {
            let codes = input.quantised(pool, format.block_len(), planes);
            match &rows {
                None => codes.iter().map(Vec::as_slice).collect(),
                Some(rows) => rows.iter().map(|row| &*codes[*row]).collect(),
            }
        };
        let codes = match kernel {
            Kernel::Codes { planes } | Kernel::CodePanels { planes } => codes(planes),
            _ => Vec::new(),
        };
        let in_panels = matches!(kernel, Kernel::CodePanels { .. });
        let panel_codes = in_panels.then(|| CodeActivations::new(&codes, format));
        let groups = match kernel {
            Kernel::Groups { decode } => Some(Groups::new(isa, format, &values, width, decode)),
            _ => None,
        };
        Product { isa, kernel, weights, rows, values, codes, panel_codes, groups, out }
    }

    /// The products of the weight rows of `range`.
    fn multiply(&self, range: Range<usize>) {
        match (self.kernel, &self.groups) {
            (_, Some(groups)) => self.multiply_groups(groups, range),
            (Kernel::Panels | Kernel::CodePanels { .. }, _) => self.multiply_panels(range),
            (Kernel::Codes { .. }, _) => self.multiply_codes(range),
            _ => self.multiply_decoded(range),
        }
    }

    /// The products of activation row `b` with the weight rows of `range`, for writing.
    ///
    /// # Safety
    /// As [`Columns::part`]: no other thread may multiply any of these weight rows.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint by the caller's promise")]
    unsafe fn part(&self, b: usize, range: Range<usize>) -> &mut [f32] {
        let row = self.rows.as_ref().map_or(b, |rows| rows[b]);
        // SAFETY: the caller promises what `Columns::part` asks for.
        unsafe { self.out.part(row, range) }
    }

    fn multiply_panels(&self, range: Range<usize>) {
        let mut tile = Tile::default();
        for start in range.clone().step_by(PANEL_ROWS) {
            let rows = start..(start + PANEL_ROWS).min(range.end);
            let weights = self.weights.slice_rows(rows.clone());
            let take = |b: usize, products: &[f32]| {
                // SAFETY: no two ranges overlap.
                unsafe { self.part(b, rows.clone()) }.copy_from_slice(products);
            };
            match &self.panel_codes {
                Some(x) => CODE_TILE.with_borrow_mut(|tile| tile.multiply(self.isa, weights, x, take)),
                None => tile.multiply(self.isa, weights, &self.values, take),
            }
        }
    }

    fn multiply_codes(&self, range: Range<usize>) {
        let format = self.weights.format();
        let step = match self.codes.len() {
            1 => range.len(),
            _ => rows_at_once(self.weights),
        };
        for start in range.clone().step_by(step) {
            let rows = start..(start + step).min(range.end);
            let bytes = self.weights.slice_rows(rows.clone()).bytes();
            for (i, x) in self.codes.chunks(ACTIVATIONS_AT_ONCE).enumerate() {
                let mut out: [&mut [f32]; ACTIVATIONS_AT_ONCE] = Default::default();
                for (n, out) in out[..x.len()].iter_mut().enumerate() {
                    // SAFETY: no two ranges overlap.
                    *out = unsafe { self.part(ACTIVATIONS_AT_ONCE * i + n, rows.clone()) };
                }
                self.isa.dot_rows(format, bytes, x, &mut out[..x.len()]);
            }
        }
    }

    fn multiply_groups(&self, groups: &Groups, range: Range<usize>) {
        let mut products = GroupProducts::default();
        let decode = matches!(self.kernel, Kernel::Groups { decode: true });
        let step = if decode { ROWS_AT_ONCE } else { rows_at_once(self.weights) };
        for start in range.clone().step_by(step) {
            let rows = start..(start + step).min(range.end);
            products.multiply(self.isa, self.weights.slice_rows(rows.clone()), groups, |b, products| {
                // SAFETY: no two ranges overlap.
                unsafe { self.part(b, rows.clone()) }.copy_from_slice(products);
            });
        }
    }

    fn multiply_decoded(&self, range: Range<usize>) {
        let Product { isa, weights, values, .. } = self;
        let format = weights.format();
        let mut decoded = vec![0.0; weights.cols()];
        for row in range {
            if self.kernel == Kernel::Decoded {
                isa.decode(format, weights.row(row), &mut decoded);
            }
            for (b, x) in values.chunks_exact(weights.cols()).enumerate() {
                let product = match self.kernel {
                    Kernel::Decoded => isa.dot(&decoded, x),
                    _ => isa.dot_decoded(format, weights.row(row), x),
                };
                // SAFETY: no two ranges overlap.
                unsafe { self.part(b, row..row + 1)[0] = product };
            }
        }
    }
}

/// Activation rows from which on f32 is faster than several planes of 8 bits, where those are enough and are not multiplied
/// in panels.
const PLANES_BATCH: usize = 6;

/// Weight rows that are multiplied with all activation rows before the next: they stay in the first-level cache.
fn rows_at_once(weights: MatRef<'_>) -> usize {
    ((16 << 10) / weights.row_bytes()).next_multiple_of(ROWS_AT_ONCE).max(ROWS_AT_ONCE)
}

/// The output `[batch, rows]`, of which every thread writes other columns.
pub(crate) struct Columns<'a> {
    start: *mut f32,
    len: usize,
    rows: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only used through `part`, whose callers promise that no two threads use one column.
unsafe impl Sync for Columns<'_> {}

// SAFETY: as above; whichever thread holds it, the slice stays borrowed.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    pub(crate) fn new(out: &'a mut [f32], rows: usize) -> Self {
        Columns { start: out.as_mut_ptr(), len: out.len(), rows, borrow: PhantomData }
    }

    /// The products of one activation row with the weight rows of `range`, for writing.
    ///
    /// # Safety
    /// The caller must be the only holder of each of them.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint by the caller's promise")]
    pub(crate) unsafe fn part(&self, batch_row: usize, range: Range<usize>) -> &mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.rows && (batch_row + 1) * self.rows <= self.len
        );
        // SAFETY: the part lies inside the borrowed slice, and is used by this caller alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(batch_row * self.rows + range.start), range.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;
    use crate::{Format, Matrix};

    /// Largest error of a product, as a fraction of the sum of its terms' magnitudes: rounding, and for
    /// activations in 8 bits half a step of the largest.
    fn budget(precision: Precision) -> f64 {
        match precision {
            Precision::Exact => 1e-6,
            Precision::Fast => 1e-2,
        }
    }

    /// A matrix in blocks of 4 bits.
    fn four_bit_weights(rows: usize, width: usize, seed: u32) -> Matrix {
        let mut bytes = Vec::new();
        Format::Q4_K.encode(&noise(rows * width, seed), &mut bytes).unwrap();
        Matrix::new(Format::Q4_K, rows, width, bytes.into()).unwrap()
    }

    #[test]
    fn products_in_one_job_are_those_of_each_alone() {
        let (width, rows) = (256, [7, 64, 33]);
        let matrices = rows.map(|rows| four_bit_weights(rows, width, rows as u32));
        for precision in [Precision::Fast, Precision::Exact] {
            // All of them read the same input, or each its own.
            for batches in [[1, 1, 1], [40, 40, 40], [1, 3, 40]] {
                let values = batches.map(|batch| noise(batch * width, batch as u32));
                let inputs = values.each_ref().map(|values| Activations::new(values, width));
                let input = |index: usize| &inputs[if batches[0] == batches[2] { 0 } else { index }];
                let room = || [0, 1, 2].map(|index| vec![f32::NAN; batches[index] * rows[index]]);
                let (mut alone, mut together) = (room(), room());
                for (index, out) in alone.iter_mut().enumerate() {
                    matmul(&Pool::new(1), matrices[index].view(), input(index), precision, out);
                }
                let products = together.iter_mut().enumerate().map(|(index, out)| Matmul {
                    weights: matrices[index].view(),
                    input: input(index),
                    out,
                });
                matmul_each(&Pool::new(3), products, precision);
                assert!(together == alone, "{precision:?}, batches of {batches:?}");
            }
        }
    }

    #[test]
    fn fine_activations_lose_next_to_nothing_in_fast_products() {
        let (rows, width) = (9, 512);
        let weights = four_bit_weights(rows, width, 3);
        // One value in each block is a hundred times the others.
        let mut x = noise(width, 4);
        x.iter_mut().step_by(32).for_each(|value| *value *= 100.0);
        let product = |input: Activations<'_>, precision| {
            let mut out = vec![0.0; rows];
            matmul(&Pool::new(1), weights.view(), &input, precision, &mut out);
            out
        };
        let exact = product(Activations::new(&x, width), Precision::Exact);
        let error = |input| {
            let found = product(input, Precision::Fast);
            found.iter().zip(&exact).map(|(found, exact)| (found - exact).abs()).fold(0.0, f32::max)
        };
        let (coarse, fine) = (error(Activations::new(&x, width)), error(Activations::new(&x, width).fine()));
        assert!(fine * 100.0 < coarse, "{fine} against {coarse}");
    }

    /// Weights of any bits in a format, with the highest bit of each byte unset so that no scale is large.
    fn any_weights(format: Format, rows: usize, width: usize) -> Matrix {
        let mut bytes: Vec<u8> = noise(rows * format.row_bytes(width).unwrap(), 1)
            .into_iter()
            .map(|value| (value.abs() * 64.0) as u8)
            .collect();
        if format == Format::MXFP4 {
            bytes.chunks_mut(17).for_each(|block| block[0] = 127);
        }
        if format == Format::AFFINE8 {
            let factors = [0.01f32.to_le_bytes(), (-0.3f32).to_le_bytes()].concat();
            bytes.chunks_mut(40).for_each(|block| block[..8].copy_from_slice(&factors));
        }
        Matrix::new(format, rows, width, bytes.into()).unwrap()
    }

    #[test]
    fn parts_give_the_same_bits_alone_and_beside_others() {
        let (rows, width) = (71, 512);
        let part_sizes = [1, 3, 1, 100, 8, 2, 40, 1, 18];
        let batch: usize = part_sizes.iter().sum();
        let x = noise(batch * width, 5);
        for format in Format::all() {
            let weights = any_weights(format, rows, width);
            for (precision, fine) in
                [(Precision::Exact, false), (Precision::Fast, false), (Precision::Fast, true)]
            {
                let product = |x: &[f32], parts: Option<&[usize]>| {
                    let mut input = Activations::new(x, width);
                    if let Some(parts) = parts {
                        input = input.in_parts(parts);
                    }
                    if fine {
                        input = input.fine();
                    }
                    let mut out = vec![f32::NAN; input.batch() * rows];
                    matmul(&Pool::new(2), weights.view(), &input, precision, &mut out);
                    out
                };
                let together = product(&x, Some(&part_sizes));
                let mut first = 0;
                for part in part_sizes {
                    let alone = product(&x[first * width..(first + part) * width], None);
                    let found = &together[first * rows..(first + part) * rows];
                    assert!(found == alone, "{format} {precision:?} fine {fine}: a part of {part} differs");
                    first += part;
                }
            }
        }
    }

    #[test]
    fn products_agree_with_the_definition_on_any_number_of_threads() {
        let (rows, width) = (71, 512);
        for format in Format::all() {
            let weights = any_weights(format, rows, width);
            let decoded = weights.view().to_f32();
            for batch in [1, 3, 9, 40] {
                for precision in [Precision::Exact, Precision::Fast] {
                    let x = noise(batch * width, 2);
                    let results = [1, 2, 5].map(|threads| {
                        let mut out = vec![f32::NAN; batch * rows];
                        let input = Activations::new(&x, width);
                        matmul(&Pool::new(threads), weights.view(), &input, precision, &mut out);
                        out
                    });
                    assert!(results[0] == results[1] && results[0] == results[2]);
                    for (b, x) in x.chunks_exact(width).enumerate() {
                        for (r, row) in decoded.chunks_exact(width).enumerate() {
                            let terms = || x.iter().zip(row).map(|(x, w)| f64::from(*x) * f64::from(*w));
                            let error = (terms().sum::<f64>() - f64::from(results[0][b * rows + r])).abs();
                            let magnitude: f64 = terms().map(f64::abs).sum();
                            assert!(
                                error <= budget(precision) * magnitude,
                                "{format} {precision:?} batch {batch} row {r}: {error} of {magnitude}"
                            );
                        }
                    }
                }
            }
        }
    }
}
