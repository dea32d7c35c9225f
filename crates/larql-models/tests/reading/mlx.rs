//! Checkpoints that MLX quantised, against what MLX itself makes of them.

use larql_compute::Format;
use larql_models::{Checkpoint, CheckpointKind, Encoding, Role, SafetensorsFile, Shape, WeightSource};

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
