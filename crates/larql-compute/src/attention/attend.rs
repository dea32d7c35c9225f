//! Attention in one pass over the keys and values, in tiles.

use std::ops::Range;

use super::{AttentionShape, KEYS_SIDE_BY_SIDE, KeyValueView};
use crate::Pool;
use crate::aligned::AlignedVec;
use crate::disjoint_rows::DisjointRows;
use crate::kernels::{AttentionTile, Isa, QUERIES, Query, RunningSoftmax, Scores};

/// The new tokens of one sequence: queries, what they attend to, and where the result goes.
pub struct AttentionJob<'a> {
    /// Keys and values of the sequence. The last positions are those of the queries.
    pub cached: &'a dyn KeyValueView,
    /// `[tokens, heads * head_dim]`
    pub queries: &'a [f32],
    /// `[tokens, heads * value_dim]`
    pub out: &'a mut [f32],
}

/// Computes the attention of the last tokens of several sequences, each over everything in its own sequence that it may
/// see. All sequences are one job of the threads; what a sequence gets does not depend on the others.
///
/// # Panics
/// If the sizes do not fit together or a sequence holds fewer positions than there are queries.
pub fn attend(pool: &Pool, shape: &AttentionShape, jobs: &mut [AttentionJob<'_>]) {
    assert!(shape.sinks.is_empty() || shape.sinks.len() == shape.heads);
    let plans: Vec<Plan> = jobs.iter().map(|job| Plan::new(shape, job)).collect();
    let (inputs, outputs): (Vec<_>, Vec<_>) = jobs
        .iter_mut()
        .map(|job| ((job.cached, job.queries), DisjointRows::new(job.out, shape.value_dim)))
        .unzip();

    let parts = plans.iter().enumerate().flat_map(|(job, plan)| plan.parts().map(move |part| (job, part)));
    let mut mixed: Vec<_> = parts.map(|(job, part)| (job, part, Vec::new())).collect();
    pool.for_each_piece(&mut mixed, 1, |_, mixed| {
        let mut scratch = Scratch::default();
        for (job, part, mixed) in mixed {
            let (cached, queries) = inputs[*job];
            for span in part.spans.clone() {
                let rows = plans[*job].rows(shape, part, span);
                let of_span = mix(shape, cached, part.kv_head, queries, &rows, &mut scratch);
                match mixed.is_empty() {
                    true => *mixed = of_span,
                    false => mixed.iter_mut().zip(&of_span).for_each(|(mixed, of_span)| mixed.add(of_span)),
                }
            }
        }
    });

    // Where each block's parts begin.
    let blocks: Vec<usize> = (0..mixed.len()).filter(|part| mixed[*part].1.spans.start == 0).collect();
    // Of one token a sequence this is less than a job of the threads costs.
    let grain = if plans.iter().all(|plan| plan.tokens == 1) { shape.kv_heads } else { 1 };
    pool.for_each_range(blocks.len(), grain, |range| {
        for first in &blocks[range] {
            let (job, part, _) = &mixed[*first];
            let plan = &plans[*job];
            let parts = &mixed[*first..first + plan.spans.div_ceil(plan.spans_of_a_part)];
            for (i, (row, _)) in plan.rows(shape, part, 0).iter().enumerate() {
                let mut parts = parts.iter().map(|(_, _, mixed)| &mixed[i]);
                let mut all = parts.next().expect("there is a part").clone();
                parts.for_each(|part| all.add(part));
                if let Some(sink) = shape.sinks.get(row % shape.heads) {
                    all.add_sink(*sink);
                }
                // SAFETY: every row is in exactly one block, so no other thread holds this row.
                let out = unsafe { outputs[*job].row(*row) };
                let sum = all.sum();
                out.iter_mut().zip(&all.values).for_each(|(out, value)| *out = value / sum);
            }
        }
    });
}

/// Rows of queries that are shown a tile of keys and values one after another, while it is in the cache.
const ROWS_AT_ONCE: usize = 32;

/// Positions of a tile.
const TILE: usize = 64;

/// Positions of a span at least for each key head, so that many heads are not shared out further than threads need.
const SPAN_OF_A_HEAD: usize = 128;

/// The fewest and the most positions of a span, multiples of [`TILE`].
const SPANS: [usize; 2] = [256, 1024];

/// Parts that keep all threads busy.
const ENOUGH_PARTS: usize = 32;

/// Division of the work for one sequence. It depends on that sequence only.
struct Plan {
    /// New tokens.
    tokens: usize,
    /// Positions before the new tokens.
    first: usize,
    /// Query heads of one key head times tokens.
    rows: usize,
    /// Blocks into which rows are divided.
    blocks: usize,
    /// Spans into which positions are divided. What a token attends to is added up span by span.
    spans: usize,
    /// Positions of each span but the last. It depends on the shape alone, so that a token gets the same sums whatever
    /// tokens come with it.
    span: usize,
    /// Spans that one part sees: one where rows alone are too few parts, else all.
    spans_of_a_part: usize,
    kv_heads: usize,
}

/// Some rows of queries of one key head, and some spans of positions.
#[derive(Clone)]
struct Part {
    kv_head: usize,
    block: usize,
    spans: Range<usize>,
}

impl Plan {
    fn new(shape: &AttentionShape, job: &AttentionJob<'_>) -> Plan {
        let (width, positions) = (shape.heads * shape.head_dim, job.cached.len());
        assert!(job.queries.len().is_multiple_of(width));
        assert!(job.cached.shape() == [shape.kv_heads, shape.head_dim, shape.value_dim]);
        let tokens = job.queries.len() / width;
        assert!(job.out.len() == tokens * shape.heads * shape.value_dim);
        let first = positions.checked_sub(tokens).expect("the sequence holds the queries' own positions");
        // The query heads of one key head read the same keys: these are its rows, token by token.
        let rows = tokens * (shape.heads / shape.kv_heads);
        let blocks = rows.div_ceil(ROWS_AT_ONCE);
        let span = (shape.kv_heads * SPAN_OF_A_HEAD).clamp(SPANS[0], SPANS[1]).next_multiple_of(TILE);
        let spans = positions.div_ceil(span);
        let spans_of_a_part = if shape.kv_heads * blocks >= ENOUGH_PARTS { spans.max(1) } else { 1 };
        Plan { tokens, first, rows, blocks, spans, span, spans_of_a_part, kv_heads: shape.kv_heads }
    }

    /// All parts; those of one block follow one another.
    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let (blocks, spans, step) = (self.blocks, self.spans, self.spans_of_a_part);
        (0..self.kv_heads * blocks).flat_map(move |block| {
            (0..spans).step_by(step).map(move |first| Part {
                kv_head: block / blocks,
                block: block % blocks,
                spans: first..(first + step).min(spans),
            })
        })
    }

    /// The rows of a part, `token * heads + head`, each with the positions that it sees in a span.
    fn rows(&self, shape: &AttentionShape, part: &Part, span: usize) -> Vec<(usize, Range<usize>)> {
        let group = shape.heads / shape.kv_heads;
        let positions = self.first + self.tokens;
        let span = span * self.span..((span + 1) * self.span).min(positions);
        let rows = part.block * ROWS_AT_ONCE..((part.block + 1) * ROWS_AT_ONCE).min(self.rows);
        let row = |row: usize| {
            let (token, head) = (row / group, part.kv_head * group + row % group);
            let visible = shape.visible(self.first + token);
            (token * shape.heads + head, visible.start.max(span.start)..visible.end.min(span.end))
        };
        rows.map(row).collect()
    }
}

/// Working memory of a thread, kept from one part to the next.
#[derive(Default)]
struct Scratch {
    keys: AlignedVec<f32>,
    values: AlignedVec<f32>,
    scores: Scores,
}

/// Mixes the values of one key head for some rows of `queries`, each over its own positions.
fn mix(
    shape: &AttentionShape,
    cached: &dyn KeyValueView,
    kv_head: usize,
    queries: &[f32],
    rows: &[(usize, Range<usize>)],
    Scratch { keys, values, scores }: &mut Scratch,
) -> Vec<RunningSoftmax> {
    let mut mixed = vec![RunningSoftmax::new(shape.value_dim); rows.len()];
    let start = rows.iter().map(|(_, visible)| visible.start).min().unwrap_or(0);
    let end = rows.iter().map(|(_, visible)| visible.end).max().unwrap_or(0);
    // Tiles begin at the same positions whatever rows see them.
    let start = start / TILE * TILE;
    for start in (start..end).step_by(TILE) {
        let positions = start..(start + TILE).min(end);
        let tile = tile(shape, cached, kv_head, positions.clone(), keys, values);
        for (rows, mixed) in rows.chunks(QUERIES).zip(mixed.chunks_mut(QUERIES)) {
            if !rows.iter().any(|(_, visible)| visible.start < positions.end && positions.start < visible.end)
            {
                continue;
            }
            let query = |(row, mixed): (&(usize, Range<usize>), _)| Query {
                query: &queries[row.0 * shape.head_dim..][..shape.head_dim],
                visible: row.1.clone(),
                mixed,
            };
            let mut rows: Vec<Query<'_>> = rows.iter().zip(mixed).map(query).collect();
            Isa::best().attend(&tile, &mut rows, scores);
        }
    }
    mixed
}

/// Some positions of a key head, of which the first is a multiple of 16, decoded.
pub(super) fn tile<'a>(
    shape: &AttentionShape,
    cached: &dyn KeyValueView,
    kv_head: usize,
    positions: Range<usize>,
    keys: &'a mut AlignedVec<f32>,
    values: &'a mut AlignedVec<f32>,
) -> AttentionTile<'a> {
    let panels = positions.start / KEYS_SIDE_BY_SIDE..positions.end.div_ceil(KEYS_SIDE_BY_SIDE);
    let keys = keys.resized(panels.len() * shape.head_dim * KEYS_SIDE_BY_SIDE);
    cached.decode_keys(kv_head, panels, keys);
    let values = values.resized(positions.len() * shape.value_dim);
    cached.decode_values(kv_head, positions.clone(), values);
    let (scale, soft_cap) = (shape.scale, shape.soft_cap);
    AttentionTile { start: positions.start, keys: keys.as_chunks().0, values, scale, soft_cap }
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;
    use crate::Precision;
    use crate::attention::{KeyValues, attention_pattern, mix_values};

    /// Attention by its definition, in f64, for one token and head.
    fn by_definition(shape: &AttentionShape, query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> Vec<f64> {
        let scores: Vec<f64> = keys
            .iter()
            .map(|key| {
                let dot: f64 = query.iter().zip(*key).map(|(a, b)| f64::from(a * b)).sum();
                let score = dot * f64::from(shape.scale);
                shape.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            })
            .collect();
        let sink = shape.sinks.first().map_or(0.0, |sink| f64::from(*sink).exp());
        let total: f64 = scores.iter().map(|s| s.exp()).sum::<f64>() + sink;
        (0..shape.value_dim)
            .map(|d| scores.iter().zip(values).map(|(s, v)| s.exp() / total * f64::from(v[d])).sum::<f64>())
            .collect()
    }

    #[test]
    fn equals_its_definition_with_groups_window_cap_sinks_and_narrow_values() {
        let pool = Pool::new(2);
        for (window, soft_cap, head_dim, value_dim, sinks, (total, new)) in [
            (None, None, 40, 40, vec![], (9, 4)),
            (Some(3), Some(2.0), 64, 64, vec![0.7; 4], (9, 4)),
            (Some(100), None, 7, 5, vec![], (9, 4)),
            // Positions are shared out, and of some shares nothing is seen.
            (Some(100), None, 16, 48, vec![0.2; 4], (700, 1)),
            (None, None, 16, 16, vec![], (600, 2)),
            // Queries are.
            (None, None, 16, 16, vec![], (330, 310)),
        ] {
            let (heads, kv_heads, scale) = (4, 2, 0.3);
            let shape =
                AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, sinks };
            let keys = noise(total * 2 * head_dim, 1);
            let values = noise(total * 2 * value_dim, 2);
            let mut cache = KeyValues::new(2, head_dim, value_dim);
            let before = (total - new) * 2;
            cache.append(&keys[..before * head_dim], &values[..before * value_dim], Precision::Exact);
            cache.append(&keys[before * head_dim..], &values[before * value_dim..], Precision::Exact);
            let queries = noise(new * 4 * head_dim, 3);
            let mut out = vec![f32::NAN; new * 4 * value_dim];
            attend(&pool, &shape, &mut [AttentionJob { cached: &cache, queries: &queries, out: &mut out }]);
            let pattern = attention_pattern(&pool, &shape, &cache, &queries);
            let mut in_two_steps = vec![f32::NAN; out.len()];
            mix_values(&pool, &shape, &cache, &pattern, &mut in_two_steps);
            for (found, expected) in in_two_steps.iter().zip(&out) {
                assert!((found - expected).abs() < 1e-5, "{found} in two steps, {expected} in one");
            }
            for row in 0..new * 4 {
                let (token, head) = (row / 4, row % 4);
                let end = total - new + token + 1;
                let seen = end.saturating_sub(window.unwrap_or(end))..end;
                let pick = |all: &'static [f32], width: usize| -> Vec<&'static [f32]> {
                    seen.clone().map(|p| &all[(p * 2 + head / 2) * width..][..width]).collect()
                };
                let (k, v) = (pick(keys.clone().leak(), head_dim), pick(values.clone().leak(), value_dim));
                let expected = by_definition(&shape, &queries[row * head_dim..][..head_dim], &k, &v);
                for (found, expected) in out[row * value_dim..][..value_dim].iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn tokens_get_the_same_bits_in_chunks_of_any_length() {
        let pool = Pool::new(2);
        let (heads, kv_heads, head_dim, value_dim, scale) = (8, 4, 16, 16, 0.3);
        let (total, first) = (1300, 500);
        let mut cache = KeyValues::new(kv_heads, head_dim, value_dim);
        let width = kv_heads * head_dim;
        cache.append(&noise(total * width, 1), &noise(total * width, 2), Precision::Fast);
        let width = heads * head_dim;
        let queries = noise((total - first) * width, 3);
        for window in [None, Some(90), Some(700)] {
            let (soft_cap, sinks) = (None, vec![0.2; heads]);
            let shape =
                AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, sinks };
            let in_chunks = |chunk: usize| {
                let mut out = vec![0.0; queries.len()];
                let chunks = queries.chunks(chunk * width).zip(out.chunks_mut(chunk * width));
                for (i, (queries, out)) in chunks.enumerate() {
                    let mut cached = cache.clone();
                    cached.truncate(first + i * chunk + queries.len() / width);
                    attend(&pool, &shape, &mut [AttentionJob { cached: &cached, queries, out }]);
                }
                out
            };
            let at_once = in_chunks(total - first);
            for chunk in [1, 7, 64, 300] {
                assert!(in_chunks(chunk) == at_once, "chunks of {chunk} tokens, window {window:?}");
            }
        }
    }

    #[test]
    fn sequences_get_the_same_bits_alone_and_beside_others() {
        let pool = Pool::new(2);
        let (heads, kv_heads, head_dim, value_dim, window, scale) = (4, 2, 16, 16, Some(300), 0.3);
        let (soft_cap, sinks) = (None, Vec::new());
        let shape = AttentionShape { heads, kv_heads, head_dim, value_dim, window, scale, soft_cap, sinks };
        let sequences: Vec<_> = [(1, 1), (700, 1), (40, 40), (600, 3), (17, 1)]
            .into_iter()
            .map(|(total, new): (usize, usize)| {
                let mut cache = KeyValues::new(2, head_dim, value_dim);
                cache.append(&noise(total * 32, 1), &noise(total * 32, 2), Precision::Fast);
                (cache, noise(new * 64, total as u32))
            })
            .collect();
        let run = |sequences: &[(KeyValues, Vec<f32>)]| {
            let mut outs: Vec<_> = sequences.iter().map(|(_, queries)| vec![0.0; queries.len()]).collect();
            let jobs = sequences.iter().zip(&mut outs);
            let mut jobs: Vec<_> =
                jobs.map(|((cached, queries), out)| AttentionJob { cached, queries, out }).collect();
            attend(&pool, &shape, &mut jobs);
            outs
        };
        let together = run(&sequences);
        for (sequence, found) in sequences.iter().zip(together) {
            assert!(run(std::slice::from_ref(sequence)) == [found]);
        }
    }
}
