//! SELECT.

use super::View;
use super::grid::Grid;
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
}
