//! GGUF files: values, layout, and the models they describe.

use larql_compute::rotary::{Pairing, Scaling};
use larql_models::{Checkpoint, GgufFile, GgufValue, LayerRole, ModelSpec, Role, WeightSource};

use crate::conformance::read_all;
use crate::gguf_writer::{ARRAY, BOOL, GgufWriter};
use crate::tiny::{Tiny, Written, llama_gguf};

fn parse(writer: &GgufWriter) -> GgufFile {
    GgufFile::parse(writer.bytes().into(), "tiny.gguf".as_ref()).unwrap()
}

fn open(writer: &GgufWriter) -> Checkpoint {
    Checkpoint::from_gguf(parse(writer)).unwrap()
}

#[test]
fn every_type_of_value_is_read() {
    let mut writer = GgufWriter::new("none");
    let numbers: [(u32, Vec<u8>, f64); 10] = [
        (0, vec![200], 200.0),
        (1, vec![0xff], -1.0),
        (2, 60_000u16.to_le_bytes().into(), 60_000.0),
        (3, (-2i16).to_le_bytes().into(), -2.0),
        (4, 4_000_000_000u32.to_le_bytes().into(), 4e9),
        (5, (-3i32).to_le_bytes().into(), -3.0),
        (6, 0.5f32.to_le_bytes().into(), 0.5),
        (10, (1u64 << 40).to_le_bytes().into(), (1u64 << 40) as f64),
        (11, (-4i64).to_le_bytes().into(), -4.0),
        (12, 0.1f64.to_le_bytes().into(), 0.1),
    ];
    for (number, bytes, _) in &numbers {
        writer.raw(&number.to_string(), *number, bytes);
    }
    writer.raw("flag", BOOL, &[1]);
    writer.texts("words", &["one", "zwei", "три"]);
    writer.raw("pair", ARRAY, &[&[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..], &[7, 9]].concat());

    let file = parse(&writer);
    for (number, _, expected) in numbers {
        assert_eq!(file.get(&number.to_string()).unwrap().as_f64(), Some(expected));
    }
    assert_eq!(file.get("flag").unwrap().as_bool(), Some(true));
    let words = file.get("words").unwrap().as_array().unwrap();
    assert_eq!(words.strings().unwrap(), ["one", "zwei", "три"]);
    let pair = file.get("pair").unwrap().as_array().unwrap();
    assert_eq!(pair.iter().collect::<Vec<_>>(), [GgufValue::U8(7), GgufValue::U8(9)]);
    assert!(pair.strings().is_none());
}

#[test]
fn long_values_are_cut_short_where_they_are_shown() {
    let mut writer = GgufWriter::new("none");
    writer.text("template", &"{% if x %}\n".repeat(50));
    writer.texts("tokens", &["<s>"; 1000]);
    let file = parse(&writer);
    let shown: Vec<String> = file.metadata().map(|(key, value)| format!("{key} = {value}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    general.architecture = "none"
    template = "{% if x %}\n{% if x %}\n{% if x %}\n{% if x %}\n{% if x %}\n{% if x %}\n{% if x %}\n{% ..."
    tokens = ["<s>", "<s>", "<s>", "<s>", "<s>", "<s>", ... 1000 in all]
    "#);
}

#[test]
fn version_2_and_other_alignments_are_read() {
    let mut writer = llama_gguf();
    writer.version = 2;
    writer.alignment = 64;
    writer.u32("general.alignment", 64);
    let file = parse(&writer);
    assert_eq!((file.version(), file.alignment()), (2, 64));
    let norm = file.tensor("blk.0.attn_norm.weight").unwrap();
    assert_eq!(norm.offset % 64, 0);
    assert_eq!(norm.bytes[28..], 7f32.to_le_bytes());
}

#[test]
fn a_llama_file_describes_the_model_of_the_configuration() {
    let gguf = open(&llama_gguf());
    read_all(&gguf);
    let written = Tiny::llama().write();
    let mut expected: ModelSpec = Checkpoint::open(written.path()).unwrap().spec().clone();
    for layer in &mut expected.layers {
        layer.attention.rotary.as_mut().unwrap().pairing = Pairing::Interleaved;
    }
    assert_eq!(*gguf.spec(), expected);
    let special = gguf.text().special_tokens().unwrap();
    assert_eq!((special.bos, special.eos.as_slice()), (Some(3), &[4][..]));
}

#[test]
fn a_directory_with_one_gguf_file_is_that_file() {
    let written = Written::new().with("tiny.gguf", llama_gguf().bytes());
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    assert_eq!(checkpoint.path(), written.path());
    assert_eq!(checkpoint.weight_files(), [written.file("tiny.gguf")]);
}

#[test]
fn a_missing_output_matrix_means_a_tied_head() {
    let checkpoint = open(&llama_gguf().without("output.weight"));
    assert!(checkpoint.spec().tied_head);
    read_all(&checkpoint);
}

#[test]
fn frequency_factors_become_part_of_the_rotation() {
    let mut writer = llama_gguf();
    writer.tensor_of("rope_freqs.weight", &[2], 0, [1f32.to_le_bytes(), 8f32.to_le_bytes()].concat(), None);
    let checkpoint = open(&writer);
    let rotary = checkpoint.spec().layers[0].attention.rotary.as_ref().unwrap();
    let Scaling::LongRope { short_factor, long_factor, attention_factor, .. } = &rotary.scaling else {
        panic!("{rotary:?}")
    };
    assert_eq!((short_factor, long_factor, *attention_factor), (&vec![1.0, 8.0], &vec![1.0, 8.0], 1.0));
}

#[test]
fn per_layer_lists_that_say_one_thing_are_one_value() {
    let mut writer = llama_gguf();
    writer.raw(
        "llama.vocab_size",
        ARRAY,
        &[&4u32.to_le_bytes()[..], &2u64.to_le_bytes(), &5u32.to_le_bytes(), &5u32.to_le_bytes()].concat(),
    );
    assert_eq!(open(&writer).spec().vocab_size, 5);
}

#[test]
fn gpt2_files_are_fused_but_not_transposed() {
    let mut writer = GgufWriter::new("gpt2");
    for (key, value) in [
        ("context_length", 16),
        ("embedding_length", 4),
        ("block_count", 1),
        ("feed_forward_length", 6),
        ("attention.head_count", 2),
    ] {
        writer.u32(&format!("gpt2.{key}"), value);
    }
    writer.f32("gpt2.attention.layer_norm_epsilon", 1e-5);
    for (name, shape) in [
        ("token_embd.weight", &[5, 4][..]),
        ("position_embd.weight", &[16, 4]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.attn_norm.bias", &[4]),
        ("blk.0.attn_qkv.weight", &[12, 4]),
        ("blk.0.attn_qkv.bias", &[12]),
        ("blk.0.attn_output.weight", &[4, 4]),
        ("blk.0.attn_output.bias", &[4]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_norm.bias", &[4]),
        ("blk.0.ffn_up.weight", &[6, 4]),
        ("blk.0.ffn_up.bias", &[6]),
        ("blk.0.ffn_down.weight", &[4, 6]),
        ("blk.0.ffn_down.bias", &[4]),
        ("output_norm.weight", &[4]),
        ("output_norm.bias", &[4]),
    ] {
        writer.tensor(name, shape);
    }
    let checkpoint = open(&writer);
    read_all(&checkpoint);
    let key = checkpoint.matrix(Role::Layer(0, LayerRole::Key)).unwrap().view().to_f32();
    assert_eq!(key, (16..32).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(checkpoint.vector(Role::Layer(0, LayerRole::ValueBias)).unwrap(), [8.0, 9.0, 10.0, 11.0]);
}
