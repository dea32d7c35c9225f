//! Checkpoints that MLX quantised, against what MLX itself makes of them.

use std::collections::BTreeMap;

use larql_compute::Format;
use larql_models::{
    Checkpoint, CheckpointKind, Encoding, LayerRole, Role, SafetensorsFile, Shape, WeightSource,
};
use safetensors::Dtype;

use crate::tiny::Tiny;

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&larql_testing::repository("mlx").join(name)).unwrap()
}

#[test]
fn values_are_those_of_mlx() {
    for (name, format) in [("4-bit", Format::Q4_1), ("8-bit", Format::AFFINE8)] {
        let checkpoint = checkpoint(name);
        assert_eq!(checkpoint.kind(), CheckpointKind::Mlx);
        let expected = SafetensorsFile::open(&checkpoint.path().join("expected.safetensors")).unwrap();
        let mut compared = 0;
        for (role, shape) in checkpoint.spec().tensors() {
            let name = match role {
                Role::Head => role.tensor_name(false),
                role => format!("model.{}", role.tensor_name(false)),
            };
            let Some(expected) = expected.tensors().iter().find(|tensor| tensor.name == name) else {
                continue;
            };
            assert_eq!(expected.encoding, Encoding::Format(Format::F32));
            let matrix = checkpoint.matrix(role).unwrap();
            assert_eq!(
                (matrix.format(), Shape::Matrix(matrix.rows(), matrix.cols())),
                (format, shape),
                "{name}"
            );
            let expected: Vec<f32> =
                expected.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            for (found, expected) in matrix.view().to_f32().iter().zip(&expected) {
                // MLX may round the product before it adds.
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(0.1),
                    "{name}: {found} for {expected}"
                );
            }
            compared += 1;
        }
        assert!(compared > 10, "{compared}");
    }
}

/// A checkpoint with a mixture as the hub has it, a tensor for each expert, and the same as mlx-lm stacks the experts.
fn apart_and_stacked(folder: &str, tensors: BTreeMap<String, Stored>) -> [Tiny; 2] {
    let mut apart = Tiny::llama();
    let config = larql_testing::repository("conformance").join(folder).join("config.json");
    apart.config = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    apart.metadata = vec![("format".into(), "mlx".into())];
    let mut stacked =
        Tiny { config: apart.config.clone(), metadata: apart.metadata.clone(), tensors: BTreeMap::new() };
    let mut experts: BTreeMap<String, BTreeMap<usize, Stored>> = BTreeMap::new();
    for (name, tensor) in &tensors {
        let Some((module, rest)) = name.split_once(".experts.") else {
            stacked.tensors.insert(name.clone(), tensor.clone());
            continue;
        };
        let (expert, projection) = rest.split_once('.').unwrap();
        let projection =
            projection.replace("w1", "gate_proj").replace("w2", "down_proj").replace("w3", "up_proj");
        let all = experts.entry(format!("{module}.switch_mlp.{projection}")).or_default();
        all.insert(expert.parse().unwrap(), tensor.clone());
    }
    for (name, experts) in experts {
        let (kind, shape, _) = &experts[&0];
        let shape = [&[experts.len()], &shape[..]].concat();
        let bytes = experts.values().flat_map(|(_, _, bytes)| bytes.clone()).collect();
        stacked.tensors.insert(name, (*kind, shape, bytes));
    }
    apart.tensors = tensors;
    [apart, stacked]
}

type Stored = (Dtype, Vec<usize>, Vec<u8>);

fn assert_same_weights([apart, stacked]: [Tiny; 2], format: Format) {
    let (apart, stacked) = (apart.write(), stacked.write());
    let [apart, stacked] = [&apart, &stacked].map(|written| Checkpoint::open(written.path()).unwrap());
    assert_eq!(stacked.kind(), CheckpointKind::Mlx);
    let mut experts = 0;
    for (role, shape) in apart.spec().tensors() {
        if let Shape::Matrix(..) = shape {
            let (apart, stacked) = (apart.matrix(role).unwrap(), stacked.matrix(role).unwrap());
            assert_eq!((apart.bytes(), apart.format()), (stacked.bytes(), stacked.format()), "{role}");
            if let Role::Layer(_, LayerRole::ExpertGate(_)) = role {
                experts += 1;
                assert_eq!(stacked.format(), format);
            }
        }
    }
    assert!(experts > 4, "{experts}");
}

#[test]
fn experts_of_a_layer_may_be_stacked() {
    for folder in ["qwen3_moe", "mixtral"] {
        let hub = Checkpoint::open(&larql_testing::repository("conformance").join(folder)).unwrap();
        let tensors = hub.tensors().iter();
        let floats: BTreeMap<String, Stored> = tensors
            .map(|tensor| (tensor.name.clone(), (Dtype::F32, tensor.shape.clone(), tensor.bytes.to_vec())))
            .collect();
        assert_same_weights(apart_and_stacked(folder, floats.clone()), Format::F32);
        // The same shapes with any codes in groups of 32, in four bits.
        let mut codes = 1u32;
        let mut any = |count: usize| {
            let mut next = || {
                codes = codes.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (codes >> 24) as u8
            };
            (0..count).map(|_| next()).collect::<Vec<u8>>()
        };
        let mut in_groups = BTreeMap::new();
        for (name, (kind, shape, bytes)) in floats {
            let (Some(stem), [outputs, inputs]) = (name.strip_suffix(".weight"), &shape[..]) else {
                in_groups.insert(name, (kind, shape, bytes));
                continue;
            };
            if !name.contains(".experts.") || inputs % 32 != 0 {
                in_groups.insert(name, (kind, shape, bytes));
                continue;
            }
            for factors in ["scales", "biases"] {
                let halves = any(outputs * inputs / 32).into_iter().flat_map(|byte| [byte, 0x30]).collect();
                in_groups
                    .insert(format!("{stem}.{factors}"), (Dtype::F16, vec![*outputs, inputs / 32], halves));
            }
            in_groups
                .insert(name.clone(), (Dtype::U32, vec![*outputs, inputs / 8], any(outputs * inputs / 2)));
        }
        assert_same_weights(apart_and_stacked(folder, in_groups), Format::Q4_1);
    }
}
