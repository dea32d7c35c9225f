//! The inner loops, one file for each instruction set. `scalar` is the version to read; the others compute the
//! same and are compared with it.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention_tile;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_byte_panel;
#[cfg(target_arch = "x86_64")]
mod avx2_code_panel;
#[cfg(target_arch = "x86_64")]
mod avx2_group;
#[cfg(target_arch = "x86_64")]
mod avx2_rows;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_blocks;
#[cfg(target_arch = "x86_64")]
mod avx512_byte_panel;
#[cfg(target_arch = "x86_64")]
mod avx512_code_panel;
#[cfg(target_arch = "x86_64")]
mod avx512_rows;
#[cfg(target_arch = "x86_64")]
mod avx512_transpose;
mod byte_panel;
mod code_panel;
mod group;
mod key_panel;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_blocks;
#[cfg(target_arch = "aarch64")]
mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
mod neon_rows;
mod panel;
mod quantised;
mod rows;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_blocks;

pub(crate) use attention_tile::{AttentionTile, KEYS_SIDE_BY_SIDE, QUERIES, Query, RunningSoftmax, Scores};
pub(crate) use byte_panel::{
    COLUMNS as BYTE_COLUMNS, LANES as BYTE_LANES, Limit, Quad as ByteQuad, Rounded, RowFigures,
    VECTORS as BYTE_VECTORS,
};
pub(crate) use code_panel::{Activations as CodeActivations, CodeTile};
pub(crate) use group::{GroupProducts, Groups};
pub(crate) use key_panel::{KEY_GROUP, KeyGroup};
pub(crate) use panel::{ROWS as PANEL_ROWS, Tile};
pub(crate) use quantised::QuantisedRow;
pub(crate) use rows::{ACTIVATIONS as ACTIVATIONS_AT_ONCE, ROWS as ROWS_AT_ONCE};

use std::sync::LazyLock;

use crate::{Format, MatRef};

/// True if there is more than the plain version for a format: not for that of activations, which is never multiplied
/// with floats, and not for one that files seldom have.
fn has_kernels(format: Format) -> bool {
    !matches!(format, Format::Q8_K | Format::AFFINE8)
}

/// The instruction sets that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Whatever the compiler makes of plain Rust.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL, VBMI and VNNI (from Ice Lake and Zen 4 on).
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AArch64 with NEON, as all have.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AArch64 with NEON and its dot product extension (from Cortex-A75 and Apple A11 on).
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
}

impl Isa {
    /// The best one that this machine has, found out once.
    pub(crate) fn best() -> Isa {
        static BEST: LazyLock<Isa> = LazyLock::new(|| Isa::available().last().unwrap_or(Isa::Scalar));
        *BEST
    }

    /// All that this machine has, the best one last.
    pub(crate) fn available() -> impl Iterator<Item = Isa> {
        let mut isas = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vnni");
            isas.extend(avx2.then_some(Isa::Avx2));
            isas.extend(avx512.then_some(Isa::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        {
            isas.push(Isa::Neon);
            isas.extend(std::arch::is_aarch64_feature_detected!("dotprod").then_some(Isa::NeonDotprod));
        }
        isas.into_iter()
    }

    /// Sum of the products of `a` and `b`, which are equally long.
    pub(crate) fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        match self {
            Isa::Scalar => scalar::dot(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` hands out an instruction set only where the machine has it.
            Isa::Avx2 => unsafe { avx2::dot(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::dot(a, b) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above; all processors have NEON.
            Isa::Neon | Isa::NeonDotprod => unsafe { neon::dot(a, b) },
        }
    }

    /// Activation rows from which on it pays to unpack decoded weights into panels.
    pub(crate) fn panel_batch(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 96,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 64,
            _ => 6,
        }
    }

    /// Activation rows, of so many planes each, from which on codes are faster in panels than row by row, where it multiplies
    /// codes in panels.
    pub(crate) fn code_panel_batch(self, planes: usize) -> Option<usize> {
        match (self, planes) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, 1) => Some(8),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, 2) => Some(4),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, 1) => Some(10),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, 2) => Some(14),
            #[cfg(target_arch = "aarch64")]
            (Isa::NeonDotprod, 1) => Some(6),
            _ => None,
        }
    }

    /// True if products of codes are the same bits in panels and row by row.
    pub(crate) fn adds_up_codes_in_one_order(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => true,
            _ => false,
        }
    }

    /// Activation rows from which on exact products of block formats are faster with decoded weights than as sums of
    /// integer products of three planes of 8 bits.
    pub(crate) fn decoded_batch(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 3,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 2,
            _ => 0,
        }
    }

    /// True if it multiplies a few activation rows in groups, without panels.
    pub(crate) fn has_groups(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => true,
            _ => false,
        }
    }

    /// True if [`Isa::multiply_group`] takes weights of this format.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "others have no groups"))]
    fn unpacks_in_registers(self, format: Format) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has_kernels(format),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                use Format::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
                format.is_float() || matches!(format, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
            }
            _ => false,
        }
    }

    /// The lanes of the vectors that [`Isa::multiply_group`] multiplies, and the order of columns.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "others have no groups"))]
    fn group_layout(self, format: Format) -> (usize, group::Order) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if !format.is_float() => (8, group::Order::EveryFourth),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (8, group::Order::Natural),
            _ => (16, group::Order::Natural),
        }
    }

    /// Products of consecutive weight rows with the rows of a group: `out` is `[group.rows, weight rows]`.
    fn multiply_group(self, format: Format, weights: &[u8], group: &group::Group, out: &mut [f32]) {
        let rows = out.len() / group.rows;
        assert_eq!(out.len(), rows * group.rows);
        assert_eq!(format.row_bytes(group.width()).map(|bytes| bytes * rows), Ok(weights.len()));
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2_group::multiply_group(format, weights, group, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::multiply_group(format, weights, group, out) },
            other => unreachable!("{other:?} has no groups"),
        }
    }

    /// Lets up to [`QUERIES`] queries see a tile, and leaves in `scores` what each gives to each position:
    /// `e^(score - largest)`, where the query's `mixed` has the largest score.
    pub(crate) fn attend(self, tile: &AttentionTile<'_>, queries: &mut [Query<'_>], scores: &mut Scores) {
        match self {
            Isa::Scalar => scalar::attend(tile, queries, scores),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::attend(tile, queries, scores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::attend(tile, queries, scores) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above; all processors have NEON.
            Isa::Neon | Isa::NeonDotprod => unsafe { neon::attend(tile, queries, scores) },
        }
    }

    /// A row of activations as the sum of up to three planes of 8 bits, in blocks of `block_len` (32 or 256).
    pub(crate) fn quantise(self, values: &[f32], block_len: usize, planes: usize) -> Vec<QuantisedRow> {
        match self {
            Isa::Scalar => QuantisedRow::planes(values, block_len, planes),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDotprod => QuantisedRow::planes(values, block_len, planes),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; AVX-512 implies AVX2.
            Isa::Avx2 | Isa::Avx512 => unsafe { avx2::quantise(values, block_len, planes) },
        }
    }

    /// True if [`Isa::dot_rows`] takes weights of this format: all block formats that GGUF files contain.
    pub(crate) fn multiplies_codes(self, format: Format) -> bool {
        !format.is_float() && has_kernels(format)
    }

    /// `out[n][r] = rows[r] . x[n]` for consecutive rows in a block format and up to [`ACTIVATIONS_AT_ONCE`] activations. Each
    /// of these is the sum of one to three planes, which have blocks as long as the rows'; all have as many. What an
    /// activation gives is the same bits whatever others are beside it.
    pub(crate) fn dot_rows(self, format: Format, rows: &[u8], x: &[&[QuantisedRow]], out: &mut [&mut [f32]]) {
        assert!(x.len() == out.len() && (1..=ACTIVATIONS_AT_ONCE).contains(&x.len()));
        let width = x[0][0].codes.len();
        for (planes, out) in x.iter().zip(out.iter()) {
            assert_eq!(planes.len(), x[0].len());
            assert_eq!(format.row_bytes(width).map(|bytes| bytes * out.len()), Ok(rows.len()));
            for plane in *planes {
                assert_eq!(plane.codes.len(), width);
                assert_eq!(plane.factors.len() * format.block_len(), width);
            }
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                for (x, out) in x.chunks(avx2_rows::ACTIVATIONS).zip(out.chunks_mut(avx2_rows::ACTIVATIONS)) {
                    // SAFETY: as above.
                    unsafe { avx2_rows::dot_rows(format, rows, x, out) }
                }
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512_rows::dot_rows(format, rows, x, out) },
            _ => x.iter().zip(out).for_each(|(x, out)| self.dot_rows_of_one(format, rows, x, out)),
        }
    }

    /// See [`Isa::dot_rows`].
    fn dot_rows_of_one(self, format: Format, rows: &[u8], x: &[QuantisedRow], out: &mut [f32]) {
        match self {
            Isa::Scalar => scalar::dot_rows(format, rows, x, out),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => add_planes(x, out, |x, out| {
                // SAFETY: as above.
                unsafe { neon::dot_rows(format, rows, x, out) }
            }),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => add_planes(x, out, |x, out| {
                // SAFETY: as above.
                unsafe { neon_dotprod::dot_rows(format, rows, x, out) }
            }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unreachable!("they multiply several"),
        }
    }

    /// Writes the values of consecutive blocks, the same as [`Format::decode`].
    pub(crate) fn decode(self, format: Format, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(format.row_bytes(out.len()), Ok(blocks.len()));
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::decode(format, blocks, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::decode(format, blocks, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above; all processors have NEON.
            Isa::Neon | Isa::NeonDotprod => unsafe { neon::decode(format, blocks, out) },
            Isa::Scalar => format.decode(blocks, out),
        }
    }

    /// Product of a weight row with `x`.
    pub(crate) fn dot_decoded(self, format: Format, row: &[u8], x: &[f32]) -> f32 {
        assert_eq!(format.row_bytes(x.len()), Ok(row.len()));
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 if format.is_float() => unsafe { avx512::dot_floats(format, row, x) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; AVX-512 implies AVX2.
            Isa::Avx2 | Isa::Avx512 => unsafe { avx2::dot_decoded(format, row, x) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above; all processors have NEON.
            Isa::Neon | Isa::NeonDotprod => unsafe { neon::dot_decoded(format, row, x) },
            Isa::Scalar => scalar::dot_decoded(format, row, x),
        }
    }

    /// Adds the products of the panel's rows with those of `x`, which have a value for each of its columns.
    fn multiply_panel(self, panel: &[[f32; panel::ROWS]], x: [&[f32]; panel::BATCH], sums: &mut panel::Sums) {
        match self {
            Isa::Scalar => scalar::multiply_panel(panel, x, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::multiply_panel(panel, x, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512::multiply_panel(panel, x, sums) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above; all processors have NEON.
            Isa::Neon | Isa::NeonDotprod => unsafe { neon::multiply_panel(panel, x, sums) },
        }
    }

    /// Makes some columns of up to [`panel::ROWS`] weight rows the panel; false if rows are to be [unpacked](Isa::unpack) one
    /// by one.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "others unpack row by row"))]
    fn fill_code_panel(
        self,
        weights: MatRef<'_>,
        columns: std::ops::Range<usize>,
        panel: &mut code_panel::Panel,
    ) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                // SAFETY: as above.
                unsafe { avx512_code_panel::fill(weights, columns, panel) };
                true
            }
            _ => false,
        }
    }

    /// Writes consecutive blocks as codes, scales and minima.
    fn unpack(self, format: Format, blocks: &[u8], out: &mut code_panel::Unpacked) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2_code_panel::unpack(format, blocks, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::NeonDotprod => unsafe { neon_dotprod::unpack(format, blocks, out) },
            other => unreachable!("{other:?} has no code panels"),
        }
    }

    /// Adds the products of the panel's rows, which are in `format`, with those of the first `count` of `x`.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "others multiply whole batches")
    )]
    fn multiply_code_panel(
        self,
        format: Format,
        panel: &code_panel::Panel,
        x: &[code_panel::Activation<'_>; panel::BATCH],
        count: usize,
        sums: &mut panel::Sums,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2_code_panel::multiply_code_panel(format, panel, *x, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512_code_panel::multiply(format, panel, x, count, sums) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::NeonDotprod => unsafe { neon_dotprod::multiply_code_panel(format, panel, *x, sums) },
            other => unreachable!("{other:?} has no code panels"),
        }
    }
}

/// `out` as the sum of what `dot` gives for each of the planes.
#[cfg(target_arch = "aarch64")]
fn add_planes(planes: &[QuantisedRow], out: &mut [f32], dot: impl Fn(&QuantisedRow, &mut [f32])) {
    dot(&planes[0], out);
    let mut products = vec![0.0; if planes.len() > 1 { out.len() } else { 0 }];
    for plane in &planes[1..] {
        dot(plane, &mut products);
        out.iter_mut().zip(&products).for_each(|(out, product)| *out += product);
    }
}
