//! COMPILE.

use super::View;
use super::edited::learned;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, duration, size, visible};
use crate::output::Compiled;

impl View for Compiled {
    fn grid(&self) -> Grid {
        let columns =
            ["path", "features", "tensors", "entries", "lowered", "kept", "bytes", "grown", "seconds"];
        Grid::new(&columns).row([
            (&*self.path).into(),
            Cell::Count(self.features),
            Cell::Count(self.tensors),
            Cell::Count(self.entries),
            Cell::Count(self.lowered.len()),
            Cell::Count(self.kept),
            Cell::Bytes(self.bytes),
            Cell::Signed(self.grown),
            Cell::Figure(self.seconds),
        ])
    }

    fn lines(&self, page: &Page) -> String {
        let change = match self.grown {
            0 => String::new(),
            grown if grown > 0 => format!(" ({} larger than the source)", size(grown.unsigned_abs())),
            shrunk => format!(" ({} smaller than the source)", size(shrunk.unsigned_abs())),
        };
        let mut parts = vec![
            format!("{} written", counted(self.tensors, "tensor", "tensors")),
            format!("{} changed", counted(self.features, "feature", "features")),
        ];
        if self.kept > 0 {
            parts.push(format!("{} kept as they are", counted(self.kept, "file", "files")));
        }
        if self.entries > 0 {
            parts.push(format!("{} kept as lookup entries", counted(self.entries, "edge", "edges")));
        }
        let mut lines = vec![format!("Compiled into {}", page.bold(&visible(&self.path))), parts.join(", ")];
        if !self.lowered.is_empty() {
            let edges = counted(self.lowered.len(), "edge", "edges");
            lines.push(format!("{edges} of the lookup entries became features:"));
            lines.extend(self.lowered.iter().map(|edge| learned(edge, None, page)));
        }
        lines.push(format!("{}{change} in {}", size(self.bytes), duration(self.seconds)));
        lines.join("\n")
    }
}
