//! Products of rows in 8 bits that have one scale each, so that sums are integers from the first column to the last.
//!
//! Rows lie in panels of [`LANES`], four columns of each side by side, and are multiplied with several vectors at a time.

use super::Isa;

/// Rows of a panel.
pub(crate) const LANES: usize = 32;

/// Vectors that are multiplied at a time.
pub(crate) const VECTORS: usize = 32;

/// Columns that rows are filled up to a multiple of: those that the longest instruction multiplies.
pub(crate) const COLUMNS: usize = 64;

/// Four columns of each row of a panel. A code is stored with [`Isa::byte_zero`] added.
pub(crate) type Quad = [[u8; 4]; LANES];

/// Products of one vector with the rows of a panel.
pub(crate) type Products = [i32; LANES];

/// Figures of a row that was rounded to 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rounded {
    /// Value of the code 1; NaN or infinity if a value is.
    pub(crate) scale: f32,
    /// Sum of the codes.
    pub(crate) sum: i32,
    /// Length of the exact values.
    pub(crate) norm: f32,
    /// Length of what rounding took from them.
    pub(crate) loss: f32,
}

/// Writes values as codes of at most `largest`. Plain code in which the compiler finds the vectors, so each instruction set
/// calls it from a function of its own.
#[inline(always)]
pub(super) fn round(values: &[f32], largest: i8, codes: &mut [i8]) -> Rounded {
    const LANES: usize = 16;
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Of floats without their sign the bits sort as the numbers do, with NaN on top.
    let top = f32::from_bits(values.iter().map(|value| value.abs().to_bits()).max().unwrap_or(0));
    let scale = top / f32::from(largest);
    let inverse = if top == 0.0 { 0.0 } else { f32::from(largest) / top };
    let (mut sums, mut squares, mut losses) = ([0; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let mut add = |lane: usize, value: f32, code: &mut i8| {
        *code = (value * inverse + ROUND).to_bits() as i8;
        let loss = value - f32::from(*code) * scale;
        sums[lane] += i32::from(*code);
        squares[lane] += value * value;
        losses[lane] += loss * loss;
    };
    let ((whole, rest), (whole_codes, rest_codes)) =
        (values.as_chunks::<LANES>(), codes.as_chunks_mut::<LANES>());
    for (values, codes) in whole.iter().zip(whole_codes) {
        for (lane, (value, code)) in values.iter().zip(codes).enumerate() {
            add(lane, *value, code);
        }
    }
    rest.iter().zip(rest_codes).for_each(|(value, code)| add(0, *value, code));
    let length = |squares: [f32; LANES]| squares.iter().sum::<f32>().sqrt();
    Rounded { scale, sum: sums.iter().sum(), norm: length(squares), loss: length(losses) }
}

/// Figures of the rows of a panel. Of missing rows all are zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowFigures {
    /// Value of the code 1 of each row.
    pub(crate) scales: [f32; LANES],
    /// Distance of products of codes from exact ones, for each unit of a vector's length.
    pub(crate) losses: [f32; LANES],
    /// The same for each unit of length that rounding took from a vector.
    pub(crate) norms: [f32; LANES],
}

/// Limit that the products of a vector have to beat, in units of the vector's scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// The exact product that is to be beaten.
    pub(crate) to_beat: f32,
    /// Length of the vector.
    pub(crate) norm: f32,
    /// Length of what rounding took from it.
    pub(crate) loss: f32,
}

/// Bits of the rows whose exact product may be greater than the limit.
#[inline(always)]
pub(super) fn above(products: &Products, rows: &RowFigures, limit: Limit) -> u32 {
    let mut above = 0;
    for (lane, product) in products.iter().enumerate() {
        let error = limit.norm * rows.losses[lane] + limit.loss * rows.norms[lane];
        above |= u32::from(*product as f32 * rows.scales[lane] + error > limit.to_beat) << lane;
    }
    above
}

/// Calls `several` with each `N` vectors of `width` codes and their products, and `one` with each of those that are left.
#[inline(always)]
pub(super) fn in_groups<const N: usize>(
    width: usize,
    vectors: &[i8],
    out: &mut [Products],
    several: impl Fn(&[i8], &mut [Products; N]),
    one: impl Fn(&[i8], &mut [Products; 1]),
) {
    let (groups, rest) = out.as_chunks_mut::<N>();
    let (vectors, rest_vectors) = vectors.split_at(groups.len() * N * width);
    vectors.chunks(N * width).zip(groups).for_each(|(vectors, out)| several(vectors, out));
    let rest = rest_vectors.chunks(width).zip(rest);
    rest.for_each(|(vector, out)| one(vector, std::array::from_mut(out)));
}

/// Plain version of [`Isa::add_byte_products`].
pub(super) fn add_products(panel: &[Quad], vectors: &[i8], out: &mut [Products]) {
    for (vector, out) in vectors.chunks_exact(4 * panel.len()).zip(out) {
        for (x, quad) in vector.as_chunks::<4>().0.iter().zip(panel) {
            for (sum, codes) in out.iter_mut().zip(quad) {
                *sum += codes.iter().zip(x).map(|(code, x)| i32::from(*code) * i32::from(*x)).sum::<i32>();
            }
        }
    }
}

impl Isa {
    /// The number that is added to the codes of a panel: x86 multiplies unsigned with signed bytes, NEON signed ones.
    pub(crate) fn byte_zero(self) -> u8 {
        match self {
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => 0,
            _ => 128,
        }
    }

    /// Number of vectors that lie side by side in the codes that [`Isa::add_byte_products`] reads: 64 columns of each of them,
    /// then the next 64 columns of each.
    pub(crate) fn vectors_beside(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if super::amx::is_available() => VECTORS,
            _ => 1,
        }
    }

    /// The largest code of a vector. With AVX2 the products of two pairs of bytes have to fit in 16 bits.
    pub(crate) fn largest_byte(self) -> i8 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 63,
            _ => 127,
        }
    }

    /// Writes values as codes of at most `largest`.
    pub(crate) fn round_to_bytes(self, values: &[f32], largest: i8, codes: &mut [i8]) -> Rounded {
        assert_eq!(values.len(), codes.len());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` hands out an instruction set only where the machine has it.
            Isa::Avx512 => unsafe { super::avx512_byte_panel::round(values, largest, codes) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { super::avx2_byte_panel::round(values, largest, codes) },
            _ => round(values, largest, codes),
        }
    }

    /// Adds the products of the panel's rows with consecutive vectors of codes: `vectors` is `[out.len(), 4 * panel.len()]` or,
    /// where several lie [beside one another](Isa::vectors_beside), `[panel.len() / 16, out.len(), 64]` of as many.
    pub(crate) fn add_byte_products(self, panel: &[Quad], vectors: &[i8], out: &mut [Products]) {
        assert_eq!(vectors.len(), out.len() * 4 * panel.len());
        assert!((4 * panel.len()).is_multiple_of(COLUMNS));
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if super::amx::is_available() => super::amx::add_byte_products(panel, vectors, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { super::avx512_byte_panel::add_products(panel, vectors, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { super::avx2_byte_panel::add_products(panel, vectors, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::NeonDotprod => unsafe { super::neon_dotprod::add_byte_products(panel, vectors, out) },
            _ => add_products(panel, vectors, out),
        }
    }

    /// Bits of the rows whose exact product may be greater than the limit.
    pub(crate) fn bytes_above(self, products: &Products, rows: &RowFigures, limit: Limit) -> u32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { super::avx512_byte_panel::above(products, rows, limit) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { super::avx2_byte_panel::above(products, rows, limit) },
            _ => above(products, rows, limit),
        }
    }
}
