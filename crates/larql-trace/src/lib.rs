//! Traces of the residual stream: recording, logit lens, attribution, stores, declared interventions.
//!
//! ```no_run
//! # fn f(model: &larql_inference::Model, tokens: &[u32]) -> Result<(), larql_trace::TraceError> {
//! use larql_trace::{Positions, Trace};
//!
//! let trace = Trace::record(model, tokens, &Positions::Last)?;
//! let last = trace.position(0);
//! assert_eq!(last.residual(0).len(), model.spec().hidden_size);
//! # Ok(())
//! # }
//! ```
//!
//! In reading order:
//!
//! * a [`Trace`] has for each traced position the residual after the embedding and after each layer, and what attention and
//!   the feed-forward step added;
//! * [`lens`](read_lens) reads predictions in the middle of the stream, and an [`AnswerTrajectory`] follows one answer
//!   through the layers with the contributions to its logit;
//! * [`embedding_neighbours`], [`unembedding_projection`] and [`head_contributions`] are the other views of vectors in token
//!   space;
//! * an [`AttributionGraph`] says which heads and features bring an answer about, and through which others;
//! * [`ChainStore`], [`BoundaryStore`] and [`ContextStore`] keep traces in files;
//! * an [`Intervention`] declares what a pass is to capture, ablate, steer or patch.

#![forbid(unsafe_code)]

mod answer;
mod error;
mod graph;
mod intervention;
mod lens;
mod store;
mod token_space;
mod trace;

pub use answer::{AnswerTrajectory, AnswerWaypoint, Pusher};
pub use error::TraceError;
pub use graph::{AttributionGraph, GraphEdge, GraphEnd, GraphNode};
pub use intervention::{
    Action, Capture, Declaration, Intervention, InterventionError, PatchSource, Place, Receipt, RowSelection,
    Vector,
};
pub use lens::{LensReading, TargetReading, read_lens};
pub use store::{
    BoundaryStore, BoundaryWriter, ChainStore, ChainWriter, ContextContents, ContextStore, ContextWriter,
    ModelDigest, StoreError, Tier,
};
pub use token_space::{TokenScore, embedding_neighbours, head_contributions, unembedding_projection};
pub use trace::{Component, Positions, Trace, TracedPosition};
