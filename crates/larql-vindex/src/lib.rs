//! The vindex directory: extract, open, search, edit, verify.
//!
//! A vindex is a model as a directory of memory-mapped files in which every feed-forward feature is a record. This
//! crate knows the layout of the files, makes, opens and verifies such directories, and searches their features. It knows
//! nothing of attention, the forward pass and LQL: the engine asks for weights by role, and searches take query
//! vectors.
//!
//! ```
//! use larql_vindex::{FeatureStore, Vindex};
//!
//! # let path = larql_testing::repository("fixtures/llama-f16-all.vindex");
//! let vindex = Vindex::open(&path)?;
//! let strongest = vindex.top_tokens(0, 0).next();
//! assert_eq!(strongest.map(|top| top.token), Some(272));
//! # Ok::<(), larql_vindex::VindexError>(())
//! ```
//!
//! * [`extract()`] makes a vindex of a checkpoint, with [`ExtractOptions`], and reports to a
//!   [`Progress`](larql_core::progress::Progress);
//!   [`quantize`] makes a smaller one of another;
//! * [`Vindex`] is an open directory; [`Component`] lists the files of each part, and [`Holdings`] the parts that exist;
//! * [`FeatureStore`] is the interface to features; [`DownMeta`] and [`Labels`] are two of its files;
//! * [`Overlay`] is a vindex with [`FeatureEdits`]; the vindex itself does not change;
//! * a [`Patch`] is a file of edits; [`PatchStack`] applies patches to a vindex and removes them again; [`KnnStore`] is
//!   the edge memory; [`compile()`] writes vindex and edits as a new vindex, and [`History`] lists the instructions that
//!   built it;
//! * [`slice()`] writes some parts of a vindex as a vindex for one job: a [`SlicePreset`], or [`SliceParts`];
//! * [`search`] finds the features that fire for a query and the words that they write;
//! * [`cluster()`] groups features by their input and output tokens, and names groups after facts;
//! * [`verify()`] finds damaged files; [`Summary`] describes a vindex, and [`list`] those of a folder.

#![forbid(unsafe_code)]

mod catalogue;
mod cluster;
mod compile;
mod component;
mod digest;
mod down_meta;
mod edited_weights;
mod edits;
mod error;
mod extract;
mod feature_vectors;
mod features;
mod files;
mod gate_rows;
mod history;
mod holdings;
mod knn_store;
mod labels;
mod layer_file;
mod legacy;
mod mixture;
mod open;
mod overlay;
mod patch;
mod patterns;
pub mod search;
mod sequential_q6k;
mod slice;
mod summary;
mod verify;

pub use cluster::{ClusterGroup, ClusterOptions, Clusters, cluster};
pub use compile::{CompileOptions, CompileReport, compile};
pub use component::Component;
pub use down_meta::{DownMeta, TokenScore, TopTokens};
pub use edits::{EditedFeature, FeatureEdit, FeatureEdits, StatedEdge};
pub use error::{Damage, VindexError};
pub use extract::{
    Drift, ExtractOptions, ExtractReport, Origin, Part, Q4kOptions, Storage, extract, quantize,
};
pub use feature_vectors::FeatureVectors;
pub use features::FeatureStore;
pub use history::{History, HistoryLayer};
pub use holdings::Holdings;
pub use knn_store::{KnnEntry, KnnStore};
pub use labels::{Label, LabelSource, Labels, merge_labels};
pub use open::Vindex;
pub use overlay::Overlay;
pub use patch::{AppliedPatch, Conflict, FeatureOperation, Operation, Patch, PatchStack};
pub use patterns::{Patterns, find_patterns, write_patterns};
pub use slice::{
    SlicePart, SliceParts, SlicePlan, SlicePreset, UnknownPart, UnknownPreset, plan_slice, slice,
};
pub use summary::{FileSummary, Summary, list};
pub use verify::{FileReport, FileState, VerifyReport, verify};
