//! k-means on unit vectors: the likeness of two is their product (spherical k-means, Dhillon and Modha 2001).

use larql_compute::vector::{dot, normalise};
use larql_compute::{Activations, Matrix, Pool, Precision, matmul};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds after which the centres are taken as they are.
const ROUNDS: usize = 50;

/// At most `number` centres of `vectors`, `[n, width]`, of unit length each; a centre is one row of the answer.
pub(super) fn centres(pool: &Pool, vectors: &[f32], width: usize, number: usize, seed: u64) -> Vec<f32> {
    let mut centres = first_centres(vectors, width, number, seed);
    let mut groups = Vec::new();
    for _ in 0..ROUNDS {
        let nearest = nearest(pool, vectors, &centres, width);
        if nearest == groups {
            break;
        }
        groups = nearest;
        let mut sums = vec![0.0; centres.len()];
        for (vector, group) in vectors.chunks_exact(width).zip(&groups) {
            sums[group * width..][..width].iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        for (sum, centre) in sums.chunks_exact_mut(width).zip(centres.chunks_exact_mut(width)) {
            normalise(sum);
            // A centre that nothing is nearest to stays where it is.
            if sum.iter().any(|value| *value != 0.0) {
                centre.copy_from_slice(sum);
            }
        }
    }
    centres
}

/// The number of the centre that is most like each vector.
pub(super) fn nearest(pool: &Pool, vectors: &[f32], centres: &[f32], width: usize) -> Vec<usize> {
    let number = centres.len() / width;
    let Ok(matrix) = Matrix::from_f32(number, width, centres) else { return Vec::new() };
    let mut products = vec![0.0; vectors.len() / width * number];
    if products.is_empty() {
        return Vec::new();
    }
    matmul(pool, matrix.view(), &Activations::new(vectors, width), Precision::Exact, &mut products);
    let largest = |products: &[f32]| (0..number).max_by(|a, b| products[*a].total_cmp(&products[*b]));
    products.chunks_exact(number).filter_map(largest).collect()
}

/// Vectors to start from: each drawn with a chance that grows with its distance from those drawn before (k-means++,
/// Arthur and Vassilvitskii 2007).
fn first_centres(vectors: &[f32], width: usize, number: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut distances = vec![1.0f32; vectors.len() / width];
    let mut centres = Vec::new();
    for _ in 0..number {
        let mut point = random.random::<f32>() * distances.iter().sum::<f32>();
        let drawn = distances.iter().position(|distance| {
            point -= distance;
            point < 0.0
        });
        // No vector differs from all centres any more.
        let Some(drawn) = drawn else { break };
        let centre = &vectors[drawn * width..][..width];
        centres.extend_from_slice(centre);
        for (distance, vector) in distances.iter_mut().zip(vectors.chunks_exact(width)) {
            *distance = distance.min((1.0 - dot(vector, centre)).max(0.0));
        }
        distances[drawn] = 0.0;
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` unit vectors around each of some directions.
    fn around(directions: &[[f32; 3]], count: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut vectors = Vec::new();
        for direction in directions {
            for _ in 0..count {
                let mut vector = direction.map(|value| value + 0.2 * (random.random::<f32>() - 0.5));
                normalise(&mut vector);
                vectors.extend(vector);
            }
        }
        vectors
    }

    #[test]
    fn groups_that_are_there_are_found() {
        let pool = Pool::new(1);
        let vectors = around(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.5]], 20);
        let centres = centres(&pool, &vectors, 3, 3, 1);
        let groups = nearest(&pool, &vectors, &centres, 3);
        for group in groups.chunks_exact(20) {
            assert!(group.iter().all(|other| other == &group[0]), "{groups:?}");
        }
        assert!(groups[0] != groups[20] && groups[20] != groups[40] && groups[0] != groups[40]);
        assert_eq!(centres, super::centres(&pool, &vectors, 3, 3, 1), "the same seed gives the same");
    }

    #[test]
    fn no_more_centres_than_different_vectors() {
        let pool = Pool::new(1);
        let vectors = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let centres = centres(&pool, &vectors, 2, 10, 0);
        assert_eq!(centres.len(), 4);
        assert!(nearest(&pool, &[], &centres, 2).is_empty());
        assert!(super::centres(&pool, &[], 2, 10, 0).is_empty());
    }
}
