//! The feed-forward step: as a plug, and the weights of a model's own.

mod backend;
mod dense;
mod edited;
mod mixture;

pub use backend::{FfnBackend, FfnInput};
pub(crate) use dense::Dense;
pub(crate) use mixture::{Branch, ExpertRouter, Mixture, RouterInput};

/// The feed-forward weights of one layer.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a layer")]
pub(crate) enum FeedForward {
    /// One step that every token passes.
    Dense(Dense),
    /// Experts, of which each token passes a few.
    Mixture(Mixture),
    /// None: the weights are elsewhere.
    Absent,
}

impl FeedForward {
    /// The steps it consists of, in the order in which features are numbered.
    pub(crate) fn parts(&self) -> Box<dyn Iterator<Item = &Dense> + '_> {
        match self {
            FeedForward::Dense(dense) => Box::new(std::iter::once(dense)),
            FeedForward::Mixture(mixture) => Box::new(mixture.parts()),
            FeedForward::Absent => Box::new(std::iter::empty()),
        }
    }

    /// As [`FeedForward::parts`], to be changed.
    pub(crate) fn parts_mut(&mut self) -> Box<dyn Iterator<Item = &mut Dense> + '_> {
        match self {
            FeedForward::Dense(dense) => Box::new(std::iter::once(dense)),
            FeedForward::Mixture(mixture) => Box::new(mixture.parts_mut()),
            FeedForward::Absent => Box::new(std::iter::empty()),
        }
    }

    /// Features of the layer, those of all experts together.
    pub(crate) fn feature_count(&self) -> usize {
        self.parts().map(Dense::feature_count).sum()
    }
}
