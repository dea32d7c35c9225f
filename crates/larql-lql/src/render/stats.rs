//! STATS.

use super::View;
use super::grid::{Cell, Grid};
use super::listed::patches;
use super::text::{Page, counted, grouped, pad, size, visible};
use crate::output::Stats;
use crate::output::word;

impl View for Stats {
    /// Name and value, since the figures have no columns in common.
    fn grid(&self) -> Grid {
        let facts = self.facts().into_iter().map(|(name, _, raw)| vec![name.into(), raw]);
        let files =
            self.files.iter().map(|row| vec![format!("file {}", row.file).into(), Cell::Bytes(row.bytes)]);
        let labels = self
            .labels
            .iter()
            .map(|row| vec![format!("labels {}", word(&row.source)).into(), Cell::Count(row.count)]);
        let patches = self
            .patches
            .iter()
            .map(|row| vec![format!("patch {}", row.patch).into(), Cell::Count(row.operations)]);
        Grid::new(&["name", "value"]).rows(facts.chain(files).chain(labels).chain(patches))
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![page.bold(&visible(&self.path))];
        lines.extend(self.facts().into_iter().map(|(name, shown, _)| format!("  {} {shown}", pad(name, 11))));
        if !self.labels.is_empty() {
            let total = self.labels.iter().map(|row| row.count).sum();
            let sources =
                self.labels.iter().map(|row| format!("{} {}", grouped(row.count), word(&row.source)));
            let sources = sources.collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "  {} {} ({sources})",
                pad("labels", 11),
                counted(total, "feature", "features")
            ));
        }
        if !self.files.is_empty() {
            let rows = self.files.iter().map(|row| vec![(&*row.file).into(), Cell::Bytes(row.bytes)]);
            lines.push(Grid::new(&["file", "bytes"]).rows(rows).to_table(page));
        }
        if !self.patches.is_empty() {
            lines.push(patches(&self.patches).to_table(page));
        }
        lines.join("\n")
    }
}

impl Stats {
    /// Each figure with its name, as people read it and as it is.
    fn facts(&self) -> Vec<(&'static str, String, Cell)> {
        let count = |name, number: usize| (name, grouped(number), Cell::Count(number));
        let text = |name, text: &str| (name, visible(text), Cell::from(text));
        let mut facts = vec![text("model", &self.model), text("family", &self.family)];
        facts.extend(self.level.map(|level| text("level", level.name())));
        facts.extend(self.dtype.map(|dtype| text("dtype", dtype.name())));
        facts.extend(self.quant.map(|quant| text("quant", quant.name())));
        facts.extend([
            count("layers", self.layers),
            count("hidden_size", self.hidden_size),
            count("vocab_size", self.vocab_size),
            count("features", self.features),
            ("bytes", size(self.bytes), Cell::Bytes(self.bytes)),
        ]);
        facts
    }
}
