//! A slice of a model loads as what it is, runs with back ends for what it lacks, and says what is missing without them.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::sync::Arc;

use larql_compute::{Matrix, Pool};
use larql_inference::{KeyValueCache, LoadError, Model, Pass};
use larql_models::{Checkpoint, LayerRole, ModelError, ModelSpec, Role, WeightSource};

const TOKENS: [u32; 5] = [5, 9, 2, 11, 4];

/// A checkpoint of which only some roles are held.
struct Slice {
    inner: Checkpoint,
    holds: fn(Role) -> bool,
}

impl Slice {
    fn of(family: &str, holds: fn(Role) -> bool) -> Slice {
        let folder = larql_testing::repository("conformance").join(family);
        Slice { inner: Checkpoint::open(&folder).unwrap(), holds }
    }

    fn check(&self, role: Role) -> Result<(), ModelError> {
        match (self.holds)(role) {
            true => Ok(()),
            false => Err(ModelError::MissingTensor { role, name: String::new(), path: "slice".into() }),
        }
    }
}

impl WeightSource for Slice {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }

    fn matrix(&self, role: Role) -> Result<Matrix, ModelError> {
        self.check(role)?;
        self.inner.matrix(role)
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>, ModelError> {
        self.check(role)?;
        self.inner.vector(role)
    }
}

fn is_feed_forward(role: Role) -> bool {
    use LayerRole::*;
    let Role::Layer(_, role) = role else { return false };
    matches!(role, Gate | Up | Down | GateBias | UpBias | DownBias)
        || matches!(role, ExpertGate(_) | ExpertUp(_) | ExpertDown(_))
        || matches!(role, ExpertGateBias(_) | ExpertUpBias(_) | ExpertDownBias(_))
}

fn is_end(role: Role) -> bool {
    matches!(role, Role::Embedding | Role::Head | Role::HeadBias)
}

fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(2))
}

fn logits(pass: &mut Pass<'_>, model: &Model) -> Result<Vec<f32>, larql_inference::PassError> {
    pass.last_logits(&mut KeyValueCache::new(model.spec()), &TOKENS)
}

#[test]
fn attention_alone_runs_with_the_feed_forward_step_and_ends_of_others() {
    for family in ["llama", "gemma3_text", "mixtral", "gpt_oss", "deepseek_v3", "gpt2"] {
        let whole = Model::load(&Slice::of(family, |_| true), pool()).unwrap();
        let expected = logits(&mut whole.pass(), &whole).unwrap();
        let slice = Slice::of(family, |role| !is_feed_forward(role) && !is_end(role));
        let attention = Model::load_held(&slice, pool()).unwrap();
        let feed_forward =
            Model::load_held(&Slice::of(family, |role| is_feed_forward(role) || is_router(role)), pool())
                .unwrap()
                .dense_ffn();
        let ends = whole.ends();
        let mut pass = attention.pass().with_feed_forward(&feed_forward).with_ends(&*ends);
        assert_eq!(logits(&mut pass, &attention).unwrap(), expected, "{family}");
    }
}

fn is_router(role: Role) -> bool {
    use LayerRole::*;
    let norms = matches!(
        role,
        Role::FinalNorm
            | Role::Layer(_, AttentionNorm | FeedForwardNorm | PostAttentionNorm | PostFeedForwardNorm)
    );
    norms
        || matches!(role, Role::FinalNormBias | Role::Layer(_, AttentionNormBias | FeedForwardNormBias))
        || matches!(role, Role::Layer(_, Router | RouterBias | RouterCorrection | ExpertScale))
}

#[test]
fn what_is_missing_is_named_when_it_is_needed() {
    let message = |holds: fn(Role) -> bool| {
        let model = Model::load_held(&Slice::of("llama", holds), pool()).unwrap();
        logits(&mut model.pass(), &model).unwrap_err().to_string()
    };
    let rest = " is not in what was loaded, which is a slice of the model; run with a back end that has it";
    assert_eq!(message(|role| !is_end(role)), format!("the token embedding{rest}"));
    assert_eq!(message(|role| !is_feed_forward(role)), format!("the feed-forward step of layer 0{rest}"));
    let no_attention = message(|role| !matches!(role, Role::Layer(1, LayerRole::Query)));
    assert_eq!(no_attention, format!("attention of layer 1{rest}"));
    let no_head = message(|role| role != Role::FinalNorm);
    assert_eq!(no_head, format!("the final norm{rest}"));
}

#[test]
fn a_whole_model_is_asked_for_unless_a_slice_will_do() {
    let slice = Slice::of("llama", |role| !is_feed_forward(role));
    let error = Model::load(&slice, pool()).unwrap_err();
    assert!(matches!(error, LoadError::Model(ModelError::MissingTensor { .. })), "{error}");
}
