//! Speed of a model on this machine: times of passes, and the bytes of weights that a decoded token reads.

use std::time::{Duration, Instant};

use larql_compute::Precision;
use larql_compute::attention::KeyValueFormat;
use larql_inference::{Batching, KeyValueCache, Model, PassError, Sequence, predictions};
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

/// Times `count` passes that decode one token for each of several sequences together, as a server does: each token is the
/// likeliest after the one before, and no sequence gets other bits than alone. Reading the prompts and choosing tokens is
/// not timed.
///
/// # Errors
/// As [`time_pass`].
pub fn time_decoding_together(
    model: &Model,
    prompts: &[Vec<u32>],
    count: usize,
    (precision, key_values): (Precision, KeyValueFormat),
) -> Result<Duration, PassError> {
    let (mut caches, mut tokens) = (Vec::new(), Vec::new());
    for prompt in prompts {
        let mut cache = KeyValueCache::new(model.spec()).with_format(key_values);
        let (_, logits) = time_pass(model, &mut cache, prompt, precision)?;
        caches.push(cache);
        tokens.push([predictions(&logits, 1)[0].token]);
    }
    let mut taken = Duration::ZERO;
    for _ in 0..count {
        let sequences = caches.iter_mut().zip(&tokens).map(|(cache, token)| Sequence::new(cache, token));
        let mut sequences: Vec<Sequence<'_>> = sequences.collect();
        let mut pass = model.pass().with_precision(precision).with_batching(Batching::Independent);
        let started = Instant::now();
        let logits = pass.run(&mut sequences)?;
        taken += started.elapsed();
        tokens = (0..prompts.len()).map(|sequence| [predictions(logits.of(sequence), 1)[0].token]).collect();
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
