//! A tensor as a checkpoint stores it.

use std::fmt;

use bytes::Bytes;
use larql_compute::Format;

/// A tensor in a file: its name there, its shape and its bytes, which stay in the mapped file.
#[derive(Clone)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Encoding of its values.
    pub encoding: Encoding,
    /// Dimensions, outermost first; the last one is contiguous.
    pub shape: Vec<usize>,
    /// First byte in the file.
    pub offset: usize,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Encoding of a stored tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// In a format that can be computed with.
    Format(Format),
    /// In another one, for instance integers; the name is that of its container.
    Other(&'static str),
}

impl fmt::Debug for StoredTensor {
    /// Everything but the bytes themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoredTensor { name, encoding, shape, offset, bytes } = self;
        write!(f, "{name} {encoding} {shape:?}, {} bytes at {offset}", bytes.len())
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Format(format) => format.fmt(f),
            Encoding::Other(name) => f.write_str(name),
        }
    }
}
