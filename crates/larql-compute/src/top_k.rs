//! The largest of many values, without sorting them all.

use std::cmp::Ordering;

/// The `k` largest of `values` with their indices, largest first; of equal values the one with the lower index
/// comes first. NaN is never chosen, so there may be fewer than `k`.
pub fn top_k_by_value(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    top_k_by(values, k, |value| value)
}

/// As [`top_k_by_value`], but the largest are those farthest from zero. They keep their sign.
pub fn top_k_by_magnitude(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    top_k_by(values, k, f32::abs)
}

/// An index with what it is ranked by. What is chosen first is less.
struct Candidate {
    rank: f32,
    index: usize,
}

impl Candidate {
    fn order(&self, other: &Self) -> Ordering {
        // Ranks are never NaN, and adding zero makes the two zeros one.
        (other.rank + 0.0).total_cmp(&(self.rank + 0.0)).then(self.index.cmp(&other.index))
    }
}

/// Values of which is asked at once whether any is to be chosen, which nearly always none is.
const AT_ONCE: usize = 16;
/// Candidates beyond `k` that are gathered before the worst are dropped, at least.
const ROOM: usize = 64;

fn top_k_by(values: &[f32], k: usize, rank: impl Fn(f32) -> f32) -> Vec<(usize, f32)> {
    let k = k.min(values.len());
    if k == 0 {
        return Vec::new();
    }
    let most = k + k.max(ROOM);
    let mut chosen: Vec<Candidate> = Vec::with_capacity(most);
    // The worst of the best `k` so far, once there are as many.
    let mut to_beat = None;
    for (chunk, start) in values.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
        if let Some(to_beat) = to_beat {
            // Not `any`, which would look at one after the other.
            if !chunk.iter().fold(false, |any, value| any | (rank(*value) > to_beat)) {
                continue;
            }
        }
        for (index, value) in (start..).zip(chunk) {
            let rank = rank(*value);
            // Equals come later, and so lose.
            if rank.is_nan() || to_beat.is_some_and(|to_beat| rank <= to_beat) {
                continue;
            }
            chosen.push(Candidate { rank, index });
            if chosen.len() == most {
                let (_, last, _) = chosen.select_nth_unstable_by(k - 1, Candidate::order);
                to_beat = Some(last.rank);
                chosen.truncate(k);
            }
        }
    }
    chosen.sort_unstable_by(Candidate::order);
    chosen.truncate(k);
    chosen.iter().map(|candidate| (candidate.index, values[candidate.index])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_the_lower_index_and_nan_never_wins() {
        let values = [1.0, f32::NAN, -3.0, 0.0, 1.0, -0.0, f32::NEG_INFINITY];
        assert_eq!(top_k_by_value(&values, 3), [(0, 1.0), (4, 1.0), (3, 0.0)]);
        assert_eq!(top_k_by_magnitude(&values, 3), [(6, f32::NEG_INFINITY), (2, -3.0), (0, 1.0)]);
        assert_eq!(top_k_by_value(&values, 100).len(), 6);
        assert_eq!(top_k_by_value(&values, 0), []);
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_sort(values in prop::collection::vec(-4i8..4, 0..200), k in 0usize..40) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let mut sorted: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(k);
            prop_assert_eq!(top_k_by_value(&values, k), sorted);
        }
    }
}
