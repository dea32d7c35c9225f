//! Speed of a model on this machine: times of passes, and the bytes of weights that a decoded token reads.

use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_inference::{KeyValueCache, Model, PassError, predictions};
use larql_models::{LayerRole, ModelError, Role, Shape, WeightSource};

/// Times one pass over `tokens`. Returns the time and the logits of the last token, `[vocab]`.
///
/// # Errors
/// If there are no tokens or outside what the model can take.
pub fn time_pass(
    model: &Model,
    cache: &mut KeyValueCache,
    tokens: &[u32],
    precision: Precision,
) -> Result<(Duration, Vec<f32>), PassError> {
    let started = Instant::now();
    let logits = model.pass().with_precision(precision).last_logits(cache, tokens)?;
    Ok((started.elapsed(), logits))
}

/// Times the passes of `count` decoded tokens after `prompt`, each token the likeliest after the one before. Choosing it is
/// not timed.
///
/// # Errors
/// As [`time_pass`].
pub fn time_decoding(
    model: &Model,
    cache: &mut KeyValueCache,
    prompt: &[u32],
    count: usize,
    precision: Precision,
) -> Result<Duration, PassError> {
    let (_, mut logits) = time_pass(model, cache, prompt, precision)?;
    let mut taken = Duration::ZERO;
    for _ in 0..count {
        let token = predictions(&logits, 1)[0].token;
        let (pass, next) = time_pass(model, cache, &[token], precision)?;
        (taken, logits) = (taken + pass, next);
    }
    Ok(taken)
}

/// Bytes of weights that decoding one token reads: every matrix that is multiplied, those of experts as often as a
/// router chooses one. Of embeddings only a row is read, which does not count; keys and values come on top.
///
/// # Errors
/// If a matrix is not there.
pub fn weight_bytes_per_token(source: &dyn WeightSource) -> Result<u64, ModelError> {
    let spec = source.spec();
    let mut bytes = 0.0;
    for (role, shape) in spec.tensors() {
        let Shape::Matrix(..) = shape else { continue };
        let share = match role {
            Role::Embedding if spec.tied_head => 1.0,
            Role::Embedding | Role::PositionEmbedding | Role::PerLayerEmbedding => continue,
            Role::Layer(
                layer,
                LayerRole::ExpertGate(_) | LayerRole::ExpertUp(_) | LayerRole::ExpertDown(_),
            ) => {
                let mixture = spec.layers[layer].feed_forward.mixture();
                mixture.map_or(1.0, |mixture| mixture.router.chosen as f64 / mixture.experts as f64)
            }
            _ => 1.0,
        };
        bytes += share * source.matrix(role)?.bytes().len() as f64;
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use larql_models::Checkpoint;

    use super::*;

    fn weight_bytes(checkpoint: &str) -> u64 {
        let path = larql_testing::repository("conformance").join(checkpoint);
        weight_bytes_per_token(&Checkpoint::open(&path).unwrap()).unwrap()
    }

    #[test]
    fn a_token_reads_every_matrix_but_the_experts_that_it_does_not_pass() {
        // From the sizes in the files: the embedding of 65536 bytes is not read whole.
        assert_eq!(weight_bytes("llama"), 622_592);
        // Two of six experts, which are 442368 bytes together.
        assert_eq!(weight_bytes("mixtral"), 217_600 + 442_368 / 3);
    }
}
