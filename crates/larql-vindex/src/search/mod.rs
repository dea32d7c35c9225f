//! Search: the features that fire for a query, and the words that they write.

mod centre;
mod describe;
mod firing;
mod firing_rate;
mod knn;
mod query;
mod target;
mod walk;
mod words;

pub use centre::relation_centre;
pub use describe::{DescribeOptions, Edge, EdgeOfFeatures, Via, describe, describe_with_features};
pub use firing::{Firing, sample_of_vocabulary};
pub use firing_rate::FiringRates;
pub use knn::{FeatureHit, gate_knn, gate_knn_in_layers};
pub use target::TokenTexts;
pub(crate) use target::fold;
pub use walk::{Ranking, walk};
pub use words::Words;
