//! The interface of LARQL itself: what a model knows, what it predicts, and edits of a session.
//!
//! Each route is a statement of LQL in the shape of a URL, carried out by `larql-session`. In reading order: `statement`
//! (carrying statements out, and `/v1/lql`), `browse` (describe, walk, select, relations, stats), `predict` (infer,
//! explain-infer, trace), `edit` (insert, patches, sessions), `tokens`, `runtime` (warm-up, capabilities).

mod browse;
mod edit;
mod predict;
mod runtime;
mod statement;
mod tokens;

pub(crate) use browse::{
    DescribeQuery, RelationsQuery, SelectRequest, WalkQuery, describe, described, edge_json, relations,
    scope, select, stats, subject, walk,
};
pub(crate) use edit::{
    apply_patch, insert, list_patches, list_sessions, remove_patch, show_patch, show_session,
};
pub(crate) use predict::{InferRequest, explain_infer, infer, trace};
pub(crate) use runtime::{capabilities, runtime, warmup};
pub(crate) use statement::{Asked, ask, lql, run_statements, stream_statement};
pub(crate) use tokens::{decode, encode};
