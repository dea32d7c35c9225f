//! Codes of a few bits, and the orders in which libraries pack them into words.

use bytes::Bytes;

use super::shelf::Found;

/// Unsigned integers of `bits` bits, `[rows, cols]`, in the order of one library.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub(super) bytes: Bytes,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// At most 8.
    pub(super) bits: usize,
    pub(super) order: Order,
    /// Bits that are stored turned: the highest one of signed integers, so that all codes are unsigned.
    pub(super) turned: u8,
}

/// Order of packed codes. Words have 32 bits, least significant byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Each row is a stream of bits, from the lowest bit of its first word or byte up.
    AlongRows,
    /// Each column is a stream of bits; word `w` of column `c` is word `[w, c]` of the tensor (GPTQ).
    AlongColumns,
    /// Four bits each: a word holds eight neighbours of a row, in the order 0, 2, 4, 6, 1, 3, 5, 7 (AWQ).
    Interleaved,
    /// Four bits each: all values in one sequence, the first of two in the upper half of their byte (bitsandbytes).
    UpperFirst,
}

impl Codes {
    /// The codes `[rows, cols]` in a stored tensor.
    pub(super) fn new(stored: Found<'_>, [rows, cols]: [usize; 2], bits: usize, order: Order) -> Codes {
        Codes { bytes: stored.tensor.bytes.clone(), rows, cols, bits, order, turned: 0 }
    }

    /// The same codes with bits of each that are stored turned.
    pub(super) fn with_turned(self, bits: u8) -> Codes {
        Codes { turned: bits, ..self }
    }

    /// Words that a row or a column of `count` codes takes.
    pub(super) fn packed_words(count: usize, bits: usize) -> usize {
        (count * bits).div_ceil(32)
    }

    /// The code in a row and a column.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(super) fn get(&self, row: usize, col: usize) -> u8 {
        self.turned ^ self.stored(row, col)
    }

    #[inline]
    fn stored(&self, row: usize, col: usize) -> u8 {
        match self.order {
            Order::AlongRows => {
                let length = self.bytes.len() / self.rows;
                bits_of(|byte| self.bytes.get(row * length + byte).copied(), col, self.bits)
            }
            Order::AlongColumns => {
                let word = |byte: usize| (byte / 4 * self.cols + col) * 4 + byte % 4;
                bits_of(|byte| self.bytes.get(word(byte)).copied(), row, self.bits)
            }
            Order::Interleaved => {
                const PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];
                let place = PLACES[col % 8];
                let byte = (row * (self.cols / 8) + col / 8) * 4 + place / 2;
                self.bytes[byte] >> (place % 2 * 4) & 15
            }
            Order::UpperFirst => {
                let index = row * self.cols + col;
                self.bytes[index / 2] >> (4 - index % 2 * 4) & 15
            }
        }
    }

    /// The codes of one row.
    pub(super) fn row(&self, row: usize, out: &mut [u8]) {
        if self.bits == 8 && self.order == Order::AlongRows {
            let stored = &self.bytes[row * self.cols..][..self.cols];
            return out.iter_mut().zip(stored).for_each(|(out, stored)| *out = self.turned ^ stored);
        }
        out.iter_mut().enumerate().for_each(|(col, out)| *out = self.get(row, col));
    }

    /// The codes of one column.
    pub(super) fn column(&self, col: usize, out: &mut [u8]) {
        out.iter_mut().enumerate().for_each(|(row, out)| *out = self.get(row, col));
    }
}

/// Code `index` of a stream of bits. Codes of 3, 5, 6 and 7 bits may begin in one byte and end in the next.
#[inline]
fn bits_of(byte: impl Fn(usize) -> Option<u8>, index: usize, bits: usize) -> u8 {
    let (first, shift) = (index * bits / 8, index * bits % 8);
    let low = byte(first).unwrap_or(0);
    let next = if shift + bits > 8 { byte(first + 1).unwrap_or(0) } else { 0 };
    (u16::from_le_bytes([low, next]) >> shift & ((1 << bits) - 1)) as u8
}

/// Value of an 8-bit float with 4 bits of exponent and 3 of mantissa (OCP E4M3: no infinities, one NaN for each sign).
pub(super) fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2.0_f32.powi(-9),
        _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
    };
    if code < 128 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(bytes: Vec<u8>, [rows, cols]: [usize; 2], bits: usize, order: Order) -> Codes {
        Codes { bytes: bytes.into(), rows, cols, bits, order, turned: 0 }
    }

    #[test]
    fn streams_of_every_width_are_read_along_rows_and_columns() {
        let code = |row: usize, col: usize, bits: usize| (7 * row + 5 * col) % (1 << bits);
        for bits in 1..=8 {
            let mut along_rows = vec![0u8; 2 * bits * 4];
            let mut along_columns = vec![0u8; 2 * bits * 4];
            for line in 0..2 {
                for place in 0..32 {
                    for bit in (0..bits).filter(|bit| code(line, place, bits) >> bit & 1 == 1) {
                        let at = place * bits + bit;
                        along_rows[line * bits * 4 + at / 8] |= 1 << (at % 8);
                        along_columns[(at / 32 * 2 + line) * 4 + at % 32 / 8] |= 1 << (at % 8);
                    }
                }
            }
            let rows = codes(along_rows, [2, 32], bits, Order::AlongRows);
            let columns = codes(along_columns, [32, 2], bits, Order::AlongColumns);
            for line in 0..2 {
                let expected: Vec<u8> = (0..32).map(|place| code(line, place, bits) as u8).collect();
                let mut found = [0; 32];
                rows.row(line, &mut found);
                assert_eq!(found[..], expected, "{bits} bits");
                columns.column(line, &mut found);
                assert_eq!(found[..], expected, "{bits} bits");
            }
        }
    }

    #[test]
    fn awq_and_bitsandbytes_have_orders_of_their_own() {
        let interleaved = codes(0x7531_6420_u32.to_le_bytes().into(), [1, 8], 4, Order::Interleaved);
        let mut found = [0; 8];
        interleaved.row(0, &mut found);
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 7]);
        let upper_first = codes(vec![0x01, 0x23, 0x45], [2, 3], 4, Order::UpperFirst);
        let mut found = [0; 3];
        upper_first.row(1, &mut found);
        assert_eq!(found, [3, 4, 5]);
    }

    #[test]
    fn floats_of_8_bits_have_the_values_of_the_standard() {
        let cases = [(0x00, 0.0), (0x01, 2.0_f32.powi(-9)), (0x08, 2.0_f32.powi(-6)), (0x38, 1.0)];
        for (code, value) in cases.into_iter().chain([(0x7e, 448.0), (0xfe, -448.0), (0xb8, -1.0)]) {
            assert_eq!(e4m3(code), value, "{code:#x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }
}
