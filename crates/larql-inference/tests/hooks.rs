//! Hooks see every point that they ask for, no other, with the shapes that the points promise; the pass goes on with what they
//! write, and ends with their errors.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::collections::BTreeMap;
use std::sync::Arc;

use larql_compute::{Pool, Precision};
use larql_core::progress::CancelToken;
use larql_inference::{
    CopyError, Hook, HookError, KeyValueCache, LogitsFor, Model, PassError, Point, PointSet, Rows, Sequence,
    SequenceState, Stage,
};
use larql_models::{Checkpoint, KeysAndValues};

/// Families with everything that a layer can have: plain and grouped attention, soft caps, windows, sinks, latent and
/// borrowed keys, parallel branches, per-layer inputs, mixtures with and without shared experts, gated and not.
const FAMILIES: [&str; 10] = [
    "llama",
    "gemma2",
    "gemma4_e2b",
    "gemma4_moe",
    "gpt_oss",
    "deepseek_v3",
    "qwen2_moe",
    "phi",
    "gpt2",
    "qwen3_moe",
];

const TOKENS: [[u32; 5]; 2] = [[5, 9, 2, 11, 4], [7, 1, 30, 3, 8]];

fn open(family: &str) -> Model {
    let folder = larql_testing::repository("conformance").join(family);
    Model::load(&Checkpoint::open(&folder).unwrap(), Arc::new(Pool::new(2))).unwrap()
}

/// Hook made of a set of points and a function.
struct With<F>(PointSet, F);

impl<F: FnMut(Point, &Rows, &mut [f32]) -> Result<(), HookError>> Hook for With<F> {
    fn points(&self) -> PointSet {
        self.0.clone()
    }

    fn at(&mut self, point: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        (self.1)(point, rows, values)
    }
}

/// Runs two sequences, the second of which has a past, under a hook: the logits of all new tokens.
fn run(model: &Model, hook: &mut dyn Hook) -> Result<Vec<f32>, PassError> {
    let mut states = [KeyValueCache::new(model.spec()), KeyValueCache::new(model.spec())];
    model.pass().last_logits(&mut states[1], &TOKENS[1][..3]).unwrap();
    let [first, second] = &mut states;
    let logits = LogitsFor::AllTokens;
    let mut sequences = [
        Sequence { logits, ..Sequence::new(first, &TOKENS[0]) },
        Sequence { logits, ..Sequence::new(second, &TOKENS[1][3..]) },
    ];
    Ok(model.pass().with_hook(hook).run(&mut sequences)?.into_values())
}

fn no_hook(model: &Model) -> Vec<f32> {
    run(model, &mut With(PointSet::default(), |point, _: &Rows, _: &mut [f32]| panic!("called at {point}")))
        .unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_point_is_met_once_with_its_shape_and_looking_changes_nothing() {
    for family in FAMILIES {
        let model = open(family);
        let (spec, expected) = (model.spec(), no_hook(&model));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut hook = With(PointSet::all(), |point: Point, rows: &Rows, values: &mut [f32]| {
            assert_eq!((rows.len(), rows.sequences()), (7, 2), "{family}: {point}");
            assert_eq!((rows.positions(0), rows.positions(1)), (0..5, 3..5), "{family}: {point}");
            assert_eq!(rows.sequence_and_position(6), Some((1, 4)));
            assert!(seen.insert(point.to_string(), values.len()).is_none(), "{family}: {point} twice");
            Ok(())
        });
        let found = run(&model, &mut hook).unwrap();
        assert!(distance(&found, &expected) < 2e-5, "{family}: {}", distance(&found, &expected));

        let mut shapes = BTreeMap::from([
            (Point::Embedding.to_string(), 7 * spec.hidden_size),
            (Point::FinalNorm.to_string(), 7 * spec.hidden_size),
            (Point::Logits.to_string(), 7 * spec.vocab_size),
        ]);
        for (layer, layer_spec) in spec.layers.iter().enumerate() {
            let attention = &layer_spec.attention;
            let borrowed = matches!(attention.keys_and_values, KeysAndValues::Borrowed { .. });
            let mixture = layer_spec.feed_forward.mixture();
            for stage in Stage::ALL {
                let length = match stage {
                    Stage::Queries => 7 * attention.heads * attention.head_dim,
                    Stage::Keys | Stage::Values if borrowed => continue,
                    Stage::Keys => 7 * attention.kv_heads * attention.head_dim,
                    Stage::Values => 7 * attention.kv_heads * attention.value_dim,
                    Stage::AttentionPattern => (5 * 5 + 2 * 5) * attention.heads,
                    Stage::HeadOutputs => 7 * attention.heads * attention.value_dim,
                    Stage::ExpertWeights => match mixture {
                        Some(mixture) => 7 * mixture.experts,
                        None => continue,
                    },
                    Stage::FeatureActivations => 7 * layer_spec.feed_forward.features(),
                    _ => 7 * spec.hidden_size,
                };
                shapes.insert(Point::Layer { layer, stage }.to_string(), length);
            }
        }
        assert_eq!(seen, shapes, "{family}");
    }
}

#[test]
fn attention_patterns_are_distributions_over_what_a_token_sees() {
    for family in FAMILIES {
        let model = open(family);
        let heads = model.spec().layers[0].attention.heads;
        let sinks = model.spec().layers[0].attention.sinks;
        let point = Point::Layer { layer: 0, stage: Stage::AttentionPattern };
        let mut hook = With(PointSet::default().with(point), |_, rows: &Rows, values: &mut [f32]| {
            for (sequence, part) in rows.patterns(heads).enumerate() {
                let positions = rows.positions(sequence);
                let weights = values[part].chunks_exact(positions.end).enumerate();
                for (row, weights) in weights {
                    let (seen, unseen) = weights.split_at(positions.start + row / heads + 1);
                    let sum: f32 = seen.iter().sum();
                    assert!(unseen.iter().all(|weight| *weight == 0.0), "{family}: {weights:?}");
                    assert!(sum < 1.0 + 1e-5 && (sinks || sum > 1.0 - 1e-5), "{family}: {sum}");
                }
            }
            Ok(())
        });
        run(&model, &mut hook).unwrap();
    }
}

#[test]
fn what_a_hook_writes_is_what_the_pass_goes_on_with() {
    for family in FAMILIES {
        let model = open(family);
        let expected = no_hook(&model);
        let layers = 0..model.spec().layers.len();
        let stages = Stage::ALL.map(|stage| Point::Layer { layer: 1, stage });
        for point in [Point::Embedding, Point::FinalNorm, Point::Logits].into_iter().chain(stages) {
            let mut met = false;
            let mut hook = With(PointSet::default().with(point), |_, _: &Rows, values: &mut [f32]| {
                met = true;
                values.iter_mut().enumerate().for_each(|(i, value)| *value *= 1.5 + (i % 3) as f32);
                Ok(())
            });
            let found = run(&model, &mut hook).unwrap();
            let changed = distance(&found, &expected) > 1e-4;
            assert_eq!(changed, met, "{family}: {point} of {layers:?}");
        }
    }
}

#[test]
fn a_head_or_feature_set_to_zero_writes_nothing() {
    for family in FAMILIES {
        let model = open(family);
        // Zero heads and zero values give the same output, and so do zero features and zero expert weights.
        let zeroed = |stage| {
            let hook = &mut With(PointSet::stages([stage]), |_, _: &Rows, values: &mut [f32]| {
                values.fill(0.0);
                Ok(())
            });
            run(&model, hook).unwrap()
        };
        let difference = distance(&zeroed(Stage::HeadOutputs), &zeroed(Stage::AttentionPattern));
        assert!(difference < 1e-5, "{family}: {difference} between heads and patterns");
        let dense = model.spec().layers.iter().all(|layer| layer.feed_forward.mixture().is_none());
        let no_bias = model.spec().layers.iter().all(|layer| !layer.feed_forward.has_bias());
        if dense && no_bias {
            let difference = distance(&zeroed(Stage::FeatureActivations), &zeroed(Stage::FeedForwardOutput));
            assert!(difference < 1e-5, "{family}: {difference} between features and output");
        }
    }
}

#[test]
fn a_hook_that_fails_ends_the_pass_and_leaves_the_state_as_it_was() {
    let model = open("llama");
    let mut state = KeyValueCache::new(model.spec());
    let expected = model.pass().last_logits(&mut state.clone(), &TOKENS[0]).unwrap();
    let point = Point::Layer { layer: 1, stage: Stage::FeedForwardInput };
    let mut hook = With(PointSet::default().with(point), |_, _: &Rows, _: &mut [f32]| Err("enough".into()));
    let error = model.pass().with_hook(&mut hook).last_logits(&mut state, &TOKENS[0]).unwrap_err();
    assert_eq!(error.to_string(), "the hook at FeedForwardInput of layer 1 failed: enough");
    assert!(SequenceState::is_empty(&state));
    assert_eq!(model.pass().last_logits(&mut state, &TOKENS[0]).unwrap(), expected);
}

#[test]
fn a_cancelled_pass_ends_and_leaves_the_state_as_it_was() {
    let model = open("llama");
    let mut state = KeyValueCache::new(model.spec());
    let cancel = CancelToken::new();
    let stop = cancel.clone();
    // In the first layer, so that the second does not run.
    let point = Point::Layer { layer: 0, stage: Stage::LayerOutput };
    let mut hook = With(PointSet::default().with(point), |_, _: &Rows, _: &mut [f32]| {
        stop.cancel();
        Ok(())
    });
    let mut pass = model.pass().with_precision(Precision::Fast).with_cancel(&cancel).with_hook(&mut hook);
    let error = pass.last_logits(&mut state, &TOKENS[0]).unwrap_err();
    assert!(matches!(error, PassError::Cancelled(_)), "{error}");
    assert!(state.is_empty());
}

#[test]
fn copied_keys_and_values_are_those_that_a_hook_puts_there() {
    for family in FAMILIES {
        let model = open(family);
        let last = model.spec().layers.len() - 1;
        // In the last layer nothing but later tokens reads what the prompt's tokens keep.
        let points = PointSet::stages_of(last..last + 1, [Stage::Keys, Stage::Values]);
        let (before, next) = (0..4, &TOKENS[1][4..]);
        let filled = |tokens: &[u32], hook: &mut dyn Hook| {
            let mut cache = KeyValueCache::new(model.spec());
            model.pass().with_hook(hook).last_logits(&mut cache, tokens).unwrap();
            cache
        };
        let mut donated: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let donor = filled(
            &TOKENS[0],
            &mut With(points.clone(), |point: Point, _: &Rows, values: &mut [f32]| {
                donated.insert(point.to_string(), values.to_vec());
                Ok(())
            }),
        );
        let nothing = |_: Point, _: &Rows, _: &mut [f32]| -> Result<(), HookError> { Ok(()) };
        let mut copied = filled(&TOKENS[1][..4], &mut With(PointSet::default(), nothing));
        let plain = copied.clone();
        if let Some(lender) = model.spec().layers[last].attention.lender() {
            let error = copied.copy_layer(&donor, last, before).unwrap_err();
            assert_eq!(error, CopyError::Borrowed { layer: last, lender });
            continue;
        }
        copied.copy_layer(&donor, last, before).unwrap();
        let mut put = filled(
            &TOKENS[1][..4],
            &mut With(points, |point: Point, _: &Rows, values: &mut [f32]| {
                let donated = &donated[&point.to_string()];
                values.copy_from_slice(&donated[..values.len()]);
                Ok(())
            }),
        );
        let logits = |cache: &mut KeyValueCache| model.pass().last_logits(cache, next).unwrap();
        let found = logits(&mut copied);
        assert_eq!(found, logits(&mut put), "{family}");
        assert!(distance(&found, &logits(&mut plain.clone())) > 1e-4, "{family}: the copy changes something");
    }
}

#[test]
fn keys_and_values_are_copied_only_where_they_fit() {
    let (llama, phi) = (open("llama"), open("phi"));
    let mut own = KeyValueCache::new(llama.spec());
    llama.pass().last_logits(&mut own, &TOKENS[0][..2]).unwrap();
    let donor = own.clone();
    let error = |result: Result<(), CopyError>| result.unwrap_err().to_string();
    assert_eq!(
        error(own.copy_layer(&donor, 77, 0..1)),
        "layer 77 does not exist; there are 4, numbered from 0"
    );
    assert_eq!(
        error(own.copy_layer(&donor, 0, 1..3)),
        "positions up to 3 are asked for; the cache holds 2 tokens and the donor 2"
    );
    assert!(own.fits(llama.spec()) && !own.fits(phi.spec()));
    assert_eq!(own.copy_layer(&KeyValueCache::new(phi.spec()), 0, 0..0), Err(CopyError::OtherModel));
}
