//! Gradients of [`attend`](super::attend()).

use std::ops::Range;

use super::{AttentionShape, KEYS_SIDE_BY_SIDE, KeyValueView};
use crate::Pool;
use crate::activation::{self, soft_cap, soft_cap_derivative};
use crate::vector::{axpy, dot};

/// The gradients of what the last tokens of a sequence brought to an attention layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionGradient {
    /// `[tokens, heads * head_dim]`
    pub queries: Vec<f32>,
    /// `[tokens, kv_heads * head_dim]`
    pub keys: Vec<f32>,
    /// `[tokens, kv_heads * value_dim]`
    pub values: Vec<f32>,
}

/// The gradients of queries, keys and values of the last tokens of a sequence, for `gradient`,
/// `[tokens, heads * value_dim]`, that of [`attend`](super::attend())'s output for the same `cache` and `queries`.
/// Earlier positions count as constants. In plain loops: the products around attention take most of the time.
///
/// # Panics
/// As [`attend`](super::attend()), or if `gradient` has the wrong size.
pub fn attend_gradient(
    pool: &Pool,
    shape: &AttentionShape,
    cache: &dyn KeyValueView,
    queries: &[f32],
    gradient: &[f32],
) -> AttentionGradient {
    let AttentionShape { heads, kv_heads, head_dim, value_dim, .. } = *shape;
    assert!(cache.shape() == [kv_heads, head_dim, value_dim]);
    let tokens = queries.len() / (heads * head_dim);
    assert!(queries.len() == tokens * heads * head_dim && gradient.len() == tokens * heads * value_dim);
    let first = cache.len().checked_sub(tokens).expect("the cache holds the queries' own positions");

    let mut parts: Vec<Head> = Vec::new();
    parts.resize_with(kv_heads, || Head {
        queries: vec![0.0; tokens * heads / kv_heads * head_dim],
        keys: vec![0.0; tokens * head_dim],
        values: vec![0.0; tokens * value_dim],
    });
    pool.for_each_piece(&mut parts, 1, |kv_head, parts| {
        for (kv_head, part) in (kv_head..).zip(parts) {
            part.fill(shape, cache, (kv_head, first), queries, gradient);
        }
    });

    let group = heads / kv_heads * head_dim;
    let join = |width: usize, of: &dyn Fn(&Head) -> &[f32]| {
        let part = |token: usize| parts.iter().flat_map(move |head| &of(head)[token * width..][..width]);
        (0..tokens).flat_map(part).copied().collect()
    };
    AttentionGradient {
        queries: join(group, &|head| &head.queries),
        keys: join(head_dim, &|head| &head.keys),
        values: join(value_dim, &|head| &head.values),
    }
}

/// The gradients of one key head and of the query heads that read it, token by token.
struct Head {
    /// `[tokens, heads / kv_heads, head_dim]`
    queries: Vec<f32>,
    /// `[tokens, head_dim]`
    keys: Vec<f32>,
    /// `[tokens, value_dim]`
    values: Vec<f32>,
}

impl Head {
    fn fill(
        &mut self,
        shape: &AttentionShape,
        cache: &dyn KeyValueView,
        (kv_head, first): (usize, usize),
        queries: &[f32],
        gradient: &[f32],
    ) {
        let (dim, value_dim, group) = (shape.head_dim, shape.value_dim, shape.heads / shape.kv_heads);
        let (keys, values) = decoded(cache, kv_head, dim);
        let (key, value) =
            (|s: usize| &keys[s * dim..][..dim], |s: usize| &values[s * value_dim..][..value_dim]);
        for (token, end) in (first + 1..=cache.len()).enumerate() {
            let visible = shape.visible(end - 1);
            for head in 0..group {
                let row = token * shape.heads + kv_head * group + head;
                let (query, out) = (&queries[row * dim..][..dim], &gradient[row * value_dim..][..value_dim]);
                let (weights, slopes) = weights(shape, row % shape.heads, query, visible.clone().map(key));
                let pushes: Vec<f32> = visible.clone().map(|s| dot(out, value(s))).collect();
                let mean = dot(&weights, &pushes);
                let own = &mut self.queries[(token * group + head) * dim..][..dim];
                for (i, position) in visible.clone().enumerate() {
                    let score = weights[i] * (pushes[i] - mean) * slopes[i];
                    axpy(score, key(position), own);
                    if let Some(new) = position.checked_sub(first) {
                        axpy(score, query, &mut self.keys[new * dim..][..dim]);
                        axpy(weights[i], out, &mut self.values[new * value_dim..][..value_dim]);
                    }
                }
            }
        }
    }
}

/// For each key the softmax weight that a query gives it, and how its score grows with the product of the two.
fn weights<'a>(
    shape: &AttentionShape,
    head: usize,
    query: &[f32],
    keys: impl Iterator<Item = &'a [f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let mut scores: Vec<f32> = keys.map(|key| dot(query, key) * shape.scale).collect();
    let mut slopes = vec![shape.scale; scores.len()];
    if let Some(cap) = shape.soft_cap {
        for (score, slope) in scores.iter_mut().zip(&mut slopes) {
            *score = soft_cap(*score, cap);
            *slope *= soft_cap_derivative(*score, cap);
        }
    }
    scores.extend(shape.sinks.get(head));
    activation::softmax(&mut scores);
    scores.truncate(slopes.len());
    (scores, slopes)
}

/// Keys, `[positions, head_dim]`, and values, `[positions, value_dim]`, of a head.
fn decoded(cache: &dyn KeyValueView, head: usize, head_dim: usize) -> (Vec<f32>, Vec<f32>) {
    let all: Range<usize> = 0..cache.len();
    let panels = 0..all.end.div_ceil(KEYS_SIDE_BY_SIDE);
    let mut side_by_side = vec![0.0; panels.end * head_dim * KEYS_SIDE_BY_SIDE];
    let mut values = vec![0.0; all.end * cache.shape()[2]];
    cache.decode_keys(head, panels, &mut side_by_side);
    cache.decode_values(head, all.clone(), &mut values);
    let panel = head_dim * KEYS_SIDE_BY_SIDE;
    let key =
        |s: usize| side_by_side[s / KEYS_SIDE_BY_SIDE * panel..][..panel].iter().skip(s % KEYS_SIDE_BY_SIDE);
    (all.flat_map(|s| key(s).step_by(KEYS_SIDE_BY_SIDE)).copied().collect(), values)
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;
    use crate::Precision;
    use crate::attention::{AttentionJob, KeyValues, attend};

    /// A small step of queries, keys and values changes the output as the gradient says.
    #[test]
    fn gradient_predicts_small_steps() {
        let pool = Pool::new(2);
        let (heads, kv_heads, head_dim, value_dim, total, new) = (4, 2, 8, 6, 21, 5);
        for (window, soft_cap, sinks) in
            [(None, None, vec![]), (Some(3), Some(1.5), vec![]), (Some(18), None, vec![0.3; 4])]
        {
            let shape =
                AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale: 0.7, soft_cap, sinks };
            let old = (total - new) * kv_heads;
            let (old_keys, old_values) = (noise(old * head_dim, 1), noise(old * value_dim, 2));
            let sizes = [new * heads * head_dim, new * kv_heads * head_dim, new * kv_heads * value_dim];
            let [at, step] = [3, 6].map(|seed| [0, 1, 2].map(|i| noise(sizes[i], seed + i as u32)));
            let along = noise(new * heads * value_dim, 9);
            let run = |size: f32| {
                let [queries, keys, values] = [0, 1, 2]
                    .map(|i| at[i].iter().zip(&step[i]).map(|(x, s)| x + size * s).collect::<Vec<f32>>());
                let mut cache = KeyValues::new(kv_heads, head_dim, value_dim);
                cache.append(&old_keys, &old_values, Precision::Exact);
                cache.append(&keys, &values, Precision::Exact);
                let mut out = vec![0.0; along.len()];
                attend(
                    &pool,
                    &shape,
                    &mut [AttentionJob { cached: &cache, queries: &queries, out: &mut out }],
                );
                let value: f64 = out.iter().zip(&along).map(|(o, a)| f64::from(o * a)).sum();
                (value, attend_gradient(&pool, &shape, &cache, &queries, &along))
            };
            let found = (run(1e-2).0 - run(-1e-2).0) / 2e-2;
            let AttentionGradient { queries, keys, values } = run(0.0).1;
            let gradients = [queries, keys, values];
            let foretold: f64 =
                (0..3).flat_map(|i| gradients[i].iter().zip(&step[i])).map(|(g, s)| f64::from(g * s)).sum();
            assert!((found - foretold).abs() < 2e-3 * (1.0 + foretold.abs()), "{found}, not {foretold}");
        }
    }
}
