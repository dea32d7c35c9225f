//! The largest of many values, without sorting them all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The `k` largest of `values` with their indices, largest first; of equal values the one with the lower index
/// comes first. NaN is never chosen, so there may be fewer than `k`.
pub fn top_k_by_value(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    top_k_by(values, k, |value| value)
}

/// As [`top_k_by_value`], but the largest are those farthest from zero. They keep their sign.
pub fn top_k_by_magnitude(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    top_k_by(values, k, f32::abs)
}

/// An index with what it is ranked by; the greatest candidate is the one that is chosen last.
#[derive(PartialEq)]
struct Candidate {
    rank: f32,
    index: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // Ranks are never NaN, and adding zero makes the two zeros one.
        (other.rank + 0.0).total_cmp(&(self.rank + 0.0)).then(self.index.cmp(&other.index))
    }
}

fn top_k_by(values: &[f32], k: usize, rank: impl Fn(f32) -> f32) -> Vec<(usize, f32)> {
    let mut chosen = BinaryHeap::with_capacity(k.min(values.len()));
    let mut ranks = values.iter().map(|value| rank(*value)).enumerate();
    chosen.extend(
        ranks
            .by_ref()
            .filter(|(_, rank)| !rank.is_nan())
            .take(k)
            .map(|(index, rank)| Candidate { rank, index }),
    );
    let Some(mut to_beat) = chosen.peek().map(|last| last.rank) else { return Vec::new() };
    for (index, rank) in ranks {
        // False for NaN, and for equals, which come later and so lose. Nearly all values end here.
        if rank > to_beat {
            chosen.pop();
            chosen.push(Candidate { rank, index });
            to_beat = chosen.peek().map_or(rank, |last| last.rank);
        }
    }
    chosen.into_sorted_vec().iter().map(|candidate| (candidate.index, values[candidate.index])).collect()
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
