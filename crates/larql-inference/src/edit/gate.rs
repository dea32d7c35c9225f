//! When a written feature fires: a direction that tells some inputs from all others.

use super::whitening::{Whitening, dot};

/// Inputs of which some are wanted, in white coordinates, so that many directions can be fitted to them.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    white: Vec<Vec<f64>>,
    squares: Vec<f64>,
}

impl Inputs {
    pub(crate) fn new<'a>(whitening: &Whitening, inputs: impl IntoIterator<Item = &'a [f32]>) -> Inputs {
        let white: Vec<Vec<f64>> = inputs.into_iter().map(|x| whitening.whiten(x)).collect();
        Inputs { squares: white.iter().map(|x| dot(x, x)).collect(), white }
    }

    fn point(&self, input: usize, side: f64, bound: f64) -> Point<'_> {
        Point { white: &self.white[input], square: self.squares[input], side, bound, multiplier: 0.0 }
    }
}

/// What inputs that are not wanted are to stay below, on the negative side, where wanted ones reach 1. With less, more
/// of them fire a little; with more, wordings that nobody has tried fire less.
const MARGIN: f64 = 0.7;

/// What the square of a single input's distance from its bounds counts, where ordinary text as a whole counts 1/2.
const STRICTNESS: f64 = 0.3;

/// How often ordinary inputs that come near to firing are added to those that must not, and how many.
const ROUNDS_OF_ADDING: usize = 3;
const ADDED: usize = 100;

/// The direction `g` with `g . x = 1` for those of `inputs` that are `wanted`, `g . x <= -margin` for the others, and
/// nearly `-margin` for ordinary text; as far as one direction can.
///
/// It minimises `E[(g . x + margin)^2] / 2` over ordinary text plus the squares of what is outside its bounds: a support
/// vector machine with squared losses in white coordinates. Of `ordinary` inputs those get a bound of their own that
/// come near to firing without.
pub(crate) fn separating(
    whitening: &Whitening,
    inputs: &Inputs,
    wanted: &[usize],
    ordinary: &Inputs,
) -> Vec<f32> {
    let point = |input| {
        if wanted.contains(&input) {
            inputs.point(input, 1.0, 1.0)
        } else {
            inputs.point(input, -1.0, MARGIN)
        }
    };
    let mut fit = Fit::new(whitening, (0..inputs.white.len()).map(point).collect(), -MARGIN);
    fit.run();
    let mut added = vec![false; ordinary.white.len()];
    for _ in 0..ROUNDS_OF_ADDING {
        let products = ordinary.white.iter().map(|x| dot(x, &fit.direction)).enumerate();
        let mut near: Vec<(usize, f64)> =
            products.filter(|(input, product)| !added[*input] && *product > -0.5 * MARGIN).collect();
        if near.is_empty() {
            break;
        }
        near.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (input, _) in near.into_iter().take(ADDED) {
            added[input] = true;
            fit.points.push(ordinary.point(input, -1.0, MARGIN));
        }
        fit.run();
    }
    whitening.direction(fit.direction)
}

/// The direction `c` with `c . x = 1` for inputs in `wanted` and nearly 1 for ordinary text: a bias for rows that have
/// none.
pub(crate) fn constant(whitening: &Whitening, inputs: &Inputs, wanted: &[usize]) -> Vec<f32> {
    let wanted = wanted.iter().map(|input| inputs.point(*input, 1.0, 1.0));
    let mut fit = Fit::new(whitening, wanted.collect(), 1.0);
    fit.run();
    whitening.direction(fit.direction)
}

/// An input that the direction has to put on one side.
struct Point<'a> {
    white: &'a [f64],
    /// Its length, squared.
    square: f64,
    /// 1 if it is wanted, else -1.
    side: f64,
    /// What its product with the direction has to reach on its side.
    bound: f64,
    multiplier: f64,
}

/// A direction on its way.
struct Fit<'a> {
    points: Vec<Point<'a>>,
    direction: Vec<f64>,
}

impl<'a> Fit<'a> {
    /// Begins with the direction that is `ordinary` for the mean of ordinary text.
    fn new(whitening: &Whitening, points: Vec<Point<'a>>, ordinary: f64) -> Fit<'a> {
        Fit { points, direction: whitening.mean().iter().map(|m| ordinary * m).collect() }
    }

    /// Goes on to the minimum, for one input after another (dual coordinate descent; Hsieh et al., ICML 2008).
    fn run(&mut self) {
        const ROUNDS: usize = 200;
        let softness = 0.5 / STRICTNESS;
        let direction = &mut self.direction;
        for _ in 0..ROUNDS {
            let mut change = 0f64;
            for point in &mut self.points {
                let violation = point.bound - point.side * dot(point.white, direction);
                let mut multiplier =
                    point.multiplier + (violation - softness * point.multiplier) / (point.square + softness);
                // Wanted inputs have to reach their bound and not pass it either.
                if point.side < 0.0 {
                    multiplier = multiplier.max(0.0);
                }
                let step = (multiplier - point.multiplier) * point.side;
                point.multiplier = multiplier;
                change = change.max(step.abs() * point.square);
                if step != 0.0 {
                    direction.iter_mut().zip(point.white).for_each(|(d, x)| *d += step * x);
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
    use super::*;

    /// Inputs around (1, 0, 0, 0): nothing but noise, and wanted ones that also have some of the last direction.
    fn input(seed: u32, last: f32) -> Vec<f32> {
        let noise = |i: u32| ((seed * 4 + i).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5;
        vec![1.0 + 0.1 * noise(0), noise(1), noise(2), 0.1 * noise(3) + last]
    }

    #[test]
    fn tells_wanted_inputs_from_others_and_ordinary_ones() {
        let text: Vec<f32> = (0..500).flat_map(|seed| input(seed, 0.0)).collect();
        let whitening = Whitening::new(&text, 4, 0.01).unwrap();
        let ordinary = Inputs::new(&whitening, text.chunks_exact(4));
        let wanted: Vec<Vec<f32>> = (500..510).map(|seed| input(seed, 0.4)).collect();
        let others: Vec<Vec<f32>> = (510..530).map(|seed| input(seed, 0.1)).collect();
        let inputs = Inputs::new(&whitening, wanted.iter().chain(&others).map(Vec::as_slice));
        let numbers: Vec<usize> = (0..10).collect();
        let direction = separating(&whitening, &inputs, &numbers, &ordinary);
        let constant = constant(&whitening, &inputs, &numbers);
        let product = |g: &[f32], x: &[f32]| g.iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
        for x in &wanted {
            assert!(product(&direction, x) > 0.5, "{}", product(&direction, x));
            assert!((product(&constant, x) - 1.0).abs() < 0.3);
        }
        for x in others.iter().map(Vec::as_slice).chain(text.chunks_exact(4)) {
            assert!(product(&direction, x) < -0.2, "{}", product(&direction, x));
        }
    }
}
