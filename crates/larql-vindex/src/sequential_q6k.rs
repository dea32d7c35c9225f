//! Q6_K blocks whose codes stand in another order than ggml's.
//!
//! Until August 2026 the existing implementation packed the 256 codes of a block one after another: value `i` has
//! its low four bits in nibble `i % 2` of byte `i / 2`, its high two bits at bit `2 (i % 4)` of byte `i / 4`. ggml
//! spreads a block's values over quarters of halves. Lengths, scales and names are the same, so files do not say
//! which order they have; their codes do, because a scale is chosen so that the largest of its 16 values takes the
//! largest code. Read in the wrong order, low bits meet the high bits of other values, and many groups have no
//! code near the limits.

use larql_compute::{Format, MatRef, Matrix};

/// Values of a block.
const VALUES: usize = 256;
/// Values that share a scale.
const GROUP: usize = 16;
const LOW_BYTES: usize = VALUES / 2;
const HIGH_BYTES: usize = VALUES / 4;
/// Blocks that are looked at to tell the orders apart; each has 16 groups.
const SAMPLE: usize = 64;
/// Codes at least this far from their middle, 32, are near the limits.
const EXTREME: u8 = 30;

/// Bits of a value in its block: byte and shift of the low four, byte and shift of the high two.
type Order = fn(usize) -> [(usize, u32); 2];

fn sequential(i: usize) -> [(usize, u32); 2] {
    [(i / 2, 4 * (i % 2) as u32), (LOW_BYTES + i / 4, 2 * (i % 4) as u32)]
}

fn ggml(i: usize) -> [(usize, u32); 2] {
    let (half, quarter, place) = (i / 128, i % 128 / 32, i % 32);
    let low = 64 * half + 32 * (quarter % 2) + place;
    [(low, 4 * (quarter / 2) as u32), (LOW_BYTES + 32 * half + place, 2 * quarter as u32)]
}

fn codes(block: &[u8], order: Order) -> [u8; VALUES] {
    std::array::from_fn(|i| {
        let [(low, low_shift), (high, high_shift)] = order(i);
        ((block[low] >> low_shift) & 0xF) | (((block[high] >> high_shift) & 3) << 4)
    })
}

fn store(codes: &[u8; VALUES], order: Order, block: &mut [u8]) {
    block[..LOW_BYTES + HIGH_BYTES].fill(0);
    for (i, code) in codes.iter().enumerate() {
        let [(low, low_shift), (high, high_shift)] = order(i);
        block[low] |= (code & 0xF) << low_shift;
        block[high] |= (code >> 4) << high_shift;
    }
}

/// The matrix in ggml's order, whichever it has.
pub(crate) fn in_ggml_order(matrix: &Matrix) -> Matrix {
    if matrix.format() != Format::Q6_K || !is_sequential(matrix.view()) {
        return matrix.clone();
    }
    let mut bytes = matrix.bytes().to_vec();
    for block in bytes.chunks_exact_mut(Format::Q6_K.block_bytes()) {
        store(&codes(block, sequential), ggml, block);
    }
    Matrix::new(matrix.format(), matrix.rows(), matrix.cols(), bytes.into())
        .expect("the bytes are as many as they were")
}

fn is_sequential(matrix: MatRef<'_>) -> bool {
    let blocks = || matrix.bytes().chunks_exact(Format::Q6_K.block_bytes()).take(SAMPLE);
    let extremes = |order: Order| -> usize {
        let reaches_limit = |group: &&[u8]| group.iter().any(|code| code.abs_diff(32) >= EXTREME);
        blocks().map(|block| codes(block, order).chunks_exact(GROUP).filter(reaches_limit).count()).sum()
    };
    extremes(sequential) > extremes(ggml)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen blocks of bell-shaped values, whose groups each reach a limit.
    fn blocks(order: Order) -> Matrix {
        let mut state = 1_u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut bytes = vec![1; 16 * Format::Q6_K.block_bytes()];
        for block in bytes.chunks_exact_mut(Format::Q6_K.block_bytes()) {
            let mut values: [f32; VALUES] = std::array::from_fn(|_| uniform() + uniform() + uniform() - 1.5);
            for group in values.chunks_exact_mut(GROUP) {
                let largest = group.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                group.iter_mut().for_each(|value| *value *= 31.0 / largest);
            }
            store(&values.map(|value| (value.round() + 32.0) as u8), order, block);
        }
        Matrix::new(Format::Q6_K, 2, 8 * VALUES, bytes.into()).unwrap()
    }

    #[test]
    fn either_order_is_recognised() {
        let expected = blocks(ggml);
        for order in [sequential, ggml] {
            let found = in_ggml_order(&blocks(order));
            assert_eq!(found.bytes(), expected.bytes());
        }
    }

    #[test]
    fn orders_use_every_bit_once() {
        for order in [sequential, ggml] {
            let mut block = [0; LOW_BYTES + HIGH_BYTES];
            store(&[63; VALUES], order, &mut block);
            assert_eq!(block, [255; LOW_BYTES + HIGH_BYTES]);
            let distinct: [u8; VALUES] = std::array::from_fn(|i| (i * 37 % 64) as u8);
            store(&distinct, order, &mut block);
            assert_eq!(codes(&block, order), distinct);
        }
    }
}
