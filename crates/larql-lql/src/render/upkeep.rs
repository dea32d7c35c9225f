//! REBALANCE, COMPACT MAJOR and SHOW COMPACT STATUS.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, percent, size, visible};
use crate::output::{BalancedEdge, CompactStatus, Rebalanced, Solved, SolvedEdge};

impl View for Rebalanced {
    fn grid(&self) -> Grid {
        let cells = |row: &BalancedEdge| {
            vec![
                (&*row.entity).into(),
                (&*row.relation).into(),
                (&*row.target).into(),
                Cell::Share(row.before.into()),
                Cell::Share(row.after.into()),
                row.scale.into(),
                Cell::Flag(row.converged),
            ]
        };
        Grid::new(&["entity", "relation", "target", "before", "after", "scale", "converged"])
            .or_else_say("(no inserted edges)")
            .rows(self.rows.iter().map(cells))
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![self.grid().to_table(page)];
        let converged = self.rows.iter().filter(|row| row.converged).count();
        if !self.rows.is_empty() {
            let range = format!("{} to {}", percent(self.floor), percent(self.ceiling));
            let edges = counted(self.rows.len(), "edge", "edges");
            let rounds = counted(self.rounds, "round", "rounds");
            lines.push(page.dim(&format!("{converged} of {edges} in {range} after {rounds}")));
        }
        lines.extend(self.patch.iter().map(|patch| format!("Changed in patch {}", visible(patch))));
        lines.join("\n")
    }
}

impl View for Solved {
    fn grid(&self) -> Grid {
        let cells = |row: &SolvedEdge| {
            vec![
                (&*row.entity).into(),
                (&*row.relation).into(),
                (&*row.target).into(),
                Cell::Share(row.before.into()),
                Cell::Share(row.after.into()),
            ]
        };
        Grid::new(&["entity", "relation", "target", "before", "after"])
            .or_else_say("(no inserted edges)")
            .rows(self.rows.iter().map(cells))
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![self.grid().to_table(page)];
        lines.extend(self.layers.iter().map(|changed| {
            page.dim(&format!(
                "L{}: what its features write changed by {}",
                changed.layer,
                percent(changed.change)
            ))
        }));
        lines.extend(self.patch.iter().map(|patch| {
            let edges = counted(self.rows.len(), "edge", "edges");
            format!("Solved for {edges} together in patch {}", visible(patch))
        }));
        if self.automatic {
            lines.push(page.how_to_keep());
        }
        lines.join("\n")
    }
}

impl View for CompactStatus {
    fn grid(&self) -> Grid {
        let columns = ["entries", "entry_bytes", "edges", "compacted", "solved", "features", "feature_bytes"];
        Grid::new(&columns).row([
            Cell::Count(self.entries),
            Cell::Bytes(self.entry_bytes),
            Cell::Count(self.edges),
            Cell::Count(self.compacted),
            Cell::Count(self.solved),
            Cell::Count(self.features),
            Cell::Bytes(self.feature_bytes),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        let entries = counted(self.entries, "edge", "edges");
        let edges = counted(self.edges, "edge", "edges");
        let features = counted(self.features, "edited feature", "edited features");
        let mut lines = vec![
            format!("Beside the weights: {entries}, {}", size(self.entry_bytes)),
            format!(
                "In features: {edges}, {} of them compacted; {features}, {}",
                self.compacted,
                size(self.feature_bytes)
            ),
        ];
        if self.solved > 0 {
            lines.push(format!("Solved for together: {}", counted(self.solved, "edge", "edges")));
        }
        if self.entries > 0 {
            lines.push(page.dim("COMPACT MINOR; turns edges of the edge memory into features"));
        }
        lines.join("\n")
    }
}
