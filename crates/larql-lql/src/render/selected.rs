//! SELECT.

use super::View;
use super::grid::Grid;
use super::text::{Page, counted_rows};
use crate::ast::Field;
use crate::output::Selected;

impl View for Selected {
    fn grid(&self) -> Grid {
        let columns: Vec<&str> = self.fields.iter().map(|field| field.name()).collect();
        let rows = self.rows.iter().map(|row| {
            let cell = |field: &Field| row.get(*field).into();
            self.fields.iter().map(cell).collect()
        });
        Grid::new(&columns).or_else_say("(no rows)").rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let mut lines = vec![self.grid().to_table(page)];
        lines.extend(counted_rows(self.rows.len(), self.left_out, page));
        lines.extend(self.next.as_deref().map(|next| page.dim(next)));
        lines.join("\n")
    }
}
