//! The model as it runs: tokens, passes with hooks, generation, and vectors in token space.

use std::sync::{Arc, Mutex};

use larql_compute::Precision;
use larql_core::Triple;
use larql_core::progress::CancelToken;
use larql_edit::{EditError, TargetDelta};
use larql_inference::{
    CopyError, DecodeOptions, GradientError, KeyValueCache, LogitsFor, SamplingOptions, Sequence, predictions,
};
use larql_knowledge::{GenerationOptions, LanguageModel, entity_tokens};
use larql_trace::{embedding_neighbours, head_contributions, read_lens, unembedding_projection};
use larql_vindex::KnnEntry;
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::cache::{KeyValueCache as Cache, borrowed};
use crate::declared::Intervention;
use crate::error::Problem;
use crate::generation::Generation;
use crate::hook::{Chain, Given};
use crate::interrupt;
use crate::trace::ResidualTrace;
use crate::{arrays, trace};

/// A model under its patches at one moment. It does not change; later edits make another one.
#[pyclass(frozen, module = "larql._larql")]
pub(crate) struct Model {
    language: LanguageModel,
    /// Features of each layer that passes walk; all of them if none is given.
    top_k: Option<usize>,
    /// Description of the weights, for files of traces.
    identity: Option<String>,
}

impl Model {
    pub(crate) fn new(language: LanguageModel, top_k: Option<usize>, identity: Option<String>) -> Model {
        Model { language, top_k, identity }
    }

    fn layer(&self, layer: i64) -> Result<usize, Problem> {
        arrays::index(layer, self.language.model().spec().layers.len(), "layer")
    }

    fn token(&self, token: i64) -> Result<u32, Problem> {
        let token = arrays::index(token, self.language.model().spec().vocab_size, "token")?;
        u32::try_from(token).map_err(|error| Problem::new("InternalError", error))
    }

    fn hidden(&self) -> usize {
        self.language.model().spec().hidden_size
    }
}

/// A token with a score: text, number, score.
type ScoredToken = (String, u32, f32);

#[pymethods]
impl Model {
    /// Number of layers.
    #[getter]
    fn num_layers(&self) -> usize {
        self.language.model().spec().layers.len()
    }

    /// Width of the residual stream.
    #[getter]
    fn hidden_size(&self) -> usize {
        self.hidden()
    }

    /// Number of features of the first layer.
    #[getter]
    fn intermediate_size(&self) -> usize {
        self.language.model().spec().layers.first().map_or(0, |layer| layer.feed_forward.features())
    }

    /// Number of tokens.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.language.model().spec().vocab_size
    }

    /// Name of the model's family.
    #[getter]
    fn family(&self) -> &str {
        &self.language.model().spec().family
    }

    /// Factor of embeddings.
    #[getter]
    fn embedding_scale(&self) -> f32 {
        self.language.model().spec().embedding_scale
    }

    /// Number of query heads, number of key and value heads, width of a head and of its values in a layer.
    fn heads(&self, layer: i64) -> PyResult<(usize, usize, usize, usize)> {
        let attention = &self.language.model().spec().layers[self.layer(layer)?].attention;
        Ok((attention.heads, attention.kv_heads, attention.head_dim, attention.value_dim))
    }

    /// Numbers of a text's tokens; `add_special` adds what the model expects around a whole text.
    #[pyo3(signature = (text, add_special = true))]
    fn encode(&self, text: &str, add_special: bool) -> PyResult<Vec<u32>> {
        Ok(self.language.encode(text, add_special).map_err(Problem::from)?)
    }

    /// Text of tokens.
    #[pyo3(signature = (tokens, skip_special = false))]
    fn decode(&self, tokens: Vec<u32>, skip_special: bool) -> String {
        self.language.tokenizer().decode(&tokens, skip_special)
    }

    /// An empty cache of keys and values.
    fn cache(&self) -> Cache {
        Cache::new(self.language.model().spec())
    }

    /// Runs prompts, given as tokens, in one pass. Returns for each prompt the logits of its last token, `[1, vocab]`, or of
    /// every token, `[tokens, vocab]`. With `caches`, one for each prompt, its tokens come after those of the cache, which grows
    /// by them.
    #[pyo3(signature = (prompts, hooks = Vec::new(), every_token = false, caches = None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        prompts: Vec<Vec<u32>>,
        hooks: Vec<Given<'py>>,
        every_token: bool,
        caches: Option<Vec<PyRef<'py, Cache>>>,
    ) -> PyResult<Vec<Bound<'py, PyArray2<f32>>>> {
        if prompts.is_empty() {
            return Err(Problem::argument("there are no prompts; give at least one").into());
        }
        let caches = caches.map(|caches| caches.iter().map(|cache| cache.shared()).collect::<Vec<_>>());
        if let Some(caches) = caches.as_ref().filter(|caches| caches.len() != prompts.len()) {
            let (caches, prompts) = (caches.len(), prompts.len());
            let message =
                format!("{caches} caches are given for {prompts} prompts; expected one for each prompt");
            return Err(Problem::argument(message).into());
        }
        let mut chain = Chain::new(hooks, self.num_layers())?;
        let cancel = CancelToken::new();
        let result = interrupt::run(py, &cancel, || {
            let model = self.language.model();
            let walk = model.walk_ffn(self.top_k.unwrap_or(usize::MAX));
            let mut of_caches =
                caches.iter().flatten().map(|cache| borrowed(cache)).collect::<Result<Vec<_>, _>>()?;
            if !of_caches.iter().all(|cache| cache.fits(model.spec())) {
                return Err(CopyError::OtherModel.into());
            }
            let mut new: Vec<_> = match of_caches.is_empty() {
                true => prompts.iter().map(|_| KeyValueCache::new(model.spec())).collect(),
                false => Vec::new(),
            };
            let states = new.iter_mut().chain(of_caches.iter_mut().map(|cache| &mut **cache));
            let logits = if every_token { LogitsFor::AllTokens } else { LogitsFor::LastToken };
            let mut sequences: Vec<Sequence<'_>> = prompts
                .iter()
                .zip(states)
                .map(|(tokens, state)| Sequence { logits, ..Sequence::new(state, tokens) })
                .collect();
            let pass = model.pass().with_feed_forward(&walk).with_cancel(&cancel);
            Ok(pass.with_hook(&mut chain).run(&mut sequences)?)
        });
        if let Some(raised) = chain.take_raised() {
            return Err(raised);
        }
        let (logits, vocabulary) = (result?, self.vocab_size());
        let of_prompt = |prompt| arrays::rows(py, logits.of(prompt).to_vec(), vocabulary);
        (0..prompts.len()).map(of_prompt).collect()
    }

    /// The likeliest tokens of logits, `[vocab]`, with their probabilities.
    fn predictions(&self, logits: &Bound<'_, PyAny>, top: usize) -> PyResult<Vec<ScoredToken>> {
        let logits = arrays::vector_of(logits, "logits", self.vocab_size())?;
        let likeliest = predictions(&logits, top).into_iter();
        Ok(likeliest.map(|next| (self.text(next.token), next.token, next.probability)).collect())
    }

    /// Resolves a declaration of interventions, in JSON, for this model. Prompts that it names are run.
    fn intervention(&self, py: Python<'_>, declaration: &str) -> PyResult<Intervention> {
        let cancel = CancelToken::new();
        let language = self.language.with_cancel(&cancel);
        interrupt::run(py, &cancel, || Intervention::resolve(&language, declaration))
    }

    /// Continues a prompt, piece by piece. Sampling options are a dict with the names of LARQL's sampling options.
    #[pyo3(signature = (prompt, max_tokens, sampling = "{}", stop = Vec::new(), hooks = Vec::new(), exact = false))]
    fn generate(
        &self,
        prompt: String,
        max_tokens: usize,
        sampling: &str,
        stop: Vec<String>,
        hooks: Vec<Given<'_>>,
        exact: bool,
    ) -> PyResult<Generation> {
        let sampling: SamplingOptions = serde_json::from_str(sampling)
            .map_err(|error| Problem::argument(format!("the sampling options cannot be read: {error}")))?;
        sampling.check().map_err(Problem::argument)?;
        let stop_tokens = self.language.stop_tokens().to_vec();
        let decode = DecodeOptions { sampling, stop_tokens, ..DecodeOptions::greedy(max_tokens) };
        let precision = if exact { Precision::Exact } else { Precision::Fast };
        let options = GenerationOptions { stop_texts: stop, ..GenerationOptions::new(decode, precision) };
        let chain = Arc::new(Mutex::new(Chain::new(hooks, self.num_layers())?));
        Ok(Generation::begin(self.language.clone(), self.top_k, prompt, options, chain))
    }

    /// Records the residual stream of a prompt at its last token or at every token.
    #[pyo3(signature = (prompt, every_token = false, hooks = Vec::new()))]
    fn trace(
        &self,
        py: Python<'_>,
        prompt: String,
        every_token: bool,
        hooks: Vec<Given<'_>>,
    ) -> PyResult<ResidualTrace> {
        let mut chain = Chain::new(hooks, self.num_layers())?;
        let cancel = CancelToken::new();
        let language = self.language.with_cancel(&cancel);
        let identity = self.identity.as_deref();
        let result = interrupt::run(py, &cancel, || {
            trace::record(&language, identity, prompt, every_token, &mut chain)
        });
        match chain.take_raised() {
            Some(raised) => Err(raised),
            None => result,
        }
    }

    /// The likeliest tokens of residuals, `[hidden]` or `[rows, hidden]`, by the logit lens: for each row text, number and
    /// probability.
    fn logit_lens(
        &self,
        py: Python<'_>,
        residuals: &Bound<'_, PyAny>,
        top: usize,
    ) -> PyResult<Vec<Vec<ScoredToken>>> {
        let residuals = arrays::vectors_of(residuals, "residual", self.hidden())?;
        let read = py
            .detach(|| read_lens(self.language.model(), &residuals, top, &[], Precision::Exact))
            .map_err(Problem::from)?;
        let of_row = |reading: larql_trace::LensReading| {
            let top = reading.top.into_iter();
            top.map(|next| (self.text(next.token), next.token, next.probability)).collect()
        };
        Ok(read.into_iter().map(of_row).collect())
    }

    /// Rank, probability and logit of a token for each of the residuals, `[hidden]` or `[rows, hidden]`, by the logit lens.
    fn track_token(
        &self,
        py: Python<'_>,
        residuals: &Bound<'_, PyAny>,
        token: i64,
    ) -> PyResult<Vec<(usize, f32, f32)>> {
        let token = self.token(token)?;
        let residuals = arrays::vectors_of(residuals, "residual", self.hidden())?;
        let targets = vec![token; residuals.len() / self.hidden()];
        let read = py
            .detach(|| read_lens(self.language.model(), &residuals, 0, &targets, Precision::Exact))
            .map_err(Problem::from)?;
        let targets = read.into_iter().filter_map(|reading| reading.target);
        Ok(targets.map(|target| (target.rank, target.probability, target.logit)).collect())
    }

    /// The tokens whose embeddings have the greatest cosine with a vector, `[hidden]`: text, number and cosine.
    fn embedding_neighbors(
        &self,
        py: Python<'_>,
        vector: &Bound<'_, PyAny>,
        top: usize,
    ) -> PyResult<Vec<ScoredToken>> {
        let vector = arrays::vector_of(vector, "query", self.hidden())?;
        let model = self.language.model();
        let best = py.detach(|| embedding_neighbours(model, &vector, top)).map_err(Problem::from)?;
        Ok(best.into_iter().map(|best| (self.text(best.token), best.token, best.score)).collect())
    }

    /// The tokens whose rows of the output head have the greatest product with a vector, `[hidden]`: text, number and product.
    fn project_through_unembed(
        &self,
        py: Python<'_>,
        vector: &Bound<'_, PyAny>,
        top: usize,
    ) -> PyResult<Vec<ScoredToken>> {
        let vector = arrays::vector_of(vector, "vec", self.hidden())?;
        let model = self.language.model();
        let best = py.detach(|| unembedding_projection(model, &vector, top)).map_err(Problem::from)?;
        Ok(best.into_iter().map(|best| (self.text(best.token), best.token, best.score)).collect())
    }

    /// Row of the embedding, `[hidden]`, without the model's scale.
    fn embedding_row<'py>(&self, py: Python<'py>, token: i64) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let row = self.language.model().embedding_row(self.token(token)?).map_err(Problem::from)?;
        Ok(arrays::vector(py, row))
    }

    /// Row of the output head, `[hidden]`.
    fn unembedding_row<'py>(&self, py: Python<'py>, token: i64) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let row = self.language.model().head_row(self.token(token)?).map_err(Problem::from)?;
        Ok(arrays::vector(py, row))
    }

    /// Output of the feed-forward step of a layer, `[rows, hidden]`, with all features, for inputs after its norm, `[hidden]` or
    /// `[rows, hidden]`.
    fn feed_forward<'py>(
        &self,
        py: Python<'py>,
        layer: i64,
        input: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let layer = self.layer(layer)?;
        let input = arrays::vectors_of(input, "x", self.hidden())?;
        let model = self.language.model();
        let output = py.detach(|| Ok::<_, GradientError>(model.dense_step(layer)?.forward(&input)));
        arrays::rows(py, output.map_err(EditError::from).map_err(Problem::from)?, self.hidden())
    }

    /// The entries of the edge memory whose keys are nearest to a feed-forward input of a layer, `[hidden]`: entity, relation,
    /// target and cosine, centred and whitened.
    fn nearest_entries(
        &self,
        py: Python<'_>,
        layer: i64,
        input: &Bound<'_, PyAny>,
        count: usize,
    ) -> PyResult<Vec<(String, String, String, f32)>> {
        let layer = self.layer(layer)?;
        let input = arrays::vector_of(input, "residual", self.hidden())?;
        let nearest = py.detach(|| {
            let memory = self.language.edge_memory()?;
            let pool = self.language.model().pool();
            Ok::<_, Problem>(memory.map(|memory| memory.nearest(pool, layer, &input, count)))
        })?;
        let row = |(entry, cosine): (KnnEntry, f32)| {
            let Triple { entity, relation, target } = entry.triple;
            (entity, relation, target, cosine)
        };
        Ok(nearest.unwrap_or_default().into_iter().map(row).collect())
    }

    /// The vector that has the model answer a prompt with a target, given as tokens, when it is added to the output of a layer's
    /// feed-forward step: the vector, `[hidden]`, and the mean negative log-likelihoods without and with it, in nats.
    fn target_delta<'py>(
        &self,
        py: Python<'py>,
        prompt: Vec<u32>,
        target: Vec<u32>,
        layer: i64,
        steps: usize,
    ) -> PyResult<(Bound<'py, PyArray1<f32>>, f32, f32)> {
        let layer = self.layer(layer)?;
        let cancel = CancelToken::new();
        let model = self.language.model().with_cancel(&cancel);
        let optimised = interrupt::run(py, &cancel, || {
            Ok(TargetDelta::optimise(&model, layer, &prompt, &target, steps)?)
        });
        let TargetDelta { delta, loss_before, loss } = optimised?;
        Ok((arrays::vector(py, delta), loss_before, loss))
    }

    /// Numbers of the tokens of a word as it stands within a sentence.
    fn word_tokens(&self, word: &str) -> PyResult<Vec<u32>> {
        Ok(entity_tokens(self.language.tokenizer(), word).map_err(Problem::from)?)
    }

    /// Output projection of the attention of a layer, `[hidden, heads * value_dim]`.
    fn attention_output(&self, py: Python<'_>, layer: i64) -> PyResult<Py<PyAny>> {
        let layer = self.layer(layer)?;
        let weight = self.language.model().attention_output(layer).map_err(Problem::from)?;
        arrays::matrix(py, weight)
    }

    /// Contribution of each attention head to the logit of a token after a prompt, given as tokens, with the final norm's
    /// scale held: `[layers][heads]`.
    fn head_contributions(&self, py: Python<'_>, tokens: Vec<u32>, token: i64) -> PyResult<Vec<Vec<f32>>> {
        let token = self.token(token)?;
        let cancel = CancelToken::new();
        let model = self.language.model().with_cancel(&cancel);
        interrupt::run(py, &cancel, || Ok(head_contributions(&model, &tokens, token)?))
    }
}

impl Model {
    fn text(&self, token: u32) -> String {
        self.language.tokenizer().token_text(token).unwrap_or_default()
    }
}
