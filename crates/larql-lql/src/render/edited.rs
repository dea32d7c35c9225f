//! Patches, DELETE, UPDATE, MERGE and DIFF.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, layer_span, percent, visible};
use crate::output::{
    Change, Changed, ChangedAnswer, Difference, Differences, EdgeEffect, InsertedEdge, NeighbourAnswers,
    PatchAction, PatchChanged, Stored, UncertainAnswer, WeightDifference, word,
};

impl View for PatchChanged {
    fn grid(&self) -> Grid {
        Grid::new(&["action", "patch", "operations"]).row([
            word(&self.action).into(),
            (&*self.patch).into(),
            Cell::Count(self.operations),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        let patch = page.bold(&visible(&self.patch));
        let operations = counted(self.operations, "operation", "operations");
        match self.action {
            PatchAction::Begun => {
                format!("Edits go into patch {patch} now\n{}", page.dim("SAVE PATCH; writes it"))
            }
            PatchAction::Saved => format!("Saved patch {patch} ({operations})"),
            PatchAction::Applied => format!("Applied patch {patch} ({operations})"),
            PatchAction::Removed => format!("Removed patch {patch} ({operations})"),
            PatchAction::Undone => format!("Took back the last edit of patch {patch} ({operations})"),
        }
    }
}

impl View for Changed {
    fn grid(&self) -> Grid {
        let names = ["change", "count", "patch", "entity", "relation", "target", "before", "after", "says"];
        let beginning = || [word(&self.change).into(), Cell::Count(self.count), self.patch.as_deref().into()];
        if self.effects.is_empty() {
            return Grid::new(&names[..3]).row(beginning());
        }
        let row = |effect: &EdgeEffect| {
            let EdgeEffect { entity, relation, target, before, after, says } = effect;
            let [entity, relation, target] = [entity, relation, target].map(|text| Cell::from(&**text));
            let cells = [entity, relation, target, (*before).into(), (*after).into(), (&**says).into()];
            beginning().into_iter().chain(cells).collect::<Vec<_>>()
        };
        Grid::new(&names).rows(self.effects.iter().map(row))
    }

    fn lines(&self, page: &Page) -> String {
        let done = match self.change {
            Change::Inserted => "Inserted",
            Change::Deleted => "Deleted",
            Change::Updated => "Updated",
            Change::Merged => "Merged",
            Change::Compacted => "Turned into features",
        };
        let counted = match self.features {
            true => counted(self.count, "feature", "features"),
            false => counted(self.count, "edge", "edges"),
        };
        let mut line = format!("{done} {counted}");
        line.extend(self.patch.iter().map(|patch| format!(" in patch {}", visible(patch))));
        let mut lines = vec![line];
        let effect_of = |edge: &InsertedEdge| {
            let same =
                |effect: &&EdgeEffect| effect.entity == edge.entity && effect.relation == edge.relation;
            self.effects.iter().find(same)
        };
        lines.extend(self.inserted.iter().map(|edge| learned(edge, effect_of(edge), page)));
        let inserted = |effect: &EdgeEffect| {
            self.inserted.iter().any(|edge| edge.entity == effect.entity && edge.relation == effect.relation)
        };
        let others = self.effects.iter().filter(|effect| !inserted(effect));
        lines.extend(others.map(|effect| unlearned(effect, page)));
        lines.extend(self.uncertain.iter().map(|answer| uncertain(answer, page)));
        lines.extend(self.neighbours.iter().flat_map(|answers| neighbours(answers, page)));
        if self.matches_nothing() {
            lines.push(
                page.dim("no such edge is inserted, or known to the model; DESCRIBE shows those that are"),
            );
        }
        if self.automatic {
            lines.push(page.how_to_keep());
        }
        lines.join("\n")
    }
}

/// `  Atlantis [capital] → Poseidon  0.02% → 99.98% (lowest wording 94.08%)`
pub(super) fn learned(edge: &InsertedEdge, effect: Option<&EdgeEffect>, page: &Page) -> String {
    let InsertedEdge { entity, relation, target, stored } = edge;
    let changed = effect.map_or_else(String::new, probabilities);
    let how = match stored {
        Stored::Compose { probability } => {
            let share = percent(f64::from(*probability));
            match *probability < WEAK {
                true => format!("{changed} (only {share} in one wording)"),
                false => format!("{changed} (lowest wording {share})"),
            }
        }
        Stored::Knn { layer, threshold } => {
            format!(
                "stored as a lookup entry at layer {layer}; answers from cosine similarity {threshold:.2}"
            )
        }
    };
    stated(entity, relation, target, how.trim_start(), page)
}

/// `  France [capital] → Paris  77.38% → 0.02%; the model now says "the"`
fn unlearned(effect: &EdgeEffect, page: &Page) -> String {
    let EdgeEffect { entity, relation, target, says, .. } = effect;
    let still = !says.trim().is_empty() && target.trim().starts_with(says.trim());
    let now = if still { "still" } else { "now" };
    let how = format!("{}; the model {now} says \"{}\"", probabilities(effect), visible(says));
    stated(entity, relation, target, &how, page)
}

/// `  Atlantis [capital]: the model says "one" (31.57%), …`
fn uncertain(answer: &UncertainAnswer, page: &Page) -> String {
    let UncertainAnswer { entity, relation, says, probability } = answer;
    let [entity, relation, says] = [entity, relation, says].map(|text| visible(text));
    let share = percent(f64::from(*probability));
    format!(
        "  {entity} {}: no inserted edge, and the model's \"{says}\" ({share}) is too uncertain to be one that it knows;\n  \
         add AND target = \"{says}\" to unlearn it",
        page.accent(&format!("[{relation}]"))
    )
}

fn probabilities(effect: &EdgeEffect) -> String {
    let [before, after] = [effect.before, effect.after].map(|share| percent(f64::from(share)));
    format!("{before} → {after}")
}

fn stated(entity: &str, relation: &str, target: &str, how: &str, page: &Page) -> String {
    let [entity, relation, target] = [entity, relation, target].map(visible);
    let relation = page.accent(&format!("[{relation}]"));
    format!("  {entity} {relation} → {}  {}", page.bold(&target), page.dim(how))
}

/// Answers that are shown of those that changed.
const CHANGED_SHOWN: usize = 5;

/// `  9 of 10 neighbouring answers stay; changed:` and a line for each that changed.
fn neighbours(answers: &NeighbourAnswers, page: &Page) -> Vec<String> {
    let NeighbourAnswers { asked, changed } = answers;
    if changed.is_empty() {
        let stay = match asked {
            1 => "the 1 neighbouring answer that was checked stays".to_owned(),
            _ => format!("all {asked} neighbouring answers that were checked stay"),
        };
        return vec![page.dim(&format!("  {stay}"))];
    }
    let stay = asked - changed.len();
    let mut lines =
        vec![format!("  {stay} of {asked} neighbouring answers that were checked stay; changed:")];
    for ChangedAnswer { prompt, before, after } in changed.iter().take(CHANGED_SHOWN) {
        let [prompt, before, after] = [prompt, before, after].map(|text| visible(text));
        lines.push(format!("    {prompt}: {before} → {after}"));
    }
    if changed.len() > CHANGED_SHOWN {
        lines.push(format!("    … and {} more", changed.len() - CHANGED_SHOWN));
    }
    lines
}

/// The probability below which another word may be likelier.
const WEAK: f32 = 0.5;

impl View for Differences {
    fn grid(&self) -> Grid {
        let cells = |row: &Difference| {
            vec![
                Cell::Integer(row.layer),
                row.feature.map_or(Cell::Empty, Cell::Integer),
                row.entity.as_deref().into(),
                row.relation.as_deref().into(),
                row.before.as_deref().into(),
                row.after.as_deref().into(),
                row.gate_cosine.map_or(Cell::Empty, Cell::from),
                row.parts[..].into(),
            ]
        };
        Grid::new(&["layer", "feature", "entity", "relation", "before", "after", "gate_cosine", "parts"])
            .or_else_say("(no differences)")
            .rows(self.rows.iter().map(cells))
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![self.grid().to_table(page)];
        if self.rows.len() < self.count {
            let count = counted(self.count, "difference", "differences");
            lines.push(page.dim(&format!("{count}; LIMIT shows more")));
        }
        lines.extend(self.patch.as_ref().map(|patch| format!("Wrote patch {}", visible(patch))));
        if !self.other_weights.is_empty() {
            lines.push("Other weights differ too; no patch can hold them:".to_owned());
            lines.extend(self.other_weights.iter().map(|weight| format!("  {}", other_weight(weight))));
        }
        lines.join("\n")
    }
}

/// A tensor that differs, for instance `self_attn.q_proj.weight in L0-3, by up to 2.10%`.
fn other_weight(weight: &WeightDifference) -> String {
    let layers: Vec<String> = weight
        .layers
        .chunk_by(|layer, next| layer + 1 == *next)
        .map(|run| layer_span(run[0], run[run.len() - 1]))
        .collect();
    let layers = if layers.is_empty() { String::new() } else { format!(" in {}", layers.join(", ")) };
    format!("{}{layers}, by up to {:.2}%", weight.tensor, 100.0 * weight.share)
}
