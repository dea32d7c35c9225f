//! Checkpoints that libraries quantised: values as these define them, and errors that name file and tensor.

use std::collections::BTreeSet;
use std::path::PathBuf;

use larql_compute::Format;
use larql_models::{Checkpoint, Role, SafetensorsFile, Shape, WeightSource};
use proptest::prelude::*;
use safetensors::Dtype;

use crate::tiny::{Tiny, Written};

fn folders() -> Vec<PathBuf> {
    let set = std::fs::read_dir(larql_testing::repository("quantised")).unwrap();
    let mut folders: Vec<PathBuf> =
        set.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn tiny(name: &str) -> Tiny {
    Tiny::read(&larql_testing::repository("quantised").join(name))
}

/// The quantised matrices of a checkpoint.
fn quantised(checkpoint: &Checkpoint) -> Vec<(Role, usize)> {
    let tensors = checkpoint.spec().tensors().into_iter();
    let matrices = tensors.filter_map(|(role, shape)| match shape {
        Shape::Matrix(rows, _) => Some((role, rows)),
        Shape::Vector(_) => None,
    });
    matrices.filter(|(role, _)| checkpoint.defined_rows(*role, 0..0).unwrap().is_some()).collect()
}

#[test]
fn values_are_those_of_the_libraries() {
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let exact = SafetensorsFile::open(&folder.join("exact.safetensors")).unwrap();
        let [exact] = exact.tensors() else { panic!("one tensor") };
        let mut expected = vec![0.0; exact.bytes.len() / 4];
        Format::F32.decode(&exact.bytes, &mut expected);
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let difference = |role: Role, rows: usize| {
            let found = checkpoint.defined_rows(role, 0..rows).unwrap().unwrap();
            let same_size = found.len() == expected.len();
            let pairs = found.iter().zip(&expected);
            let difference = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            if same_size { difference } else { f32::INFINITY }
        };
        let differences = quantised(&checkpoint).into_iter().map(|(role, rows)| difference(role, rows));
        let least = differences.fold(f32::INFINITY, f32::min);
        // bitsandbytes works in half precision where it has no better.
        let allowed = if folder.ends_with("bnb-int8-mistral") { 1e-3 } else { 1e-6 };
        assert!(least <= allowed * largest, "{}: {} by {least}", folder.display(), exact.name);
    }
}

#[test]
fn formats_of_integers_keep_their_codes() {
    let expected = [
        ("gptq-4-sym-llama", Format::Q4_0),
        ("gptq-4-asym-qwen2", Format::Q4_1),
        ("gptq-4-act-order-mistral", Format::Q8_0),
        ("gptq-8-sym-gemma2", Format::Q8_0),
        ("gptq-8-asym-olmo2", Format::AFFINE8),
        ("gptq-3-llama", Format::Q4_0),
        ("awq-llama", Format::Q4_1),
        ("ct-pack-4-sym-llama", Format::Q4_0),
        ("ct-pack-8-mistral", Format::Q8_0),
        ("ct-int-8-asym-qwen3", Format::AFFINE8),
        ("bnb-nf4-llama", Format::Q8_0),
        ("fp8-tiles-qwen3", Format::Q8_0),
    ];
    for (name, format) in expected {
        let checkpoint = Checkpoint::open(&larql_testing::repository("quantised").join(name)).unwrap();
        let formats: BTreeSet<Format> = quantised(&checkpoint)
            .into_iter()
            .map(|(role, _)| checkpoint.matrix(role).unwrap().format())
            .collect();
        assert_eq!(formats, BTreeSet::from([format]), "{name}");
    }
}

/// Matrices that keep their codes differ from the source by the rounding of their factors, others by that of 8 bits.
#[test]
fn blocks_are_near_to_the_values() {
    for folder in folders() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let all = quantised(&checkpoint);
        assert!(all.len() >= 8, "{}", folder.display());
        for (role, rows) in all {
            let exact = checkpoint.defined_rows(role, 0..rows).unwrap().unwrap();
            let matrix = checkpoint.matrix(role).unwrap();
            let largest = exact.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let allowed = match matrix.format() {
                Format::AFFINE8 => 1e-6,
                Format::Q4_0 => 5e-4,
                Format::Q4_1 => 2e-3,
                _ => 4.6e-3,
            };
            for (exact, near) in exact.iter().zip(matrix.view().to_f32()) {
                assert!((exact - near).abs() <= allowed * largest, "{} {role}", folder.display());
            }
            // Rows are found wherever one begins.
            assert_eq!(
                checkpoint.defined_rows(role, 3..5).unwrap().unwrap(),
                exact[3 * matrix.cols()..5 * matrix.cols()]
            );
        }
    }
}

#[test]
fn a_configuration_of_gptqs_first_tools_lies_beside_the_model() {
    let mut tiny = tiny("gptq-4-sym-llama");
    let settings = tiny.config.as_object_mut().unwrap().shift_remove("quantization_config").unwrap();
    // AutoGPTQ wrote biases of zeros for layers without.
    let name = "model.layers.0.mlp.up_proj.bias";
    tiny.tensors.insert(name.into(), (Dtype::F16, vec![96], vec![0; 192]));
    let written = tiny.write().with("quantize_config.json", settings.to_string());
    assert_eq!(quantised(&Checkpoint::open(written.path()).unwrap()).len(), 14);
}

const DOWN: &str = "model.layers.0.mlp.down_proj";

/// The first error of a checkpoint after a change of one tensor of a matrix.
fn damaged(name: &str, part: &str, change: impl Fn(&mut Dtype, &mut Vec<usize>, &mut Vec<u8>)) -> String {
    let mut tiny = tiny(name);
    let key = format!("{DOWN}.{part}");
    let (dtype, shape, bytes) = tiny.tensors.get_mut(&key).unwrap();
    change(dtype, shape, bytes);
    refused(&tiny.write())
}

fn missing(name: &str, part: &str) -> String {
    refused(&tiny(name).without(&format!("{DOWN}.{part}")).write())
}

fn refused(written: &Written) -> String {
    let found = Checkpoint::open(written.path()).and_then(|checkpoint| {
        quantised(&checkpoint).into_iter().try_for_each(|(role, _)| checkpoint.matrix(role).map(|_| ()))
    });
    written.neutral(found.expect_err("a damaged checkpoint"))
}

/// Leaves out the last row.
#[allow(clippy::ptr_arg, reason = "a change may give another number of dimensions")]
fn cut(_: &mut Dtype, shape: &mut Vec<usize>, bytes: &mut Vec<u8>) {
    let row = bytes.len() / shape[0];
    shape[0] -= 1;
    bytes.truncate(bytes.len() - row);
}

fn fill(value: u8) -> impl Fn(&mut Dtype, &mut Vec<usize>, &mut Vec<u8>) {
    move |_, _, bytes| bytes.fill(value)
}

#[test]
fn damage_is_named_by_file_and_tensor() {
    let messages = [
        missing("gptq-4-sym-llama", "scales"),
        missing("gptq-4-sym-llama", "qzeros"),
        damaged("gptq-4-sym-llama", "scales", cut),
        damaged("gptq-4-sym-llama", "qweight", cut),
        damaged("gptq-4-sym-llama", "qzeros", cut),
        damaged("gptq-4-sym-llama", "scales", fill(0xff)),
        damaged("gptq-4-act-order-mistral", "g_idx", fill(9)),
        damaged("gptq-4-act-order-mistral", "g_idx", cut),
        missing("awq-llama", "scales"),
        damaged("awq-llama", "qzeros", cut),
        missing("fp8-tiles-qwen3", "weight_scale_inv"),
        damaged("fp8-tiles-qwen3", "weight_scale_inv", cut),
        damaged("fp8-tiles-qwen3", "weight", fill(0x7f)),
        damaged("fp8-tiles-qwen3", "weight", |dtype, _, _| *dtype = Dtype::F8_E5M2),
        damaged("fp8-channel-llama", "weight_scale", cut),
        missing("ct-pack-4-asym-granite", "weight_shape"),
        damaged("ct-pack-4-asym-granite", "weight_shape", fill(1)),
        damaged("ct-pack-4-asym-granite", "weight_zero_point", cut),
        damaged("ct-pack-4-asym-granite", "weight_packed", cut),
        damaged("ct-int-8-asym-qwen3", "weight_zero_point", cut),
        missing("bnb-nf4-llama", "weight.absmax"),
        missing("bnb-nf4-llama", "weight.quant_state.bitsandbytes__nf4"),
        damaged("bnb-nf4-llama", "weight.quant_state.bitsandbytes__nf4", fill(b'{')),
        damaged("bnb-nf4-llama", "weight.quant_map", cut),
        damaged("bnb-nf4-llama", "weight", cut),
        missing("bnb-int8-mistral", "SCB"),
        damaged("bnb-int8-mistral", "SCB", cut),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qweight`: expected `model.layers.0.mlp.down_proj.scales` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qweight`: expected `model.layers.0.mlp.down_proj.qzeros` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.scales`: expected [3, 64], a scale for each group of 32 inputs, of 96, and each output, found [2, 64]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qweight`: expected [12, 64], codes of 4 bits for 96 inputs and 64 outputs, found [11, 64]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qzeros`: expected [3, 8], zero points of 4 bits for 3 groups and 64 outputs, found [2, 8]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.scales`: expected finite scales, found the scale NaN for group 0 of output 0; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.g_idx`: expected groups from 0 to 2, as there are scales, found 151587081 for input 0; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.g_idx`: expected [96], the group of each input, found [95]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qweight`: expected `model.layers.0.mlp.down_proj.scales` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.qzeros`: expected [3, 8], zero points of 4 bits for 3 groups and 64 outputs, found [2, 8]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected `model.layers.0.mlp.down_proj.weight_scale` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_scale_inv`: expected [2, 3], a scale for each tile of 32 x 32 values, found [1, 3]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected numbers, found NaN for input 0 of output 0; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected 8-bit floats of type F8_E4M3, as weights have, found F8_E5M2; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_scale`: expected [64, groups], with a scale for each group of 96 inputs, or [1], found [63, 1]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_packed`: expected `model.layers.0.mlp.down_proj.weight_shape` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_shape`: expected [64, 96], by the model's configuration, found [72340172838076673, 72340172838076673]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_zero_point`: expected [8, 3], zero points of 4 bits for 64 outputs and 3 groups, found [7, 3]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_packed`: expected [64, words] with codes of 2 to 8 bits for 96 inputs, found [63, 12]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight_zero_point`: expected [64, 1], a zero point for each scale, found [63, 1]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected `model.layers.0.mlp.down_proj.weight.absmax` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected `model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4`: expected a JSON object with `blocksize` and `shape`, found key must be a string at line 1 column 2; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight.quant_map`: expected [16], the level of each code, found [15]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected 3072 bytes, two of 64 x 96 codes in each, found [3071, 1]; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.weight`: expected `model.layers.0.mlp.down_proj.SCB` beside it, found no such tensor; download the checkpoint again, or quantise the model again
    DIR/model.safetensors: tensor `model.layers.0.mlp.down_proj.SCB`: expected [64], a scale for each output, found [63]; download the checkpoint again, or quantise the model again
    ");
}

/// A change of one tensor that belongs to a quantised matrix.
#[derive(Clone, Debug)]
enum Change {
    Shape(prop::sample::Index, usize),
    Type(Dtype),
    Bytes(u8),
    Flip(prop::sample::Index, u8),
    Absent,
}

fn change() -> impl Strategy<Value = Change> {
    let types = vec![Dtype::F32, Dtype::BF16, Dtype::I32, Dtype::U8, Dtype::I8, Dtype::F8_E4M3, Dtype::I64];
    let sizes = prop::sample::select(vec![0, 1, 2, 7, 63, 64, 1 << 20]);
    prop_oneof![
        (any::<prop::sample::Index>(), sizes).prop_map(|(at, size)| Change::Shape(at, size)),
        prop::sample::select(types).prop_map(Change::Type),
        any::<u8>().prop_map(Change::Bytes),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        Just(Change::Absent),
    ]
}

fn apply(change: &Change, tiny: &mut Tiny, name: &str) {
    let Some((dtype, shape, bytes)) = tiny.tensors.get_mut(name) else { return };
    match change {
        Change::Shape(at, size) if !shape.is_empty() => {
            let at = at.index(shape.len());
            shape[at] = *size;
        }
        Change::Shape(..) => shape.push(2),
        Change::Type(new) => *dtype = *new,
        Change::Bytes(byte) => bytes.fill(*byte),
        Change::Flip(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Flip(..) => {}
        Change::Absent => {
            tiny.tensors.remove(name);
            return;
        }
    }
    // As many bytes as the header needs, so that the container is sound.
    let values: usize = shape.iter().product();
    if values > 1 << 20 {
        tiny.tensors.remove(name);
    } else {
        bytes.resize(values * dtype.bitsize() / 8, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_tensors_are_refused_or_read(
        folder in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..3),
    ) {
        let folders = folders();
        let mut tiny = Tiny::read(&folders[folder.index(folders.len())]);
        // Those of the first layer, so that each is hit.
        let names: Vec<String> =
            tiny.tensors.keys().filter(|name| name.contains("layers.0.")).cloned().collect();
        for (name, change) in &changes {
            apply(change, &mut tiny, &names[name.index(names.len())]);
        }
        let written = tiny.write();
        if let Ok(checkpoint) = Checkpoint::open(written.path()) {
            for (role, _) in quantised(&checkpoint) {
                let _ = checkpoint.matrix(role);
            }
        }
    }
}
