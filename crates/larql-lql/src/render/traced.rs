//! TRACE.

use super::View;
use super::grid::{Cell, Grid};
use super::text::{Page, counted, cut, duration, exact, pad, percent, visible};
use crate::ast::TraceFormat;
use crate::output::{AnswerFigures, TraceDifference, TraceView, Traced, TracedRow};

/// The widest that a token is shown.
const WIDEST: usize = 16;

/// `emb`, or the layer with an L.
fn layer_name(layer: i64) -> String {
    if layer < 0 { "emb".to_owned() } else { format!("L{layer}") }
}

/// The part that moves a logit, with the direction.
fn who(figures: &AnswerFigures) -> &'static str {
    match &*figures.who {
        "embedding" => "embed",
        "both_up" => "BOTH ↑",
        "attention_up" => "ATTN ↑",
        "feed_forward_up" => "FFN ↑",
        "both_down" => "both ↓",
        "attention_down" => "attn ↓",
        "feed_forward_down" => "ffn ↓",
        _ => "~",
    }
}

fn signed(value: f32) -> Cell {
    Cell::Shown(format!("{value:+.1}"))
}

impl Traced {
    /// The columns of the view, for people: `None` is a position column.
    fn table(&self, rows: &[TracedRow]) -> Grid {
        let several = self.answer.as_ref().is_some_and(|answer| answer.tokens.len() > 1);
        let columns: &[&str] = match (self.view, several) {
            (TraceView::Summary, _) => &["layer", "top token", "prob", "|attn|", "|ffn|", "|residual|"],
            (TraceView::Answer, false) => {
                &["layer", "rank", "prob", "logit", "attn", "ffn", "norm", "who", ""]
            }
            (TraceView::Answer, true) => {
                &["layer", "rank", "prob", "whole", "logit", "attn", "ffn", "norm", "who", ""]
            }
            (TraceView::Decomposition, _) => {
                &["layer", "|attn|", "|ffn|", "|residual|", "attn %", "attn logit", "ffn logit"]
            }
        };
        let first = rows.iter().find(|row| row.answer.as_ref().is_some_and(|answer| answer.rank == 1));
        let first = first.map(|row| row.layer);
        let norm = |value: f32| Cell::Shown(format!("{value:.1}"));
        let cells = rows.iter().map(|row| {
            let layer = Cell::Shown(layer_name(row.layer));
            let norms = [row.attn_delta_norm, row.ffn_delta_norm, row.residual_norm].map(norm);
            let figures = row.answer.as_ref();
            match (self.view, figures) {
                (TraceView::Answer, Some(figures)) => {
                    let mut cells =
                        vec![layer, Cell::Integer(figures.rank), Cell::Shown(percent(figures.prob.into()))];
                    if several {
                        cells.push(Cell::Shown(
                            figures.whole_prob.map_or_else(String::new, |p| percent(p.into())),
                        ));
                    }
                    cells.extend(
                        [figures.logit, figures.attn_logit, figures.ffn_logit, figures.norm_logit]
                            .map(signed),
                    );
                    cells.push(who(figures).into());
                    cells.push(if first == Some(row.layer) { "← first".into() } else { Cell::Empty });
                    cells
                }
                (TraceView::Decomposition, figures) => {
                    let both = row.attn_delta_norm + row.ffn_delta_norm;
                    let share = if both > 0.0 { f64::from(row.attn_delta_norm / both) } else { 0.0 };
                    let logits = figures.map_or([Cell::Empty, Cell::Empty], |figures| {
                        [figures.attn_logit, figures.ffn_logit].map(signed)
                    });
                    [vec![layer], norms.to_vec(), vec![Cell::Shown(percent(share))], logits.to_vec()].concat()
                }
                _ => {
                    let token = Cell::Shown(cut(&exact(&row.top1_token), WIDEST));
                    let share = Cell::Shown(percent(row.top1_prob.into()));
                    [vec![layer, token, share], norms.to_vec()].concat()
                }
            }
        });
        Grid::new(columns).rows(cells)
    }

    /// A map of all positions: a row for each layer, the last first, and a column for each position.
    fn map(&self, page: &Page) -> String {
        const COLUMN: usize = 9;
        let of_position: Vec<&[TracedRow]> = self.rows.chunk_by(|a, b| a.position == b.position).collect();
        let label = 5;
        let room = page.width.map_or(usize::MAX, |width| (width.saturating_sub(label) / (COLUMN + 1)).max(1));
        let shown = &of_position[of_position.len().saturating_sub(room)..];
        let mut text = String::new();
        if shown.len() < of_position.len() {
            let note = format!(
                "the last {} of {} positions; a wider terminal shows more",
                shown.len(),
                of_position.len()
            );
            text += &format!("{}\n", page.dim(&note));
        }
        let head = shown.iter().map(|rows| {
            let token = rows.first().and_then(|row| self.tokens.get(row.position));
            pad(&cut(&exact(token.map_or("", String::as_str)), COLUMN), COLUMN)
        });
        text +=
            &format!("{}{}\n", " ".repeat(label), page.bold(head.collect::<Vec<_>>().join(" ").trim_end()));
        for waypoint in (0..shown.first().map_or(0, |rows| rows.len())).rev() {
            let name = shown.first().map_or_else(String::new, |rows| layer_name(rows[waypoint].layer));
            let cells = shown.iter().map(|rows| {
                let row = &rows[waypoint];
                let (content, share) = match (&row.answer, self.view) {
                    (Some(figures), TraceView::Answer | TraceView::Decomposition) => {
                        (percent(figures.prob.into()), figures.prob)
                    }
                    _ => (exact(&row.top1_token), row.top1_prob),
                };
                page.shaded(&pad(&cut(&content, COLUMN), COLUMN), share)
            });
            let cells = cells.collect::<Vec<_>>().join(" ");
            text += &format!("{:<label$}{}\n", name, cells.trim_end());
        }
        text
    }
}

impl View for Traced {
    fn grid(&self) -> Grid {
        let columns = [
            "prompt",
            "position",
            "token",
            "layer",
            "top1_token",
            "top1_token_id",
            "top1_prob",
            "residual_norm",
            "attn_delta_norm",
            "ffn_delta_norm",
            "rank",
            "prob",
            "whole_prob",
            "logit",
            "attn_logit",
            "ffn_logit",
            "norm_logit",
            "who",
        ];
        let rows = self.rows.iter().map(|row| {
            let mut cells = vec![
                (&*self.prompt).into(),
                Cell::Integer(row.position),
                self.tokens.get(row.position).map(String::as_str).into(),
                Cell::Signed(row.layer),
                (&*row.top1_token).into(),
                Cell::Integer(row.top1_token_id as usize),
                row.top1_prob.into(),
                row.residual_norm.into(),
                row.attn_delta_norm.into(),
                row.ffn_delta_norm.into(),
            ];
            match &row.answer {
                None => cells.extend(vec![Cell::Empty; 8]),
                Some(figures) => cells.extend([
                    Cell::Integer(figures.rank),
                    figures.prob.into(),
                    figures.whole_prob.map_or(Cell::Empty, Cell::from),
                    figures.logit.into(),
                    figures.attn_logit.into(),
                    figures.ffn_logit.into(),
                    figures.norm_logit.into(),
                    (&*figures.who).into(),
                ]),
            }
            cells
        });
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let time = duration(self.latency_ms / 1e3);
        let head = format!(
            "{} ({}, {} layers, {time})",
            visible(&self.prompt),
            counted(self.tokens.len(), "token", "tokens"),
            self.n_layers
        );
        let mut text = format!("{}\n", page.bold(&head));
        if let Some(answer) = &self.answer {
            let token = exact(&answer.token);
            let which = match answer.tokens.len() {
                1 => format!("token {token}"),
                of => format!("token {} of {of}, {token}", answer.index + 1),
            };
            text += &format!(
                "following {} by {which}; logits add up: attn + ffn + norm = change\n",
                visible(&answer.text)
            );
        }
        let one_position =
            self.rows.first().map(|row| row.position) == self.rows.last().map(|row| row.position);
        text += &if one_position { self.table(&self.rows).to_table(page) } else { self.map(page) };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if let Some(edge) = &self.overridden {
            let target = visible(&edge.target);
            text += &format!(
                "INFER answers {target} here: the inserted edge of {} matches with cosine {:.2}; the trace is the model's own\n",
                visible(&edge.entity),
                edge.cosine
            );
        }
        if let Some(saved) = &self.saved {
            let added = match saved.format {
                TraceFormat::Chain => counted(saved.added, "chain", "chains"),
                TraceFormat::Boundary | TraceFormat::Context => counted(saved.added, "window", "windows"),
            };
            text += &format!("Saved {added} in {} ({} in the file)", visible(&saved.path), saved.entries);
            if let Some(error) = saved.worst_error {
                text += &format!(
                    "; 8-bit values are off by at most {} of the root mean square",
                    percent(error.into())
                );
            }
            text.push('\n');
        }
        text
    }
}

impl View for TraceDifference {
    fn grid(&self) -> Grid {
        let columns = [
            "layer",
            "cosine",
            "delta_norm",
            "top1_token",
            "top1_prob",
            "other_top1_token",
            "other_top1_prob",
        ];
        let rows = self.rows.iter().map(|row| {
            vec![
                Cell::Signed(row.layer),
                row.cosine.into(),
                row.delta_norm.into(),
                (&*row.top1_token).into(),
                row.top1_prob.into(),
                (&*row.other_top1_token).into(),
                row.other_top1_prob.into(),
            ]
        });
        Grid::new(&columns).rows(rows)
    }

    fn lines(&self, page: &Page) -> String {
        let rows = self.rows.iter().map(|row| {
            let token = |token: &str, share: f32| {
                Cell::Shown(format!("{} {}", cut(&exact(token), WIDEST), percent(share.into())))
            };
            vec![
                Cell::Shown(layer_name(row.layer)),
                Cell::Shown(format!("{:.3}", row.cosine)),
                Cell::Shown(format!("{:.1}", row.delta_norm)),
                token(&row.top1_token, row.top1_prob),
                token(&row.other_top1_token, row.other_top1_prob),
            ]
        });
        let table = Grid::new(&["layer", "cosine", "|difference|", "first", "second"]).rows(rows);
        let head = format!("first:  {}\nsecond: {}\n", visible(&self.prompt), visible(&self.other));
        head + &table.to_table(page)
    }
}
