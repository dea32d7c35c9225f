//! Patches, DELETE, UPDATE, MERGE and DIFF.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, percent, visible};
use crate::output::{
    Change, Changed, Difference, Differences, InsertedEdge, PatchAction, PatchChanged, Stored, word,
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
        }
    }
}

impl View for Changed {
    fn grid(&self) -> Grid {
        Grid::new(&["change", "count", "patch"]).row([
            word(&self.change).into(),
            Cell::Count(self.count),
            self.patch.as_deref().into(),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        let done = match self.change {
            Change::Inserted => "Inserted",
            Change::Deleted => "Deleted",
            Change::Updated => "Updated",
            Change::Merged => "Merged",
            Change::Compacted => "Turned into features",
        };
        let mut line = format!("{done} {}", counted(self.count, "edge", "edges"));
        line.extend(self.patch.iter().map(|patch| format!(" in patch {}", visible(patch))));
        let mut lines = vec![line];
        lines.extend(self.inserted.iter().map(|edge| learned(edge, page)));
        if self.automatic {
            lines.push(page.dim("It ends with the session; SAVE PATCH \"edits.vlp\"; keeps it"));
        }
        lines.join("\n")
    }
}

/// `  Atlantis [capital] → Poseidon  at least 91.20%`
pub(super) fn learned(edge: &InsertedEdge, page: &Page) -> String {
    let InsertedEdge { entity, relation, target, stored } = edge;
    let [entity, relation, target] = [entity, relation, target].map(|word| visible(word));
    let how = match stored {
        Stored::Compose { probability } => {
            let share = percent(f64::from(*probability));
            match *probability < WEAK {
                true => format!("only {share}, so the model may say something else"),
                false => format!("at least {share}"),
            }
        }
        Stored::Knn { layer, threshold } => {
            format!("remembered beside the weights, L{layer}, from cosine {threshold:.2}")
        }
    };
    format!(
        "  {entity} {} → {}  {}",
        page.accent(&format!("[{relation}]")),
        page.bold(&target),
        page.dim(&how)
    )
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
        lines.join("\n")
    }
}
