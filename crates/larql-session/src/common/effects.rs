//! Effects of an edit: what the model says of the edited edges, and of their neighbours, before and after.

use std::collections::HashSet;

use larql_compute::Precision;
use larql_core::Triple;
use larql_edit::Wording;
use larql_inference::{Model, greedy_continuations, score_text};
use larql_lql::output::{Changed, ChangedAnswer, EdgeEffect, NeighbourAnswers};
use larql_models::Tokenizer;

use crate::{ExecuteError, Session, View};

/// Edges that are asked about; more would take longer than the edit.
const EDGES: usize = 20;

/// Questions about neighbours of each edge: the same about other entities, and other things about the same one.
const OTHER_ENTITIES: usize = 6;
const OTHER_QUESTIONS: usize = 4;

/// Answers of the model before an edit. The default asks nothing.
#[derive(Default)]
pub(crate) struct Effects {
    questions: Questions,
    before: Answers,
}

impl Effects {
    /// Asks the model of a view, before it is edited, about edges and their neighbours.
    ///
    /// # Errors
    /// If the view has no model to ask, or a question cannot be encoded.
    pub(crate) fn of_edges(view: &View, edges: &[Triple]) -> Result<Effects, ExecuteError> {
        let mut questions = Questions::default();
        if edges.is_empty() {
            return Ok(Effects { questions, before: Answers::default() });
        }
        let language = view.language()?;
        let edges = &edges[..edges.len().min(EDGES)];
        for edge in edges {
            questions.add_edge(language.tokenizer(), edge)?;
        }
        for edge in edges {
            questions.add_neighbours(language.tokenizer(), edge)?;
        }
        let before = questions.ask(language.model())?;
        Ok(Effects { questions, before })
    }

    /// Asks the edited model the same, and adds the differences to what the statement answers.
    ///
    /// # Errors
    /// As [`Effects::of_edges`].
    pub(crate) fn measured(self, session: &Session, changed: Changed) -> Result<Changed, ExecuteError> {
        let Effects { questions, before } = self;
        if questions.edges.is_empty() {
            return Ok(changed);
        }
        let language = session.language()?;
        let after = questions.ask(language.model())?;
        let text = |token: u32| language.tokenizer().token_text(token).unwrap_or_default();
        let said = before.edges.into_iter().zip(after.edges);
        let effects = questions.edges.into_iter().zip(said).map(|(asked, (before, after))| {
            let Triple { entity, relation, target } = asked.edge;
            let (before, says) = (before.probability, text(after.likeliest));
            EdgeEffect { entity, relation, target, before, after: after.probability, says }
        });
        let effects = effects.collect();
        let asked = questions.neighbours.len();
        let answers = before.neighbours.into_iter().zip(after.neighbours);
        let answers =
            questions.neighbours.into_iter().zip(answers).filter(|(_, (before, after))| before != after);
        let changed_answer = |((prompt, _), (before, after)): ((String, Vec<u32>), (u32, u32))| {
            ChangedAnswer { prompt, before: text(before), after: text(after) }
        };
        let neighbours = NeighbourAnswers { asked, changed: answers.map(changed_answer).collect() };
        Ok(Changed { effects, neighbours: (asked > 0).then_some(neighbours), ..changed })
    }
}

/// Questions about edges and their neighbours.
#[derive(Default)]
struct Questions {
    edges: Vec<EdgeQuestion>,
    /// Prompts as text and as tokens.
    neighbours: Vec<(String, Vec<u32>)>,
    /// All prompts, and other wordings of the questions about the edges: an edge is no neighbour of another.
    asked: HashSet<String>,
}

/// Question for an edge in its usual wording.
struct EdgeQuestion {
    edge: Triple,
    prompt: Vec<u32>,
    target: Vec<u32>,
}

impl Questions {
    fn add_edge(&mut self, tokenizer: &Tokenizer, edge: &Triple) -> Result<(), ExecuteError> {
        let wording = Wording::of(&edge.entity, &edge.relation);
        let mut statement = wording.statement(tokenizer, &edge.entity, &edge.target)?;
        let prompt = statement.prompts.swap_remove(0);
        self.edges.push(EdgeQuestion { edge: edge.clone(), prompt, target: statement.target });
        self.asked.extend(wording.templates.iter().map(|template| wording.fill(template, &edge.entity)));
        Ok(())
    }

    fn add_neighbours(&mut self, tokenizer: &Tokenizer, edge: &Triple) -> Result<(), ExecuteError> {
        let wording = Wording::of(&edge.entity, &edge.relation);
        let usual = wording.templates.first().into_iter().cycle();
        let of_others = wording.neighbours.iter().zip(usual).take(OTHER_ENTITIES);
        let of_others = of_others.map(|(entity, template)| wording.fill(template, entity));
        // Those of every other relation, rather than several of one.
        let others = wording.other_templates.len().div_ceil(OTHER_QUESTIONS).max(1);
        let of_entity = wording.other_templates.iter().step_by(others);
        let of_entity = of_entity.map(|template| wording.fill(template, &edge.entity));
        for prompt in of_others.chain(of_entity) {
            if self.asked.insert(prompt.clone()) {
                let tokens = tokenizer.encode(&prompt, true)?;
                self.neighbours.push((prompt, tokens));
            }
        }
        Ok(())
    }

    fn ask(&self, model: &Model) -> Result<Answers, ExecuteError> {
        let mut answers = Answers::default();
        let edges = likeliest(model, self.edges.iter().map(|asked| &asked.prompt))?;
        for (EdgeQuestion { prompt, target, .. }, likeliest) in self.edges.iter().zip(edges) {
            let score = score_text(model, &[&prompt[..], target].concat(), Precision::Exact)?;
            let nats: f64 = score.token_nats[prompt.len() - 1..].iter().sum();
            answers.edges.push(EdgeAnswer { probability: (-nats).exp() as f32, likeliest });
        }
        answers.neighbours = likeliest(model, self.neighbours.iter().map(|(_, tokens)| tokens))?;
        Ok(answers)
    }
}

/// Answers of a model.
#[derive(Default)]
struct Answers {
    edges: Vec<EdgeAnswer>,
    /// The most likely next token of each.
    neighbours: Vec<u32>,
}

/// Answer to the question for an edge.
struct EdgeAnswer {
    /// Probability of the whole target.
    probability: f32,
    /// The most likely next token.
    likeliest: u32,
}

/// The most likely next token after each prompt.
fn likeliest<'p>(
    model: &Model,
    prompts: impl Iterator<Item = &'p Vec<u32>>,
) -> Result<Vec<u32>, ExecuteError> {
    let prompts: Vec<(&[u32], usize)> = prompts.map(|prompt| (&prompt[..], 1)).collect();
    Ok(greedy_continuations(model, &prompts)?.concat())
}
