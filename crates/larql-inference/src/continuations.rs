//! Greedy continuations of many prompts.

use crate::{KeyValueCache, Model, PassError, Sequence, greedy};

/// Prompts of one batch.
const PROMPTS_AT_ONCE: usize = 64;

/// Continues each prompt by its number of most likely tokens, one after another. Returns the new tokens of each prompt, in
/// the order of the prompts.
///
/// # Errors
/// If a prompt is empty, a token is outside the model, or a pass is cancelled or fails.
pub fn greedy_continuations(model: &Model, prompts: &[(&[u32], usize)]) -> Result<Vec<Vec<u32>>, PassError> {
    let mut continuations = vec![Vec::new(); prompts.len()];
    // Long continuations are computed together, so that a batch shrinks late.
    let mut order: Vec<usize> = (0..prompts.len()).filter(|index| prompts[*index].1 > 0).collect();
    order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].1));
    for batch in order.chunks(PROMPTS_AT_ONCE) {
        let mut caches: Vec<_> = batch.iter().map(|_| KeyValueCache::new(model.spec())).collect();
        let mut next: Vec<Vec<u32>> = batch.iter().map(|index| prompts[*index].0.to_vec()).collect();
        for step in 0.. {
            next.truncate(batch.partition_point(|index| prompts[*index].1 > step));
            if next.is_empty() {
                break;
            }
            let mut sequences: Vec<Sequence<'_>> =
                next.iter().zip(&mut caches).map(|(tokens, cache)| Sequence::new(cache, tokens)).collect();
            let logits = model.pass().run(&mut sequences)?.into_values();
            next = logits.chunks_exact(model.spec().vocab_size).map(|row| vec![greedy(row)]).collect();
            batch.iter().zip(&next).for_each(|(index, token)| continuations[*index].extend(token));
        }
    }
    Ok(continuations)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larql_compute::Pool;
    use larql_models::Checkpoint;

    use super::*;

    #[test]
    fn a_batch_continues_each_prompt_as_alone() {
        let folder = larql_testing::repository("conformance").join("llama");
        let model = Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(1))).unwrap();
        let prompts: [(&[u32], usize); 4] = [(&[1, 2, 3], 2), (&[4], 0), (&[5, 6], 4), (&[7, 8, 9, 10], 1)];
        let together = greedy_continuations(&model, &prompts).unwrap();
        for ((prompt, length), continuation) in prompts.into_iter().zip(&together) {
            assert_eq!(continuation.len(), length);
            let mut text = prompt.to_vec();
            for token in continuation {
                let logits = model.pass().last_logits(&mut KeyValueCache::new(model.spec()), &text).unwrap();
                assert_eq!(greedy(&logits), *token);
                text.push(*token);
            }
        }
        assert!(greedy_continuations(&model, &[(&[], 1)]).is_err());
    }
}
