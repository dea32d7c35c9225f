//! Knowledge editing: facts as feed-forward features, as updates of a layer, or as entries of the edge memory.
//!
//! This crate knows nothing of LQL or serving.
//!
//! ```no_run
//! use std::collections::BTreeSet;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use larql_core::progress::{Meter, NoProgress, Stage};
//! use larql_edit::{ComposeOptions, Composer, LayerStatistics, Wording, default_layer};
//! use larql_knowledge::{LanguageModel, calibration_texts};
//! use larql_vindex::FeatureEdits;
//!
//! let pool = Arc::new(larql_compute::Pool::for_this_machine());
//! let language = LanguageModel::open(Path::new("model.vindex"), pool)?;
//! let (model, tokenizer) = (language.model(), language.tokenizer());
//! let statement = Wording::of("Atlantis", "capital").statement(tokenizer, "Atlantis", "Poseidonis")?;
//! let texts = calibration_texts(tokenizer)?;
//! let statistics = LayerStatistics::measure(model, default_layer(model), &texts)?;
//! let (before, options) = (FeatureEdits::default(), ComposeOptions::default());
//! let composer = Composer { model, edits: &before, statistics: &[&statistics], options };
//! let mut meter = Meter::new(&NoProgress, Stage::Inserting, 1);
//! let written = composer.write(&[statement], &BTreeSet::new(), &mut meter)?;
//! let mut edits = FeatureEdits::default();
//! written.iter().for_each(|written| written.lay_over(&mut edits));
//! let edited = model.edited(&edits)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order:
//!
//! * [`LayerStatistics`] describe a layer's inputs and features on background text, such as
//!   [`calibration_texts`](larql_knowledge::calibration_texts);
//! * a [`CausalTrace`] estimates the causal effect of each layer's feed-forward output on the answer, and so the layer to
//!   edit;
//! * a [`Wording`] has the prompts and the neighbourhood prompts of a relation, and turns an edge into a statement;
//! * a [`Statement`] is a fact in tokens: prompts, target and neighbourhood prompts;
//! * a [`Composer`] turns statements into features;
//! * a [`BatchEdit`] solves for one update of a layer that replaces the features of many facts;
//! * a [`TargetDelta`] is the vector that makes a model answer one prompt with a target;
//! * [`build_entries`] stores edges in the edge memory instead.
//!
//! Unlearning a fact is the same with another goal: one feature takes the model, after the prompts, to what it predicts
//! about entities that it does not know. Texts after which the edited model still states the fact become further prompts.
//!
//! A feature is written for each token of the target that the model does not predict by itself. Its gate row separates, in
//! whitened coordinates, the layer's inputs where that token is the expected next one from all other inputs. Its up row is
//! a second classifier against background text. Its down vector is optimised by gradients through the layers above, so that
//! the whole target is predicted even where the feature activates only in part. It replaces the feature of least
//! importance.

#![forbid(unsafe_code)]

mod activation_cache;
mod causal_trace;
mod compose;
mod entries;
mod error;
mod gate;
mod layers;
mod memit;
mod rebalance;
mod statement;
mod statistics;
mod target_delta;
mod unlearning;
mod value;
mod wording;

pub use causal_trace::{CausalTrace, editing_layer};
pub use compose::{ComposeOptions, Composer, Written, WrittenFeature};
pub use entries::{Assertion, build_entries};
pub use error::EditError;
pub use layers::{check_composable, default_layer, layers_for};
pub use memit::{BatchEdit, DEFAULT_LAMBDA, SolvedLayer};
pub use rebalance::{Balance, Carried, RebalanceOptions, rebalance, target_probabilities};
pub use statement::{Goal, Statement};
pub use statistics::LayerStatistics;
pub use target_delta::TargetDelta;
pub use wording::Wording;
