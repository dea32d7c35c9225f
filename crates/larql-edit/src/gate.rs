//! Gate rows of written features: linear classifiers of a layer's inputs in whitened coordinates.

use larql_inference::{WhitenedInput, Whitening};

/// Bound of negatives, on the negative side, where positives reach 1. With less, more negatives activate the feature a
/// little; with more, paraphrases that were not fitted activate it less.
const MARGIN: f64 = 0.8;

/// Weight of the squared violation of one input's bound, where background text as a whole has weight 1/2: of a positive,
/// and of a negative.
const STRICTNESS: [f64; 2] = [3.0, 0.3];

/// Rounds in which background inputs that come near to activating the feature are added to the negatives, and how many
/// each round.
const ROUNDS_OF_ADDING: usize = 3;
const ADDED: usize = 100;

/// Inputs that a direction is fitted to.
pub(crate) struct Examples<'a> {
    /// Inputs for which the feature is to activate.
    pub(crate) positives: Vec<&'a WhitenedInput>,
    /// Inputs for which it must not.
    pub(crate) negatives: Vec<&'a WhitenedInput>,
    /// Further negatives, too many to fit all of them: they count where they come near to activating the feature.
    pub(crate) background: Vec<&'a WhitenedInput>,
}

/// Direction `g` with `g . x = 1` for positives, `g . x <= -margin` for negatives, and nearly `-margin` for background
/// text; as far as one direction can.
///
/// It minimises `E[(g . x + margin)^2] / 2` over background text plus the squared violations of the bounds: a support
/// vector machine with squared losses in whitened coordinates.
pub(crate) fn separating(whitening: &Whitening, examples: Examples<'_>) -> Vec<f32> {
    let positives = examples.positives.into_iter().map(|input| Point::new(input, 1.0, 1.0));
    let negatives = examples.negatives.into_iter().map(|input| Point::new(input, -1.0, MARGIN));
    let mut fit = Fit::new(whitening, positives.chain(negatives).collect(), -MARGIN);
    fit.run();
    let mut background = examples.background;
    for _ in 0..ROUNDS_OF_ADDING {
        let product = |input: &WhitenedInput| input.dot(&fit.direction);
        let (mut near, far): (Vec<(f64, &WhitenedInput)>, Vec<_>) = background
            .into_iter()
            .map(|input| (product(input), input))
            .partition(|(product, _)| *product > -0.5 * MARGIN);
        if near.is_empty() {
            break;
        }
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rest = near.split_off(ADDED.min(near.len()));
        background = rest.into_iter().chain(far).map(|(_, input)| input).collect();
        fit.points.extend(near.into_iter().map(|(_, input)| Point::new(input, -1.0, MARGIN)));
        fit.run();
    }
    whitening.direction(fit.direction)
}

/// Direction `c` with `c . x = 1` for `positives` and nearly `background` for background text.
///
/// With 1 it is a bias for rows that have none. With 0 it is a second, independent classifier of positives against
/// background text; its false positives differ from those of [`separating`].
pub(crate) fn level(whitening: &Whitening, positives: &[&WhitenedInput], background: f64) -> Vec<f32> {
    let positives = positives.iter().map(|input| Point::new(input, 1.0, 1.0));
    let mut fit = Fit::new(whitening, positives.collect(), background);
    fit.run();
    whitening.direction(fit.direction)
}

/// Input with the side of the direction on which it has to be.
struct Point<'a> {
    input: &'a WhitenedInput,
    /// 1 for a positive, -1 for a negative.
    side: f64,
    /// Bound that its product with the direction has to reach on its side.
    bound: f64,
    multiplier: f64,
}

impl<'a> Point<'a> {
    fn new(input: &'a WhitenedInput, side: f64, bound: f64) -> Point<'a> {
        Point { input, side, bound, multiplier: 0.0 }
    }
}

/// Direction that is being fitted.
struct Fit<'a> {
    points: Vec<Point<'a>>,
    direction: Vec<f64>,
}

impl<'a> Fit<'a> {
    /// Begins with the direction that is `background` for the mean of background text.
    fn new(whitening: &Whitening, points: Vec<Point<'a>>, background: f64) -> Fit<'a> {
        Fit { points, direction: whitening.mean().iter().map(|m| background * m).collect() }
    }

    /// Goes to the minimum by one input after another (dual coordinate descent; Hsieh et al., ICML 2008).
    fn run(&mut self) {
        const ROUNDS: usize = 200;
        let direction = &mut self.direction;
        for _ in 0..ROUNDS {
            let mut change = 0f64;
            for point in &mut self.points {
                let square = point.input.square();
                let softness = 0.5 / STRICTNESS[usize::from(point.side < 0.0)];
                let violation = point.bound - point.side * point.input.dot(direction);
                let mut multiplier =
                    point.multiplier + (violation - softness * point.multiplier) / (square + softness);
                // Positives have to reach their bound and not pass it either.
                if point.side < 0.0 {
                    multiplier = multiplier.max(0.0);
                }
                let step = (multiplier - point.multiplier) * point.side;
                point.multiplier = multiplier;
                change = change.max(step.abs() * square);
                if step != 0.0 {
                    direction.iter_mut().zip(point.input.values()).for_each(|(d, x)| *d += step * x);
                }
            }
            if change < 1e-3 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larql_compute::vector::dot;

    use super::*;

    /// Inputs around (1, 0, 0, 0): nothing but noise, and wanted ones that also have some of the last direction.
    fn input(seed: u32, last: f32) -> Vec<f32> {
        let noise = |i: u32| ((seed * 4 + i).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5;
        vec![1.0 + 0.1 * noise(0), noise(1), noise(2), 0.1 * noise(3) + last]
    }

    #[test]
    fn separates_positives_from_negatives_and_background() {
        let text: Vec<f32> = (0..500).flat_map(|seed| input(seed, 0.0)).collect();
        let whitening = Whitening::new(&text, 4, 0.01).unwrap();
        let inputs = |inputs: &[Vec<f32>]| -> Vec<WhitenedInput> {
            inputs.iter().map(|x| whitening.whiten(x)).collect()
        };
        let ordinary: Vec<Vec<f32>> = text.chunks_exact(4).map(<[f32]>::to_vec).collect();
        let wanted: Vec<Vec<f32>> = (500..510).map(|seed| input(seed, 0.4)).collect();
        let others: Vec<Vec<f32>> = (510..530).map(|seed| input(seed, 0.1)).collect();
        let [white_wanted, white_others, watched] = [&wanted, &others, &ordinary].map(|x| inputs(x));
        let examples = Examples {
            positives: white_wanted.iter().collect(),
            negatives: white_others.iter().collect(),
            background: watched.iter().collect(),
        };
        let constant = level(&whitening, &examples.positives, 1.0);
        let selective = level(&whitening, &examples.positives, 0.0);
        let direction = separating(&whitening, examples);
        for x in &wanted {
            assert!(dot(&direction, x) > 0.5, "{}", dot(&direction, x));
            assert!((dot(&constant, x) - 1.0).abs() < 0.3);
            assert!((dot(&selective, x) - 1.0).abs() < 0.4, "{}", dot(&selective, x));
        }
        for x in &ordinary {
            assert!((dot(&constant, x) - 1.0).abs() < 0.5, "{}", dot(&constant, x));
            assert!(dot(&selective, x).abs() < 0.4, "{}", dot(&selective, x));
        }
        for x in others.iter().chain(&ordinary) {
            assert!(dot(&direction, x) < -0.2, "{}", dot(&direction, x));
        }
    }
}
