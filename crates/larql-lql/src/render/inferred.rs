//! INFER and EXPLAIN INFER.

use unicode_width::UnicodeWidthStr;

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, cut, duration, pad, percent, visible};
use super::walked::{FEATURE_COLUMNS, feature_cells, features_of_a_layer};
use crate::output::{Attended, ExplainedInference, Inferred, Prediction, Run};

/// The widest that a token is shown.
const WIDEST: usize = 32;

impl View for Inferred {
    fn grid(&self) -> Grid {
        let inserted = self.overridden.iter().map(|edge| {
            let answer = (&*edge.target).into();
            vec!["override".into(), Cell::Integer(1), answer, Cell::Empty, Cell::Empty, Cell::Empty]
        });
        let rows = self.runs.iter().flat_map(|run| {
            run.predictions.iter().enumerate().map(|(index, prediction)| {
                vec![
                    (&*run.ffn).into(),
                    Cell::Integer(index + 1),
                    (&*prediction.token).into(),
                    Cell::Integer(prediction.token_id as usize),
                    Cell::Share(prediction.probability),
                    Cell::Text(run.latency_ms.to_string()),
                ]
            })
        });
        Grid::new(&["ffn", "rank", "token", "token_id", "probability", "latency_ms"])
            .rows(inserted.chain(rows))
    }

    fn lines(&self, page: &Page) -> String {
        let mut text = String::new();
        if let Some(edge) = &self.overridden {
            let why = format!(
                "(inserted: {} of {}, L{}, cosine {:.2}, answers from {:.2})",
                visible(&edge.relation),
                visible(&edge.entity),
                edge.layer,
                edge.cosine,
                edge.threshold
            );
            text += &format!("  1. {}  {}\n", page.bold(&visible(&edge.target)), page.dim(&why));
            text += "the model alone says:\n";
        }
        match &self.runs[..] {
            [run] => text += &numbered(&run.predictions, page).join("\n"),
            runs => text += &side_by_side(runs, page),
        }
        text
    }
}

/// `  1. Paris  97.91%`
fn numbered(predictions: &[Prediction], page: &Page) -> Vec<String> {
    let tokens: Vec<String> =
        predictions.iter().map(|prediction| cut(&visible(&prediction.token), WIDEST)).collect();
    let token_width = tokens.iter().map(|token| token.width()).max().unwrap_or(0);
    let number_width = predictions.len().to_string().len();
    let lines = tokens.iter().zip(predictions).enumerate().map(|(index, (token, prediction))| {
        let padded = pad(token, token_width);
        let token = if index == 0 { page.bold(&padded) } else { padded };
        format!("  {:>number_width$}. {token}  {:>7}", index + 1, percent(prediction.probability))
    });
    lines.collect()
}

fn side_by_side(runs: &[Run], page: &Page) -> String {
    let plain = Page { color: false, ..*page };
    let blocks: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let title = format!("  {} ({})", run.ffn, duration(run.latency_ms / 1e3));
            std::iter::once(title).chain(numbered(&run.predictions, &plain)).collect()
        })
        .collect();
    let height = blocks.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        blocks.iter().map(|block| block.iter().map(|line| line.width()).max().unwrap_or(0)).collect();
    let line = |index: usize| {
        let parts = blocks.iter().zip(&widths).map(|(block, width)| {
            let part = block.get(index).map_or("", String::as_str);
            pad(part, *width)
        });
        parts.collect::<Vec<_>>().join("    ").trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

impl View for ExplainedInference {
    fn grid(&self) -> Grid {
        let columns: Vec<&str> =
            ["lens_token", "lens_probability"].into_iter().chain(FEATURE_COLUMNS).collect();
        let rows = self.layers.iter().flat_map(|layer| {
            layer.rows.iter().map(|row| {
                let mut cells = vec![Cell::from(&*layer.token), Cell::Share(layer.probability)];
                cells.append(&mut feature_cells(row));
                cells
            })
        });
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let mut text = page.bold(&visible(&self.prompt)) + "\n";
        text += &numbered(&self.predictions, page).join("\n");
        for layer in &self.layers {
            let name = page.accent(&format!("L{}", layer.layer));
            let lens = format!("(lens {}, answer {})", visible(&layer.token), percent(layer.probability));
            text += &format!("\n{name} {}\n", page.dim(&lens));
            text += &features_of_a_layer(&layer.rows, page);
            if !layer.attention.is_empty() {
                text += &format!("  attends to {}\n", attended(&layer.attention));
            }
        }
        text
    }
}

/// `France (position 3, head 2) 41.00%`
fn attended(places: &[Attended]) -> String {
    let place = |place: &Attended| {
        let share = percent(f64::from(place.weight));
        format!("{} (position {}, head {}) {share}", visible(&place.token), place.position, place.head)
    };
    places.iter().map(place).collect::<Vec<_>>().join(", ")
}
