//! Resolving: checks a declaration against a model, and measures the vectors that it names by prompts.

use std::ops::Range;

use larql_compute::vector::{axpy, norm};
use larql_inference::{Hook, HookError, KeyValueCache, Model, Point, PointSet, Rows, Stage};
use larql_models::FeedForwardSpec;

use super::InterventionError;
use super::declaration::{Action, Declaration, Place, RowSelection, Vector};
use super::hook::{Change, Columns, Intervention, Part, PatchRow};

/// Encodes a prompt as the model reads it.
type Encode<'a> = &'a dyn Fn(&str) -> Result<Vec<u32>, String>;

impl Declaration {
    /// Checks the declaration against a model, and runs the prompts that it names. `encode` turns a prompt into tokens.
    ///
    /// # Errors
    /// If a part names something that the model does not have, a vector has another length or is not finite, or a prompt
    /// cannot be run. Nothing is changed then.
    pub fn resolve(&self, model: &Model, encode: Encode<'_>) -> Result<Intervention, InterventionError> {
        let spec = model.spec();
        for (what, expected, found) in
            [("hidden size", self.hidden_size, spec.hidden_size), ("layers:", self.layers, spec.layers.len())]
        {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(InterventionError::OtherModel { what, expected, found });
            }
        }
        let mut captures = Vec::with_capacity(self.capture.len());
        for (index, capture) in self.capture.iter().enumerate() {
            check_layer(model, index + 1, capture.layer)?;
            let point = Point::Layer { layer: capture.layer, stage: capture.stage };
            captures.push((point, capture.positions.clone()));
        }
        let resolve =
            |(index, action): (usize, &Action)| Resolver { model, encode, part: index + 1 }.part(action);
        let parts = self.interventions.iter().enumerate().map(resolve).collect::<Result<_, _>>()?;
        let captured = vec![Vec::new(); captures.len()];
        Ok(Intervention { digest: self.digest()?, captures, parts, captured })
    }
}

fn check_layer(model: &Model, part: usize, layer: usize) -> Result<(), InterventionError> {
    let count = model.spec().layers.len();
    match layer < count {
        true => Ok(()),
        false => Err(InterventionError::NoSuch { part, what: "layer", number: layer, count }),
    }
}

/// Number of experts of a feed-forward step; 0 in dense layers.
fn experts(step: &FeedForwardSpec) -> usize {
    match step {
        FeedForwardSpec::Mixture(mixture) => mixture.experts,
        FeedForwardSpec::Gated { .. } | FeedForwardSpec::Plain { .. } => 0,
    }
}

/// Resolver of one part of a declaration.
struct Resolver<'a> {
    model: &'a Model,
    encode: Encode<'a>,
    /// Its number, counted from 1.
    part: usize,
}

impl Resolver<'_> {
    fn part(&self, action: &Action) -> Result<Part, InterventionError> {
        let Action { at: place, zero, mean, add, project_out, replace, patch } = action;
        check_layer(self.model, self.part, place.layer)?;
        let given = [*zero, mean.is_some(), add.is_some(), project_out.is_some(), replace.is_some()];
        if given.iter().filter(|given| **given).count() + usize::from(patch.is_some()) != 1 {
            let problem = "a part needs exactly one change".to_owned();
            return Err(self.unfit(
                place,
                problem,
                "give one of zero, mean, add, project_out, replace and patch",
            ));
        }
        let point = Point::Layer { layer: place.layer, stage: place.stage };
        let columns = self.columns(place)?;
        if matches!(columns, Columns::Heads { .. }) && !zero {
            let problem = "attention patterns can only be set to 0".to_owned();
            return Err(self.unfit(place, problem, "change head_outputs instead"));
        }
        let change = if let Some(vector) = add {
            Change::Add(self.vector(place, &columns, vector)?)
        } else if let Some(vector) = project_out {
            let mut unit = self.vector(place, &columns, vector)?;
            let length = norm(&unit).max(f32::MIN_POSITIVE);
            unit.iter_mut().for_each(|value| *value /= length);
            Change::ProjectOut(unit)
        } else if let Some(vector) = replace {
            Change::Replace(self.vector(place, &columns, vector)?)
        } else if let Some(prompt) = mean {
            let rows = self.measured(point, &columns, prompt)?;
            let mut total = vec![0.0; rows.first().map_or(0, Vec::len)];
            rows.iter().for_each(|row| axpy(1.0 / rows.len() as f32, row, &mut total));
            Change::Replace(total)
        } else if let Some(source) = patch {
            let rows = self.measured(point, &columns, &source.prompt)?;
            Change::Patch(self.patch_rows(place, rows, source.positions.as_deref())?)
        } else {
            Change::Zero
        };
        Ok(Part { point, rows: place.positions.clone(), columns, change, fired: 0 })
    }

    fn unfit(&self, place: &Place, problem: String, advice: &'static str) -> InterventionError {
        InterventionError::Unfit { part: self.part, problem, stage: place.stage, advice }
    }

    /// The values of a row that a place selects.
    fn columns(&self, place: &Place) -> Result<Columns, InterventionError> {
        let layer = &self.model.spec().layers[place.layer];
        let attention = &layer.attention;
        let heads = match place.stage {
            Stage::Queries => Some((attention.heads, attention.head_dim)),
            Stage::Keys => Some((attention.kv_heads, attention.head_dim)),
            Stage::Values => Some((attention.kv_heads, attention.value_dim)),
            Stage::HeadOutputs => Some((attention.heads, attention.value_dim)),
            Stage::AttentionPattern => Some((attention.heads, 1)),
            _ => None,
        };
        let features = (place.stage == Stage::FeatureActivations).then(|| (layer.feed_forward.features(), 1));
        let experts = (place.stage == Stage::ExpertWeights).then(|| (experts(&layer.feed_forward), 1));
        for (name, chosen, possible) in [
            ("heads", &place.heads, heads),
            ("features", &place.features, features),
            ("experts", &place.experts, experts),
        ] {
            if chosen.is_some() && possible.is_none() {
                let advice = "leave them out, or name the stage that has them";
                return Err(self.unfit(place, format!("there are no {name}"), advice));
            }
        }
        let selected = [
            ("head", &place.heads, heads),
            ("feature", &place.features, features),
            ("expert", &place.experts, experts),
        ];
        let mut columns = Columns::All;
        for (what, chosen, possible) in selected {
            let (Some(chosen), Some((count, width))) = (chosen, possible) else { continue };
            if let Some(number) = chosen.iter().find(|number| **number >= count) {
                return Err(InterventionError::NoSuch { part: self.part, what, number: *number, count });
            }
            let range = |number: &usize| -> Range<usize> { number * width..(number + 1) * width };
            columns = Columns::Ranges(chosen.iter().map(range).collect());
        }
        if place.stage == Stage::AttentionPattern {
            columns = Columns::Heads { selected: place.heads.clone(), count: attention.heads };
        }
        Ok(columns)
    }

    /// The vector of a change.
    fn vector(
        &self,
        place: &Place,
        columns: &Columns,
        vector: &Vector,
    ) -> Result<Vec<f32>, InterventionError> {
        let point = Point::Layer { layer: place.layer, stage: place.stage };
        let mut values = match (&vector.values, &vector.prompt) {
            (Some(values), None) if vector.minus.is_none() => {
                if let Some(expected) = self.width(place, columns)
                    && expected != values.len()
                {
                    return Err(InterventionError::Length { part: self.part, expected, found: values.len() });
                }
                values.clone()
            }
            (None, Some(prompt)) => {
                let mut values = self.measured_last(point, columns, prompt)?;
                if let Some(minus) = &vector.minus {
                    axpy(-1.0, &self.measured_last(point, columns, minus)?, &mut values);
                }
                values
            }
            _ => {
                let problem = "a vector needs either values, or a prompt and perhaps minus".to_owned();
                return Err(self.unfit(place, problem, "give one of them"));
            }
        };
        values.iter_mut().for_each(|value| *value *= vector.factor);
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(InterventionError::NotFinite { part: self.part, index }),
            None => Ok(values),
        }
    }

    /// Number of values that a change at a place has.
    fn width(&self, place: &Place, columns: &Columns) -> Option<usize> {
        if let Columns::Ranges(ranges) = columns {
            return Some(ranges.iter().map(Range::len).sum());
        }
        let spec = self.model.spec();
        let layer = &spec.layers[place.layer];
        let attention = &layer.attention;
        Some(match place.stage {
            Stage::Queries => attention.heads * attention.head_dim,
            Stage::Keys => attention.kv_heads * attention.head_dim,
            Stage::Values => attention.kv_heads * attention.value_dim,
            Stage::HeadOutputs => attention.heads * attention.value_dim,
            Stage::FeatureActivations => layer.feed_forward.features(),
            Stage::ExpertWeights => experts(&layer.feed_forward),
            Stage::LayerInput
            | Stage::AttentionInput
            | Stage::AttentionOutput
            | Stage::FeedForwardInput
            | Stage::FeedForwardOutput
            | Stage::LayerOutput => spec.hidden_size,
            _ => return None,
        })
    }

    fn measured_last(
        &self,
        point: Point,
        columns: &Columns,
        prompt: &str,
    ) -> Result<Vec<f32>, InterventionError> {
        Ok(self.measured(point, columns, prompt)?.pop().unwrap_or_default())
    }

    /// The selected values at a point, for each token of a prompt.
    fn measured(
        &self,
        point: Point,
        columns: &Columns,
        prompt: &str,
    ) -> Result<Vec<Vec<f32>>, InterventionError> {
        let failed =
            |reason| InterventionError::Prompt { part: self.part, prompt: prompt.to_owned(), reason };
        let tokens = (self.encode)(prompt).map_err(failed)?;
        let mut hook = Keep { point, columns, rows: Vec::new() };
        let mut state = KeyValueCache::new(self.model.spec());
        self.model.pass().with_hook(&mut hook).last_logits(&mut state, &tokens)?;
        if hook.rows.is_empty() {
            return Err(failed(format!("the model has no values at {point}")));
        }
        Ok(hook.rows)
    }

    /// The donor's values for each row that is patched.
    fn patch_rows(
        &self,
        place: &Place,
        donor: Vec<Vec<f32>>,
        from: Option<&[usize]>,
    ) -> Result<Vec<(PatchRow, Vec<f32>)>, InterventionError> {
        let to: Vec<PatchRow> = match &place.positions {
            RowSelection::Last => vec![PatchRow::Last],
            RowSelection::All => (0..donor.len()).map(PatchRow::At).collect(),
            RowSelection::Positions(positions) => positions.iter().copied().map(PatchRow::At).collect(),
        };
        let from: Vec<usize> = match from {
            Some(from) => from.to_vec(),
            None if place.positions == RowSelection::All => (0..donor.len()).collect(),
            None => (donor.len().saturating_sub(to.len())..donor.len()).collect(),
        };
        if from.len() != to.len() {
            let problem = format!("{} positions of the donor for {} of the prompt", from.len(), to.len());
            return Err(self.unfit(place, problem, "give as many of both"));
        }
        if let Some(number) = from.iter().find(|number| **number >= donor.len()) {
            let count = donor.len();
            return Err(InterventionError::NoSuch {
                part: self.part,
                what: "position",
                number: *number,
                count,
            });
        }
        Ok(to.into_iter().zip(from.into_iter().map(|row| donor[row].clone())).collect())
    }
}

/// Hook that keeps the selected values of every row at one point.
struct Keep<'a> {
    point: Point,
    columns: &'a Columns,
    rows: Vec<Vec<f32>>,
}

impl Hook for Keep<'_> {
    fn points(&self) -> PointSet {
        PointSet::default().with(self.point)
    }

    fn at(&mut self, _: Point, rows: &Rows, values: &mut [f32]) -> Result<(), HookError> {
        let width = values.len() / rows.len().max(1);
        for row in values.chunks_exact(width) {
            self.rows.push(match self.columns {
                Columns::Ranges(ranges) => {
                    ranges.iter().flat_map(|range| &row[range.clone()]).copied().collect()
                }
                Columns::All | Columns::Heads { .. } => row.to_vec(),
            });
        }
        Ok(())
    }
}
