//! Metadata values of GGUF files.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::cursor::Cursor;
use crate::ModelError;
use crate::config::shorten;

/// A metadata value. As JSON it is the bare value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each is the type of its name")]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(GgufArray),
}

/// Type of a metadata value, in the order of the numbers that stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the type of its name")]
pub enum GgufType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl GgufType {
    const ALL: [GgufType; 13] = {
        use GgufType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// The number that stands for it in files.
    fn number(self) -> u32 {
        self as u32
    }

    /// The least number of bytes that a value takes.
    fn least_bytes(self) -> u64 {
        match self {
            GgufType::U8 | GgufType::I8 | GgufType::Bool => 1,
            GgufType::U16 | GgufType::I16 => 2,
            GgufType::U32 | GgufType::I32 | GgufType::F32 => 4,
            GgufType::U64 | GgufType::I64 | GgufType::F64 | GgufType::String => 8,
            GgufType::Array => 12,
        }
    }
}

/// A list of values of one type, left in the file: vocabularies have hundreds of thousands of entries, and
/// most programs that open a model never ask for them.
#[derive(Clone, PartialEq)]
pub struct GgufArray {
    element: GgufType,
    len: usize,
    /// The elements as the file has them; [`read`] went through them once.
    bytes: Bytes,
}

impl GgufArray {
    /// A list of strings.
    pub fn of_strings<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> GgufArray {
        GgufArray::gathered(GgufType::String, values, |value, bytes| write_string(value.as_ref(), bytes))
    }

    /// A list of `f32`.
    pub fn of_f32s(values: impl IntoIterator<Item = f32>) -> GgufArray {
        GgufArray::gathered(GgufType::F32, values, |value, bytes| bytes.extend(value.to_le_bytes()))
    }

    /// A list of `i32`.
    pub fn of_i32s(values: impl IntoIterator<Item = i32>) -> GgufArray {
        GgufArray::gathered(GgufType::I32, values, |value, bytes| bytes.extend(value.to_le_bytes()))
    }

    /// A list of `u32`.
    pub fn of_u32s(values: impl IntoIterator<Item = u32>) -> GgufArray {
        GgufArray::gathered(GgufType::U32, values, |value, bytes| bytes.extend(value.to_le_bytes()))
    }

    /// A list of flags.
    pub fn of_bools(values: impl IntoIterator<Item = bool>) -> GgufArray {
        GgufArray::gathered(GgufType::Bool, values, |value, bytes| bytes.push(value.into()))
    }

    fn gathered<T>(
        element: GgufType,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(T, &mut Vec<u8>),
    ) -> GgufArray {
        let (mut len, mut bytes) = (0, Vec::new());
        for value in values {
            write(value, &mut bytes);
            len += 1;
        }
        GgufArray { element, len, bytes: bytes.into() }
    }

    /// Type of the elements; never itself an array.
    pub fn element_type(&self) -> GgufType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements one by one.
    pub fn iter(&self) -> impl Iterator<Item = GgufValue> + '_ {
        let mut cursor = Cursor::new(&self.bytes, "".as_ref());
        (0..self.len).map_while(move |_| read_as(&mut cursor, self.element, "").ok())
    }

    /// The elements as strings, borrowed; none if they are something else, or one is not UTF-8.
    pub fn strings(&self) -> Option<Vec<&str>> {
        let mut cursor = Cursor::new(&self.bytes, "".as_ref());
        let is_text = self.element == GgufType::String;
        is_text.then(|| (0..self.len).map(|_| cursor.string("").ok()).collect()).flatten()
    }

    /// The elements as `f32`, from numbers of any type; none if they are something else.
    pub fn f32s(&self) -> Option<Vec<f32>> {
        self.numbers(GgufType::F32, f32::from_le_bytes, |value| value.as_f64().map(|number| number as f32))
    }

    /// The elements as `i32`, from whole numbers of any width; none if they are something else.
    pub fn i32s(&self) -> Option<Vec<i32>> {
        self.numbers(GgufType::I32, i32::from_le_bytes, |value| match value {
            GgufValue::F32(_) | GgufValue::F64(_) => None,
            whole => whole.as_f64().map(|number| number as i32),
        })
    }

    /// The elements as numbers: read at once if they are of the `usual` type of four bytes, else one by one.
    fn numbers<T>(
        &self,
        usual: GgufType,
        read: impl Fn([u8; 4]) -> T,
        convert: impl Fn(GgufValue) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.element == usual {
            return Some(self.bytes.as_chunks().0.iter().map(|bytes| read(*bytes)).collect());
        }
        self.iter().map(convert).collect()
    }
}

impl GgufValue {
    /// Its type.
    pub fn value_type(&self) -> GgufType {
        match self {
            GgufValue::U8(_) => GgufType::U8,
            GgufValue::I8(_) => GgufType::I8,
            GgufValue::U16(_) => GgufType::U16,
            GgufValue::I16(_) => GgufType::I16,
            GgufValue::U32(_) => GgufType::U32,
            GgufValue::I32(_) => GgufType::I32,
            GgufValue::U64(_) => GgufType::U64,
            GgufValue::I64(_) => GgufType::I64,
            GgufValue::F32(_) => GgufType::F32,
            GgufValue::F64(_) => GgufType::F64,
            GgufValue::Bool(_) => GgufType::Bool,
            GgufValue::String(_) => GgufType::String,
            GgufValue::Array(_) => GgufType::Array,
        }
    }

    /// A whole number that is not negative, of whatever width.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            GgufValue::U8(v) => Some(v.into()),
            GgufValue::U16(v) => Some(v.into()),
            GgufValue::U32(v) => Some(v.into()),
            GgufValue::U64(v) => Some(v),
            GgufValue::I8(v) => v.try_into().ok(),
            GgufValue::I16(v) => v.try_into().ok(),
            GgufValue::I32(v) => v.try_into().ok(),
            GgufValue::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A number of whatever type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            GgufValue::F32(v) => Some(v.into()),
            GgufValue::F64(v) => Some(v),
            GgufValue::I8(v) => Some(v.into()),
            GgufValue::I16(v) => Some(v.into()),
            GgufValue::I32(v) => Some(v.into()),
            GgufValue::I64(v) => Some(v as f64),
            _ => self.as_u64().map(|v| v as f64),
        }
    }

    /// Yes or no.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            GgufValue::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            GgufValue::String(v) => Some(v),
            _ => None,
        }
    }

    /// A list.
    pub fn as_array(&self) -> Option<&GgufArray> {
        match self {
            GgufValue::Array(v) => Some(v),
            _ => None,
        }
    }
}

/// Appends a value's type and the value, as [`read`] takes them.
pub(super) fn write(value: &GgufValue, out: &mut Vec<u8>) {
    out.extend(value.value_type().number().to_le_bytes());
    match value {
        GgufValue::U8(v) => out.push(*v),
        GgufValue::I8(v) => out.extend(v.to_le_bytes()),
        GgufValue::U16(v) => out.extend(v.to_le_bytes()),
        GgufValue::I16(v) => out.extend(v.to_le_bytes()),
        GgufValue::U32(v) => out.extend(v.to_le_bytes()),
        GgufValue::I32(v) => out.extend(v.to_le_bytes()),
        GgufValue::U64(v) => out.extend(v.to_le_bytes()),
        GgufValue::I64(v) => out.extend(v.to_le_bytes()),
        GgufValue::F32(v) => out.extend(v.to_le_bytes()),
        GgufValue::F64(v) => out.extend(v.to_le_bytes()),
        GgufValue::Bool(v) => out.push((*v).into()),
        GgufValue::String(v) => write_string(v, out),
        GgufValue::Array(v) => {
            out.extend(v.element.number().to_le_bytes());
            out.extend((v.len as u64).to_le_bytes());
            out.extend(&v.bytes);
        }
    }
}

/// Appends a string: its length and its UTF-8.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Reads a type and a value of it.
pub(super) fn read(cursor: &mut Cursor<'_>, field: &str) -> Result<GgufValue, ModelError> {
    let value_type = read_type(cursor, field)?;
    read_as(cursor, value_type, field)
}

fn read_type(cursor: &mut Cursor<'_>, field: &str) -> Result<GgufType, ModelError> {
    let number = cursor.u32(field)?;
    GgufType::ALL
        .get(number as usize)
        .copied()
        .ok_or_else(|| cursor.malformed(field, "a value type from 0 to 12", number.to_string()))
}

fn read_as(cursor: &mut Cursor<'_>, value_type: GgufType, field: &str) -> Result<GgufValue, ModelError> {
    Ok(match value_type {
        GgufType::U8 => GgufValue::U8(cursor.u8(field)?),
        GgufType::I8 => GgufValue::I8(cursor.u8(field)? as i8),
        GgufType::U16 => GgufValue::U16(cursor.u16(field)?),
        GgufType::I16 => GgufValue::I16(cursor.u16(field)? as i16),
        GgufType::U32 => GgufValue::U32(cursor.u32(field)?),
        GgufType::I32 => GgufValue::I32(cursor.u32(field)? as i32),
        GgufType::F32 => GgufValue::F32(f32::from_bits(cursor.u32(field)?)),
        GgufType::Bool => GgufValue::Bool(cursor.bool(field)?),
        // Descriptions may be in other encodings, and are not needed to run the model.
        GgufType::String => GgufValue::String(cursor.lossy_string(field)?),
        GgufType::Array => GgufValue::Array(read_array(cursor, field)?),
        GgufType::U64 => GgufValue::U64(cursor.u64(field)?),
        GgufType::I64 => GgufValue::I64(cursor.u64(field)? as i64),
        GgufType::F64 => GgufValue::F64(f64::from_bits(cursor.u64(field)?)),
    })
}

fn read_array(cursor: &mut Cursor<'_>, field: &str) -> Result<GgufArray, ModelError> {
    let element = read_type(cursor, field)?;
    let len = cursor.u64(field)?;
    cursor.check_count(len, element.least_bytes(), field)?;
    let start = cursor.position();
    match element {
        GgufType::Array => {
            return Err(cursor.malformed(field, "a list of plain values", "a list of lists"));
        }
        GgufType::String => {
            for _ in 0..len {
                let length = cursor.u64(field)?;
                cursor.take(length, field)?;
            }
        }
        GgufType::Bool => {
            for _ in 0..len {
                cursor.bool(field)?;
            }
        }
        fixed => {
            cursor.take(len * fixed.least_bytes(), field)?;
        }
    }
    Ok(GgufArray { element, len: len as usize, bytes: cursor.shared_since(start) })
}

impl fmt::Display for GgufValue {
    /// One line; long strings and lists are cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GgufValue::U8(v) => v.fmt(f),
            GgufValue::I8(v) => v.fmt(f),
            GgufValue::U16(v) => v.fmt(f),
            GgufValue::I16(v) => v.fmt(f),
            GgufValue::U32(v) => v.fmt(f),
            GgufValue::I32(v) => v.fmt(f),
            GgufValue::U64(v) => v.fmt(f),
            GgufValue::I64(v) => v.fmt(f),
            GgufValue::F32(v) => v.fmt(f),
            GgufValue::F64(v) => v.fmt(f),
            GgufValue::Bool(v) => v.fmt(f),
            GgufValue::String(v) => write!(f, "{:?}", shorten(v)),
            GgufValue::Array(v) => v.fmt(f),
        }
    }
}

impl Serialize for GgufArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl fmt::Display for GgufArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        f.write_str("[")?;
        for (index, value) in self.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            value.fmt(f)?;
        }
        if self.len > SHOWN {
            write!(f, ", ... {} in all", self.len)?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for GgufArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
