//! GGUF files that are written and read again.

use larql_compute::Format;
use larql_models::{GgufArray, GgufFile, GgufTensor, GgufValue, GgufWriter};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::tiny::Written;

fn value() -> impl Strategy<Value = GgufValue> {
    prop_oneof![
        any::<u8>().prop_map(GgufValue::U8),
        any::<i8>().prop_map(GgufValue::I8),
        any::<u16>().prop_map(GgufValue::U16),
        any::<i16>().prop_map(GgufValue::I16),
        any::<u32>().prop_map(GgufValue::U32),
        any::<i32>().prop_map(GgufValue::I32),
        any::<u64>().prop_map(GgufValue::U64),
        any::<i64>().prop_map(GgufValue::I64),
        any::<f32>().prop_map(GgufValue::F32),
        any::<f64>().prop_map(GgufValue::F64),
        any::<bool>().prop_map(GgufValue::Bool),
        any::<String>().prop_map(GgufValue::String),
        vec(any::<String>(), 0..9).prop_map(|list| GgufValue::Array(GgufArray::of_strings(list))),
        vec(any::<f32>(), 0..9).prop_map(|list| GgufValue::Array(GgufArray::of_f32s(list))),
        vec(any::<i32>(), 0..9).prop_map(|list| GgufValue::Array(GgufArray::of_i32s(list))),
        vec(any::<u32>(), 0..9).prop_map(|list| GgufValue::Array(GgufArray::of_u32s(list))),
        vec(any::<bool>(), 0..9).prop_map(|list| GgufValue::Array(GgufArray::of_bools(list))),
    ]
}

/// Format and shape of a tensor, with bytes for it.
fn tensor() -> impl Strategy<Value = (Format, Vec<usize>, Vec<u8>)> {
    let formats = prop::sample::select(vec![Format::F32, Format::BF16, Format::Q8_0, Format::Q4_K]);
    (formats, vec(1usize..5, 0..4), 1usize..4).prop_flat_map(|(format, outer, blocks)| {
        let (cols, rows) = (blocks * format.block_len(), outer.iter().product::<usize>());
        let size = rows * format.row_bytes(cols).unwrap();
        let shape = outer.into_iter().chain([cols]).collect();
        (Just(format), Just(shape), vec(any::<u8>(), size))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_reads_as_it_was_written(
        values in vec(value(), 0..12),
        tensors in vec(tensor(), 0..6),
        alignment in prop::sample::select(vec![None, Some(8u32), Some(64)]),
    ) {
        let folder = Written::new();
        let path = folder.file("out.gguf");
        let values = values.into_iter().enumerate().map(|(index, value)| (format!("key {index}"), value));
        let alignment = alignment.map(|bytes| ("general.alignment".into(), GgufValue::U32(bytes)));
        let metadata: Vec<(String, GgufValue)> = values.chain(alignment).collect();
        let name = |index: usize| format!("tensor {index}");
        let described = tensors.iter().enumerate().map(|(index, (format, shape, _))| GgufTensor {
            name: name(index),
            format: *format,
            shape: shape.clone(),
        });
        let mut writer = GgufWriter::create(&path, &metadata, described.collect()).unwrap();
        for (index, (_, _, bytes)) in tensors.iter().enumerate() {
            let (start, end) = bytes.split_at(bytes.len() / 3);
            writer.write(&name(index), start).unwrap();
            writer.write(&name(index), end).unwrap();
        }
        prop_assert!(!path.exists());
        writer.finish().unwrap();

        let file = GgufFile::open(&path).unwrap();
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        prop_assert_eq!(file.version(), 3);
        // Not all floats equal themselves; what they look like does.
        let read: Vec<String> = file.metadata().map(|entry| format!("{entry:?}")).collect();
        let written: Vec<String> = metadata.iter().map(|(key, value)| format!("{:?}", (key, value))).collect();
        prop_assert_eq!(read, written);
        prop_assert_eq!(file.tensors().len(), tensors.len());
        for (index, (format, shape, bytes)) in tensors.iter().enumerate() {
            let found = file.tensor(&name(index)).unwrap();
            prop_assert_eq!(&found.encoding.to_string(), &format.to_string());
            prop_assert_eq!(&found.shape, shape);
            prop_assert_eq!(&found.bytes[..], &bytes[..]);
            prop_assert_eq!(found.offset as u64 % file.alignment(), 0);
        }
    }
}

#[test]
fn entries_that_do_not_fit_are_refused() {
    let folder = Written::new();
    let path = folder.file("out.gguf");
    let tensor = |name: &str, shape: &[usize]| GgufTensor {
        name: name.into(),
        format: Format::Q8_0,
        shape: shape.into(),
    };
    let start = |metadata: &[(String, GgufValue)], tensors: &[GgufTensor]| {
        GgufWriter::create(&path, metadata, tensors.into())
    };
    let key = ("key".to_owned(), GgufValue::Bool(true));
    let started = || start(&[], &[tensor("a", &[2, 32]), tensor("b", &[32])]).unwrap();
    let errors = [
        start(&[key.clone(), key], &[]).err().unwrap(),
        start(&[], &[tensor("a", &[32]), tensor("a", &[32])]).err().unwrap(),
        start(&[("general.alignment".into(), GgufValue::U32(3))], &[]).err().unwrap(),
        start(&[], &[tensor("a", &[])]).err().unwrap(),
        start(&[], &[tensor("a", &[3, 31])]).err().unwrap(),
        start(&[], &[tensor("a", &[1 << 40, 1 << 40])]).err().unwrap(),
        started().write("b", &[0; 34]).unwrap_err(),
        started().write("a", &[0; 69]).unwrap_err(),
        started().finish().unwrap_err(),
    ];
    let messages: Vec<String> = errors.iter().map(|error| folder.neutral(error)).collect();
    insta::assert_snapshot!(messages.join("\n"), @r"
    DIR/out.gguf: `key` would be in it twice
    DIR/out.gguf: `a` would be in it twice
    DIR/out.gguf: `general.alignment`: expected a power of two up to 2^20, found 3
    DIR/out.gguf: tensor `a`: expected 1 to 4 dimensions above 0, found []
    DIR/out.gguf: `a`: rows of 31 values cannot be stored as Q8_0, whose blocks hold 32: choose a format with smaller blocks
    DIR/out.gguf: tensor `a`: expected a shape that memory can address, found [1099511627776, 1099511627776]
    DIR/out.gguf: it is the turn of `a`, but `b` was given
    DIR/out.gguf: `a` has 68 bytes, but 69 were given
    DIR/out.gguf: `a` has 68 bytes, but only 0 were given
    ");

    let mut writer = start(&[], &[tensor("a", &[32])]).unwrap();
    writer.write("a", &[0; 34]).unwrap();
    let message = folder.neutral(writer.write("a", &[0]).unwrap_err());
    insta::assert_snapshot!(message, @"DIR/out.gguf: `a` comes after the last tensor");
}
