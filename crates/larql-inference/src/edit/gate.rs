//! When a written feature fires: a direction that tells some inputs from all others.

use super::whitening::{Whitening, dot};

/// An input in white coordinates, made once for all directions that are fitted to it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    white: Vec<f64>,
    /// Its length, squared.
    square: f64,
}

impl Input {
    pub(crate) fn new(whitening: &Whitening, x: &[f32]) -> Input {
        let white = whitening.whiten(x);
        Input { square: dot(&white, &white), white }
    }
}

/// What inputs that are not wanted are to stay below, on the negative side, where wanted ones reach 1. With less, more
/// of them fire a little; with more, wordings that nobody has tried fire less.
const MARGIN: f64 = 0.8;

/// What the square of a single input's distance from its bounds counts, where ordinary text as a whole counts 1/2: of a
/// wanted one, and of another.
const STRICTNESS: [f64; 2] = [3.0, 0.3];

/// How often inputs that come near to firing are added to those that must not, and how many.
const ROUNDS_OF_ADDING: usize = 3;
const ADDED: usize = 100;

/// Which inputs a direction has to tell apart.
pub(crate) struct Sides<'a> {
    /// Inputs for which the feature is to fire.
    pub(crate) wanted: Vec<&'a Input>,
    /// Inputs for which it must not.
    pub(crate) others: Vec<&'a Input>,
    /// More of those, too many to take them all: they count where they come near to firing.
    pub(crate) watched: Vec<&'a Input>,
}

/// The direction `g` with `g . x = 1` for wanted inputs, `g . x <= -margin` for others, and nearly `-margin` for ordinary
/// text; as far as one direction can.
///
/// It minimises `E[(g . x + margin)^2] / 2` over ordinary text plus the squares of what is outside its bounds: a support
/// vector machine with squared losses in white coordinates.
pub(crate) fn separating(whitening: &Whitening, sides: Sides<'_>) -> Vec<f32> {
    let wanted = sides.wanted.into_iter().map(|input| Point::new(input, 1.0, 1.0));
    let others = sides.others.into_iter().map(|input| Point::new(input, -1.0, MARGIN));
    let mut fit = Fit::new(whitening, wanted.chain(others).collect(), -MARGIN);
    fit.run();
    let mut watched = sides.watched;
    for _ in 0..ROUNDS_OF_ADDING {
        let product = |input: &Input| dot(&input.white, &fit.direction);
        let (mut near, far): (Vec<(f64, &Input)>, Vec<_>) = watched
            .into_iter()
            .map(|input| (product(input), input))
            .partition(|(product, _)| *product > -0.5 * MARGIN);
        if near.is_empty() {
            break;
        }
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rest = near.split_off(ADDED.min(near.len()));
        watched = rest.into_iter().chain(far).map(|(_, input)| input).collect();
        fit.points.extend(near.into_iter().map(|(_, input)| Point::new(input, -1.0, MARGIN)));
        fit.run();
    }
    whitening.direction(fit.direction)
}

/// The direction `c` with `c . x = 1` for inputs in `wanted` and nearly `ordinary` for ordinary text. With 1 it is a bias
/// for rows that have none; with 0 it tells the wanted from ordinary text in a way of its own: what lies beside them
/// counts for nothing, so it goes astray elsewhere than [`separating`] does.
pub(crate) fn level(whitening: &Whitening, wanted: &[&Input], ordinary: f64) -> Vec<f32> {
    let wanted = wanted.iter().map(|input| Point::new(input, 1.0, 1.0));
    let mut fit = Fit::new(whitening, wanted.collect(), ordinary);
    fit.run();
    whitening.direction(fit.direction)
}

/// An input that the direction has to put on one side.
struct Point<'a> {
    input: &'a Input,
    /// 1 if it is wanted, else -1.
    side: f64,
    /// What its product with the direction has to reach on its side.
    bound: f64,
    multiplier: f64,
}

impl<'a> Point<'a> {
    fn new(input: &'a Input, side: f64, bound: f64) -> Point<'a> {
        Point { input, side, bound, multiplier: 0.0 }
    }
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
        let direction = &mut self.direction;
        for _ in 0..ROUNDS {
            let mut change = 0f64;
            for point in &mut self.points {
                let Input { white, square } = point.input;
                let softness = 0.5 / STRICTNESS[usize::from(point.side < 0.0)];
                let violation = point.bound - point.side * dot(white, direction);
                let mut multiplier =
                    point.multiplier + (violation - softness * point.multiplier) / (square + softness);
                // Wanted inputs have to reach their bound and not pass it either.
                if point.side < 0.0 {
                    multiplier = multiplier.max(0.0);
                }
                let step = (multiplier - point.multiplier) * point.side;
                point.multiplier = multiplier;
                change = change.max(step.abs() * square);
                if step != 0.0 {
                    direction.iter_mut().zip(white).for_each(|(d, x)| *d += step * x);
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
        let inputs = |inputs: &[Vec<f32>]| -> Vec<Input> {
            inputs.iter().map(|x| Input::new(&whitening, x)).collect()
        };
        let ordinary: Vec<Vec<f32>> = text.chunks_exact(4).map(<[f32]>::to_vec).collect();
        let wanted: Vec<Vec<f32>> = (500..510).map(|seed| input(seed, 0.4)).collect();
        let others: Vec<Vec<f32>> = (510..530).map(|seed| input(seed, 0.1)).collect();
        let [white_wanted, white_others, watched] = [&wanted, &others, &ordinary].map(|x| inputs(x));
        let sides = Sides {
            wanted: white_wanted.iter().collect(),
            others: white_others.iter().collect(),
            watched: watched.iter().collect(),
        };
        let constant = level(&whitening, &sides.wanted, 1.0);
        let selective = level(&whitening, &sides.wanted, 0.0);
        let direction = separating(&whitening, sides);
        let product = |g: &[f32], x: &[f32]| g.iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
        for x in &wanted {
            assert!(product(&direction, x) > 0.5, "{}", product(&direction, x));
            assert!((product(&constant, x) - 1.0).abs() < 0.3);
            assert!((product(&selective, x) - 1.0).abs() < 0.4, "{}", product(&selective, x));
        }
        for x in &ordinary {
            assert!((product(&constant, x) - 1.0).abs() < 0.5, "{}", product(&constant, x));
            assert!(product(&selective, x).abs() < 0.4, "{}", product(&selective, x));
        }
        for x in others.iter().chain(&ordinary) {
            assert!(product(&direction, x) < -0.2, "{}", product(&direction, x));
        }
    }
}
