//! The alphabet of byte-level BPE: a printable character for every byte.
//!
//! The printable characters of Latin-1 stand for themselves; the other 68 bytes, in order, are the characters
//! from U+0100 on. So a space is `Ġ` and a newline `Ċ`. (GPT-2, Radford et al. 2019.)

/// True if a byte stands for itself.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character of each byte, as a code point.
const CODES: [u16; 256] = {
    let mut codes = [0; 256];
    let mut next = 0x100;
    let mut byte = 0;
    while byte < 256 {
        if is_printable(byte as u8) {
            codes[byte] = byte as u16;
        } else {
            codes[byte] = next;
            next += 1;
        }
        byte += 1;
    }
    codes
};

/// The byte of each character below U+0144; printable bytes and those above U+00FF are in use.
const BYTES: [u8; 0x144] = {
    let mut bytes = [0; 0x144];
    let mut byte = 0;
    while byte < 256 {
        bytes[CODES[byte] as usize] = byte as u8;
        byte += 1;
    }
    bytes
};

/// The character that stands for `byte`.
pub(super) fn char_of(byte: u8) -> char {
    char::from_u32(u32::from(CODES[usize::from(byte)])).unwrap_or_default()
}

/// The byte that `character` stands for.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let byte = *BYTES.get(character as usize)?;
    (char_of(byte) == character).then_some(byte)
}

/// The bytes that `text` stands for, unless it has characters outside the alphabet.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        assert!((0..=255).all(|byte| byte_of(char_of(byte)) == Some(byte)));
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(0xAD)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!([' ', '\u{AD}', '\u{144}', '漢'].map(byte_of), [None; 4]);
    }
}
