//! Asking in the way in which knowledge is stored: "The capital of France is", not "France" alone.

use std::ops::Range;

use larql_compute::top_k_by_value;
use larql_inference::{BackendError, Model};
use larql_models::Tokenizer;
use larql_vindex::LabelSource;
use larql_vindex::search::{Edge, EdgeOfFeatures, Via};

use super::asking::{Answer, Question, ask};
use super::batch::{Batch, PrefixCache, Prompt};
use super::belief::Evidence;
use super::relations::{AskableRelation, AskableRelations};
use super::residual::EntityResidual;
use crate::KnowledgeError;

/// Relations that are asked about at most.
pub(crate) const RELATIONS: usize = 12;
/// Tokens that all wordings together have at most, without those that each shares with all questions of its kind, which
/// are read once.
const TOKENS: usize = 250;
/// Answers to one question at most, where there is one right answer and where there may be several.
const ANSWERS: (usize, usize) = (2, 4);
/// Features of a layer that are looked at for an answer.
const STRONGEST: usize = 16;
/// A feature carries an answer if it gives at least this share of what the strongest gives.
const CARRIES: f32 = 0.25;
/// Below this probability an answer is not shown; and below this one by a belief that was learnt from other models, which is
/// less sure of what it knows.
const WORTH_SHOWING: f32 = 0.1;
const WORTH_SHOWING_UNPROBED: f32 = 0.03;

/// An entity, and a relation that it may have.
#[derive(Clone, Copy)]
pub(crate) struct RelationQuestion<'a> {
    pub(crate) entity: &'a str,
    pub(crate) relation: &'a AskableRelation,
    /// Its number.
    pub(crate) number: usize,
    /// Number of the relation's templates that are used.
    pub(crate) wordings: usize,
    /// Predicted score of the relation for the entity.
    pub(crate) kind: f32,
}

impl RelationQuestion<'_> {
    /// The question, as a model reads it.
    pub(crate) fn question(
        &self,
        relations: &AskableRelations,
        tokenizer: &Tokenizer,
    ) -> Result<Question, KnowledgeError> {
        let prompts = self.relation.templates[..self.wordings]
            .iter()
            .map(|template| Prompt::new(tokenizer, &relations.names, template, self.entity))
            .collect::<Result<_, _>>()?;
        let answers = if self.relation.functional { ANSWERS.0 } else { ANSWERS.1 };
        Ok(Question { prompts, answers })
    }

    /// Evidence for an answer to a question with the score `sense`.
    fn evidence(&self, answer: &Answer, sense: f32) -> Evidence {
        Evidence {
            relation: self.number,
            log_probability: answer.log_probability,
            agreement: answer.agreement,
            reliability: self.relation.record.reliability(&answer.text, None),
            said: self.relation.record.said(&answer.text),
            kind: self.kind,
            sense,
        }
    }
}

/// Answer about an entity.
pub(crate) struct EntityAnswer<'a> {
    pub(crate) asked: RelationQuestion<'a>,
    pub(crate) answer: Answer,
    pub(crate) evidence: Evidence,
}

impl AskableRelations {
    /// Asks the model about an entity, for the relations that are predicted from its `residual`. Returns the answers as edges,
    /// likeliest first, with the features of `layers` that carry them.
    ///
    /// # Errors
    /// If the entity cannot be encoded.
    pub fn edges(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        prefixes: &PrefixCache,
        entity: &str,
        residual: &EntityResidual,
        layers: Range<usize>,
    ) -> Result<Vec<EdgeOfFeatures>, KnowledgeError> {
        let Some((batch, told)) = self.tell(model, tokenizer, prefixes, entity, residual)? else {
            return Ok(Vec::new());
        };
        let worth_showing = match self.source {
            LabelSource::ShippedWordings => WORTH_SHOWING_UNPROBED,
            _ => WORTH_SHOWING,
        };
        let mut believed: Vec<(RelationQuestion<'_>, Answer, f32)> = told
            .into_iter()
            .map(|told| (told.asked, told.answer, self.belief.in_answer(&told.evidence)))
            .filter(|(.., belief)| *belief >= worth_showing)
            .collect();
        believed.sort_by(|a, b| b.2.total_cmp(&a.2));
        let tokens: Vec<(usize, u32)> =
            believed.iter().map(|(_, answer, _)| (answer.prompt, answer.token)).collect();
        let carriers = AnswerCarriers::new(model, &batch, &tokens)?.carriers(layers);
        let edges = believed.into_iter().zip(carriers).filter_map(|((asked, answer, belief), carriers)| {
            let strongest = *carriers.first()?;
            let is_believed = belief >= self.belief.threshold;
            let edge = Edge {
                relation: is_believed.then(|| asked.relation.name.clone()),
                target: answer.text,
                gate: strongest.contribution,
                layer: carriers.iter().map(|carrier| carrier.layer).min()?,
                layer_max: carriers.iter().map(|carrier| carrier.layer).max()?,
                feature: strongest.feature,
                count: carriers.len(),
                source: is_believed.then_some(self.source),
                via: Via::Asked,
                confidence: Some(belief),
                also: Vec::new(),
            };
            Some((edge, carriers.iter().map(|carrier| (carrier.layer, carrier.feature)).collect()))
        });
        Ok(edges.collect())
    }

    /// Asks the model about an entity, for the relations that are predicted from its `residual`. Returns the batch of the
    /// questions, and the answers with the evidence for each; none if there is nothing to ask.
    pub(crate) fn tell<'a>(
        &'a self,
        model: &Model,
        tokenizer: &Tokenizer,
        prefixes: &PrefixCache,
        entity: &'a str,
        residual: &EntityResidual,
    ) -> Result<Option<(Batch, Vec<EntityAnswer<'a>>)>, KnowledgeError> {
        let asked = self.likely(entity, &residual.inputs[self.kinds.layer]);
        let (asked, questions) = self.within_budget(asked, tokenizer)?;
        if asked.is_empty() {
            return Ok(None);
        }
        let (batch, answers) = ask(model, tokenizer, prefixes, &questions)?;
        let mut told = Vec::new();
        let mut first_prompt = 0;
        for ((asked, question), answers) in asked.into_iter().zip(&questions).zip(answers) {
            let sense = self.sense.score(asked.number, batch.last.input(self.kinds.layer, first_prompt));
            first_prompt += question.prompts.len();
            for answer in answers.into_iter().filter(|answer| !answer.text.eq_ignore_ascii_case(entity)) {
                told.push(EntityAnswer { evidence: asked.evidence(&answer, sense), asked, answer });
            }
        }
        Ok(Some((batch, told)))
    }

    /// The relations that an entity seems to have, the likeliest first.
    fn likely<'a>(&'a self, entity: &'a str, input: &[f32]) -> Vec<RelationQuestion<'a>> {
        let scores = self.kinds.scores(input);
        let likely =
            top_k_by_value(&scores, RELATIONS).into_iter().filter(|(_, score)| *score > self.kinds.least);
        likely
            .map(|(number, kind)| RelationQuestion {
                entity,
                relation: &self.relations[number],
                number,
                wordings: 0,
                kind,
            })
            .collect()
    }

    /// Selects wordings within the budget of tokens, the first of each relation before the second of any.
    fn within_budget<'a>(
        &self,
        asked: Vec<RelationQuestion<'a>>,
        tokenizer: &Tokenizer,
    ) -> Result<(Vec<RelationQuestion<'a>>, Vec<Question>), KnowledgeError> {
        let mut questions = Vec::new();
        let mut asked = asked;
        for asked in &mut asked {
            asked.wordings = asked.relation.templates.len();
            questions.push(asked.question(self, tokenizer)?);
        }
        let mut spent = 0;
        let mut kept = vec![0; questions.len()];
        for wording in 0..questions.iter().map(|question| question.prompts.len()).max().unwrap_or(0) {
            for (question, kept) in questions.iter().zip(&mut kept).filter(|(_, kept)| **kept == wording) {
                let Some(prompt) = question.prompts.get(wording) else { continue };
                let tokens = prompt.own_tokens();
                if spent + tokens <= TOKENS {
                    spent += tokens;
                    *kept += 1;
                }
            }
        }
        for ((asked, question), kept) in asked.iter_mut().zip(&mut questions).zip(&kept) {
            asked.wordings = *kept;
            question.prompts.truncate(*kept);
        }
        Ok(asked.into_iter().zip(questions).filter(|(asked, _)| asked.wordings > 0).unzip())
    }
}

/// A feature that carries an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    pub(crate) layer: usize,
    pub(crate) feature: usize,
    /// Contribution to the logit of the answer's first token.
    pub(crate) contribution: f32,
}

/// Tokens after prompts of a batch, of which features are to be found that carry them.
pub(crate) struct AnswerCarriers<'a> {
    model: &'a Model,
    batch: &'a Batch,
    prompts: Vec<usize>,
    /// Along which the tokens' logits grow, `[tokens, hidden]`.
    directions: Vec<f32>,
}

impl<'a> AnswerCarriers<'a> {
    /// Prepares pairs of a prompt of `batch` and a token.
    ///
    /// # Errors
    /// If the output head is absent.
    pub(crate) fn new(
        model: &'a Model,
        batch: &'a Batch,
        tokens: &[(usize, u32)],
    ) -> Result<AnswerCarriers<'a>, BackendError> {
        let hidden = model.spec().hidden_size;
        let direction = |(prompt, token): &(usize, u32)| {
            model.logit_direction(*token, &batch.last.outputs[prompt * hidden..][..hidden])
        };
        let directions = tokens.iter().map(direction).collect::<Result<Vec<_>, _>>()?.concat();
        Ok(AnswerCarriers {
            model,
            batch,
            prompts: tokens.iter().map(|(prompt, _)| *prompt).collect(),
            directions,
        })
    }

    /// Contributions of each feature of a layer to the logits of the tokens, `[tokens, features]`.
    pub(crate) fn contributions(&self, layer: usize) -> Vec<f32> {
        if self.prompts.is_empty() {
            return Vec::new();
        }
        let input = |prompt: &usize| self.batch.last.input(layer, *prompt);
        let inputs: Vec<f32> = self.prompts.iter().flat_map(input).copied().collect();
        let activations = self.model.feature_activations(layer, &inputs);
        self.model.feature_contributions(layer, &activations, &self.directions)
    }

    /// For each token the features of `layers` that carry it, strongest first; at least one if there are any.
    fn carriers(&self, layers: Range<usize>) -> Vec<Vec<Carrier>> {
        let mut carriers: Vec<Vec<Carrier>> = self.prompts.iter().map(|_| Vec::new()).collect();
        for layer in layers {
            let contributions = self.contributions(layer);
            let features = contributions.len() / self.prompts.len().max(1);
            for (carriers, contributions) in
                carriers.iter_mut().zip(contributions.chunks_exact(features.max(1)))
            {
                let strongest = top_k_by_value(contributions, STRONGEST).into_iter();
                carriers.extend(strongest.map(|(feature, contribution)| Carrier {
                    layer,
                    feature,
                    contribution,
                }));
            }
        }
        for carriers in &mut carriers {
            carriers.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
            let least = carriers.first().map_or(0.0, |first| first.contribution * CARRIES);
            let kept = carriers.iter().take_while(|carrier| carrier.contribution >= least).count();
            carriers.truncate(kept.max(1));
        }
        carriers
    }
}
