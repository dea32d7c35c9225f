//! Several sequences in one pass compute what each computes alone, in every family and both precisions.
//!
//! With [`Batching::Independent`] a sequence gets the same bits. With [`Batching::Shared`], and where a prompt is read in
//! chunks, sums are rounded in another order; the bounds here say how far that moves a logit.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::sync::{Arc, LazyLock};

use larql_compute::{Format, Matrix, Pool, Precision};
use larql_inference::{Batching, KeyValueCache, LogitsFor, Model, Pass, Sequence, greedy};
use larql_models::{Checkpoint, ModelError, ModelSpec, Role, WeightSource};
use proptest::prelude::*;

/// Largest change of a logit, as a share of the largest logit, by another order of sums in exact passes.
const EXACT_BOUND: f32 = 1e-5;

/// The same in fast passes. Activations in 8 bits are the same in any batch, but those that the down projection reads have
/// 16 bits in small batches and are floats in others, and a rounding of one layer's input may fall to the other side.
const FAST_BOUND: f32 = 5e-2;

fn families() -> Vec<String> {
    let folder = larql_testing::repository("conformance");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() >= 47, "{names:?}");
    names
}

fn checkpoint(family: &str) -> Checkpoint {
    Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap()
}

fn load(source: &dyn WeightSource) -> Model {
    Model::load(source, Arc::new(Pool::new(2))).unwrap()
}

/// A checkpoint whose matrices are in blocks, as far as their rows are whole blocks.
struct InBlocks {
    inner: Checkpoint,
    formats: [Format; 2],
}

impl WeightSource for InBlocks {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        let matrix = self.inner.matrix(role)?;
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let fits = |format: &&Format| matrix.format().is_float() && cols % format.block_len() == 0;
        let Some(format) = self.formats.iter().find(fits) else { return Ok(matrix) };
        let mut bytes = Vec::new();
        format.encode(&matrix.view().to_f32(), &mut bytes).unwrap();
        Ok(Matrix::new(*format, rows, cols, bytes.into()).unwrap())
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.inner.vector(role)
    }
}

/// Each family as it is stored, and in blocks.
fn models() -> impl Iterator<Item = (String, Model)> {
    families().into_iter().flat_map(|family| {
        let formats = [Format::Q4_K, Format::Q8_0];
        let in_blocks = load(&InBlocks { inner: checkpoint(&family), formats });
        [(family.clone(), load(&checkpoint(&family))), (format!("{family} in blocks"), in_blocks)]
    })
}

/// One sequence: tokens that its state holds already, in the parts in which they were read, and new ones.
#[derive(Clone, Debug)]
struct Case {
    before: Vec<usize>,
    new: usize,
}

impl Case {
    fn new(before: &[usize], new: usize) -> Case {
        Case { before: before.to_vec(), new }
    }

    /// Tokens of the sequence, different for each `number`.
    fn tokens(&self, number: usize, vocab: usize) -> Vec<u32> {
        let length = self.before.iter().sum::<usize>() + self.new;
        (0..length).map(|i| ((i * i * 7 + i * 13 + number * 31 + 3) % vocab) as u32).collect()
    }
}

/// A way to run sequences.
#[derive(Clone, Copy)]
struct Setup<'a> {
    model: &'a Model,
    precision: Precision,
    batching: Batching,
}

impl Setup<'_> {
    /// The state and new tokens of a case.
    fn start(&self, number: usize, case: &Case) -> (KeyValueCache, Vec<u32>) {
        let mut state = KeyValueCache::new(self.model.spec());
        let tokens = case.tokens(number, self.model.spec().vocab_size);
        let mut rest = &tokens[..];
        for part in &case.before {
            let (part, others) = rest.split_at(*part);
            let coming = others.len();
            let chunk = Sequence { coming, logits: LogitsFor::None, ..Sequence::new(&mut state, part) };
            self.pass().run(&mut [chunk]).unwrap();
            rest = others;
        }
        (state, rest.to_vec())
    }

    fn pass(&self) -> Pass<'_> {
        self.model.pass().with_precision(self.precision).with_batching(self.batching)
    }

    /// The logits of all new tokens of each sequence, after one pass of all.
    fn run(&self, states: &mut [KeyValueCache], tokens: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let logits = LogitsFor::AllTokens;
        let sequences = states.iter_mut().zip(tokens);
        let mut batch: Vec<Sequence<'_>> =
            sequences.map(|(state, tokens)| Sequence { logits, ..Sequence::new(state, tokens) }).collect();
        let logits = self.pass().run(&mut batch).unwrap();
        (0..tokens.len()).map(|sequence| logits.of(sequence).to_vec()).collect()
    }

    /// Runs cases together: the logits of all new tokens, then those of `steps` greedy tokens, sequence by sequence.
    fn generate(&self, cases: &[(usize, Case)], steps: usize) -> Vec<(Vec<Vec<f32>>, Vec<u32>)> {
        let (mut states, mut tokens): (Vec<_>, Vec<_>) =
            cases.iter().map(|(number, case)| self.start(*number, case)).unzip();
        let mut results = vec![(Vec::new(), Vec::new()); cases.len()];
        let vocab = self.model.spec().vocab_size;
        for _ in 0..=steps {
            for (sequence, logits) in self.run(&mut states, &tokens).into_iter().enumerate() {
                let next = greedy(&logits[logits.len() - vocab..]);
                tokens[sequence] = vec![next];
                results[sequence].0.push(logits);
                results[sequence].1.push(next);
            }
        }
        results
    }
}

/// Mixed lengths and states, among them enough rows for every kernel.
fn cases() -> Vec<(usize, Case)> {
    let cases = [
        Case::new(&[], 1),
        Case::new(&[5], 1),
        Case::new(&[], 7),
        Case::new(&[3, 4], 2),
        Case::new(&[17], 12),
        Case::new(&[1], 1),
        Case::new(&[], 3),
    ];
    cases.into_iter().enumerate().collect()
}

/// The largest difference of two, as a share of the largest magnitude.
fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-6_f32, |m, x| m.max(x.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

fn bound(precision: Precision) -> f32 {
    match precision {
        Precision::Exact => EXACT_BOUND,
        Precision::Fast => FAST_BOUND,
    }
}

#[test]
fn independent_sequences_get_the_same_bits_and_greedy_text_whoever_runs_beside_them() {
    for (family, model) in models() {
        for precision in [Precision::Exact, Precision::Fast] {
            let setup = Setup { model: &model, precision, batching: Batching::Independent };
            let together = setup.generate(&cases(), 6);
            for (case, together) in cases().iter().zip(together) {
                let alone = setup.generate(std::slice::from_ref(case), 6).remove(0);
                assert_eq!(together.1, alone.1, "{family} {precision:?} {case:?}: other greedy text");
                assert!(together.0 == alone.0, "{family} {precision:?} {case:?}: other logits");
            }
        }
    }
}

#[test]
fn sequences_that_share_kernels_stay_within_the_bound() {
    let mut largest = [0.0_f32; 2];
    for (family, model) in models() {
        for precision in [Precision::Exact, Precision::Fast] {
            let setup = Setup { model: &model, precision, batching: Batching::Shared };
            let together = setup.generate(&cases(), 0);
            for (case, together) in cases().iter().zip(together) {
                let alone = setup.generate(std::slice::from_ref(case), 0).remove(0);
                let difference = relative_difference(&together.0[0], &alone.0[0]);
                assert!(difference <= bound(precision), "{family} {precision:?} {case:?}: {difference}");
                let largest = &mut largest[usize::from(precision == Precision::Fast)];
                *largest = largest.max(difference);
            }
        }
    }
    println!("largest difference, exact and fast: {largest:?} of the largest logit");
}

#[test]
fn a_prompt_read_in_chunks_is_the_prompt_read_at_once() {
    let mut largest = [0.0_f32; 2];
    for (family, model) in models() {
        for precision in [Precision::Exact, Precision::Fast] {
            let setup = Setup { model: &model, precision, batching: Batching::Independent };
            let whole = setup.generate(&[(0, Case::new(&[], 40))], 0).remove(0);
            for chunks in [vec![16, 16], vec![1, 2, 3, 30], vec![39]] {
                let last = 40 - chunks.iter().sum::<usize>();
                let chunked = setup.generate(&[(0, Case::new(&chunks, last))], 0).remove(0);
                let vocab = model.spec().vocab_size;
                let expected = &whole.0[0][(40 - last) * vocab..];
                let difference = relative_difference(&chunked.0[0], expected);
                assert!(difference <= bound(precision), "{family} {precision:?} {chunks:?}: {difference}");
                let largest = &mut largest[usize::from(precision == Precision::Fast)];
                *largest = largest.max(difference);
            }
        }
    }
    println!("largest difference, exact and fast: {largest:?} of the largest logit");
}

/// Models with wide rows, so that every kernel runs: dense and a mixture, in floats and in blocks.
static WIDE: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let wide = ["llama_512", "qwen3_moe_256"];
    let formats = [[Format::Q4_K, Format::Q8_0], [Format::Q4_0, Format::Q6_K]];
    let in_blocks = wide
        .into_iter()
        .flat_map(|family| formats.map(|formats| load(&InBlocks { inner: checkpoint(family), formats })));
    wide.into_iter().map(|family| load(&checkpoint(family))).chain(in_blocks).collect()
});

#[test]
fn a_prompt_in_parts_gets_the_same_bits_in_chunks_of_any_whole_number_of_them() {
    const PART: usize = 8;
    for (number, model) in WIDE.iter().enumerate() {
        let tokens = Case::new(&[], 45).tokens(0, model.spec().vocab_size);
        for precision in [Precision::Exact, Precision::Fast] {
            let setup = Setup { model, precision, batching: Batching::Independent };
            let read = |chunks: &[usize]| {
                let (mut state, mut rest, mut read) =
                    (KeyValueCache::new(model.spec()), &tokens[..], Vec::new());
                for chunk in chunks {
                    let (chunk, others) = rest.split_at(*chunk);
                    let (coming, logits, part) = (others.len(), LogitsFor::AllTokens, Some(PART));
                    let chunk = Sequence { coming, logits, part, ..Sequence::new(&mut state, chunk) };
                    read.extend(setup.pass().run(&mut [chunk]).unwrap().into_values());
                    rest = others;
                }
                read
            };
            let whole = read(&[45]);
            for chunks in [&[PART, 24, 13][..], &[40, 5], &[PART, PART, PART, PART, PART, 5]] {
                assert!(read(chunks) == whole, "model {number} {precision:?} {chunks:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: prop::test_runner::RngSeed::Fixed(21), ..Default::default() })]

    #[test]
    fn random_batches_of_independent_sequences_equal_each_alone(
        model in 0..6_usize,
        exact in any::<bool>(),
        cases in prop::collection::vec(
            (prop::collection::vec(1..30_usize, 0..3), prop_oneof![1..4_usize, 1..40_usize, 90..110_usize]),
            1..6,
        ),
    ) {
        let precision = if exact { Precision::Exact } else { Precision::Fast };
        let setup = Setup { model: &WIDE[model], precision, batching: Batching::Independent };
        let cases: Vec<(usize, Case)> =
            cases.iter().map(|(before, new)| Case::new(before, *new)).enumerate().collect();
        let together = setup.generate(&cases, 1);
        for (case, together) in cases.iter().zip(together) {
            let alone = setup.generate(std::slice::from_ref(case), 1).remove(0);
            prop_assert!(together == alone, "{case:?} beside others");
        }
    }
}
