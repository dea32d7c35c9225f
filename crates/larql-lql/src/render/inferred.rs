//! INFER and EXPLAIN INFER.

use unicode_width::UnicodeWidthStr;

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, cut, duration, exact, pad, percent, visible};
use super::walked::{FEATURE_COLUMNS, feature_cells, features_of_a_layer, indented};
use crate::output::{Attended, ExplainedInference, Inferred, InterventionReceipt, Prediction, Run};

/// The widest that a token is shown.
const WIDEST: usize = 32;

impl View for Inferred {
    fn grid(&self) -> Grid {
        let prompt = || Cell::from(&*self.prompt);
        let inserted = self.overridden.iter().map(|edge| {
            let answer = (&*edge.target).into();
            let figures = [Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty];
            [vec![prompt(), "override".into(), Cell::Integer(1), answer], figures.to_vec()].concat()
        });
        let rows = self.runs.iter().flat_map(|run| {
            run.predictions.iter().enumerate().map(|(index, prediction)| {
                vec![
                    prompt(),
                    (&*run.ffn).into(),
                    Cell::Integer(index + 1),
                    (&*prediction.token).into(),
                    Cell::Integer(prediction.token_id as usize),
                    Cell::Share(prediction.probability),
                    prediction.phrase.as_deref().into(),
                    Cell::Figure(run.latency_ms),
                ]
            })
        });
        Grid::new(&["prompt", "ffn", "rank", "token", "token_id", "probability", "phrase", "latency_ms"])
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
        if let Some(receipt) = &self.intervention {
            text += "\n";
            text += &page.dim(&intervened(receipt));
        }
        text
    }
}

/// The receipt of an intervention, in a line.
fn intervened(receipt: &InterventionReceipt) -> String {
    let fired: Vec<String> = receipt.fired.iter().map(usize::to_string).collect();
    let changed = match fired.is_empty() {
        true => "changed nothing".to_owned(),
        false => format!("rows changed by each part: {}", fired.join(", ")),
    };
    let digest: String = receipt.digest.chars().take(12).collect();
    format!("with {} ({digest}…): {changed}", visible(&receipt.file))
}

/// `  1. ␣Pose  97.91%  Poseidon`
fn numbered(predictions: &[Prediction], page: &Page) -> Vec<String> {
    let tokens: Vec<String> =
        predictions.iter().map(|prediction| cut(&exact(&prediction.token), WIDEST)).collect();
    let token_width = tokens.iter().map(|token| token.width()).max().unwrap_or(0);
    let number_width = predictions.len().to_string().len();
    let lines = tokens.iter().zip(predictions).enumerate().map(|(index, (token, prediction))| {
        let padded = pad(token, token_width);
        let token = if index == 0 { page.bold(&padded) } else { padded };
        let share = percent(prediction.probability);
        let line = format!("  {:>number_width$}. {token}  {share:>7}", index + 1);
        match &prediction.phrase {
            Some(phrase) => format!("{line}  {}", page.dim(&cut(&visible(phrase), WIDEST))),
            None => line,
        }
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

/// The columns that rows of EXPLAIN INFER have beside those of features; which are filled, `part` says.
const EXPLAINED_COLUMNS: [&str; 12] = [
    "prompt",
    "part",
    "lens_token",
    "lens_probability",
    "answer_probability",
    "rank",
    "token",
    "token_id",
    "probability",
    "head",
    "position",
    "weight",
];

impl View for ExplainedInference {
    fn grid(&self) -> Grid {
        let columns: Vec<&str> = EXPLAINED_COLUMNS.into_iter().chain(FEATURE_COLUMNS).collect();
        let width = columns.len();
        let row = move |cells: Vec<(&str, Cell)>| {
            let mut row = vec![Cell::Empty; width];
            for (name, cell) in cells {
                if let Some(index) = columns.iter().position(|column| *column == name) {
                    row[index] = cell;
                }
            }
            row
        };
        let prompt = || ("prompt", Cell::from(&*self.prompt));
        let prediction = |part: &str, rank: Cell, prediction: &Prediction| {
            row(vec![
                prompt(),
                ("part", part.into()),
                ("rank", rank),
                ("token", (&*prediction.token).into()),
                ("token_id", Cell::Integer(prediction.token_id as usize)),
                ("probability", Cell::Share(prediction.probability)),
            ])
        };
        let mut rows = vec![prediction("answer", Cell::Empty, &self.answer)];
        let predictions = self.predictions.iter().enumerate();
        rows.extend(predictions.map(|(index, p)| prediction("prediction", Cell::Integer(index + 1), p)));
        for layer in &self.layers {
            let of_layer = |part: &str| {
                vec![
                    prompt(),
                    ("part", part.into()),
                    ("lens_token", (&*layer.lens_token).into()),
                    ("lens_probability", Cell::Share(layer.lens_probability)),
                    ("answer_probability", Cell::Share(layer.answer_probability)),
                ]
            };
            rows.extend(layer.rows.iter().map(|feature| {
                let cells = FEATURE_COLUMNS.into_iter().zip(feature_cells(feature));
                row(of_layer("feature").into_iter().chain(cells).collect())
            }));
            rows.extend(layer.attention.iter().map(|place| {
                let cells = vec![
                    ("layer", Cell::Integer(layer.layer)),
                    ("head", Cell::Integer(place.head)),
                    ("position", Cell::Integer(place.position)),
                    ("token", (&*place.token).into()),
                    ("weight", place.weight.into()),
                ];
                row(of_layer("attention").into_iter().chain(cells).collect())
            }));
        }
        let columns: Vec<&str> = EXPLAINED_COLUMNS.into_iter().chain(FEATURE_COLUMNS).collect();
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let mut text = page.bold(&visible(&self.prompt)) + "\n";
        text += &numbered(&self.predictions, page).join("\n");
        let answer = format!("{} {}", exact(&self.answer.token), percent(self.answer.probability));
        text += &format!("\nContributions are to the logit of {answer}");
        for layer in &self.layers {
            let name = page.accent(&format!("L{}", layer.layer));
            let lens = format!(
                "(lens {} {}, answer {})",
                exact(&layer.lens_token),
                percent(layer.lens_probability),
                percent(layer.answer_probability)
            );
            text += &format!("\n{name} {}\n", page.dim(&lens));
            text += &features_of_a_layer(&layer.rows, page);
            if !layer.attention.is_empty() {
                text += &indented(&attention(&layer.attention), page);
            }
        }
        text
    }
}

/// A row for each head, with the tokens that it reads most, each with its position and weight.
fn attention(places: &[Attended]) -> Grid {
    const COLUMNS: [&str; 4] = ["head", "first", "second", "third"];
    let rows = places.chunk_by(|a, b| a.head == b.head).map(|of_head| {
        let place = |place: &Attended| {
            let share = percent(f64::from(place.weight));
            Cell::Shown(format!("{} {} {share}", place.position, exact(&place.token)))
        };
        let read = of_head.iter().map(place).chain(std::iter::repeat(Cell::Empty));
        let head = of_head.first().map_or(Cell::Empty, |place| Cell::Integer(place.head));
        std::iter::once(head).chain(read).take(COLUMNS.len()).collect()
    });
    Grid::new(&COLUMNS).rows(rows)
}
