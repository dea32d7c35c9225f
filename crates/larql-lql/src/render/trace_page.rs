//! A trace as one self-contained HTML page: a map of layers × positions.

use std::fmt::Write;

use super::html::escaped;
use super::text::{percent, visible};
use crate::output::{TraceView, Traced, TracedRow};

const STYLE: &str = "\
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;color:#16202a;background:#fff}\
table{border-collapse:separate;border-spacing:2px}\
th{font-weight:600;text-align:left;padding:2px 6px;white-space:nowrap}\
td{padding:2px 6px;border-radius:3px;white-space:nowrap;font-variant-numeric:tabular-nums}\
th.layer{position:sticky;left:0;background:#fff;font-weight:400;color:#5a6775}\
p{max-width:60rem}.scroll{overflow-x:auto}";

/// Renders a trace as a page without scripts or other files: a row for each layer, the last first, a column for each position.
/// A cell has the likeliest token, or the answer's probability, and all figures in its tooltip.
pub fn trace_page(traced: &Traced) -> String {
    let positions: Vec<&[TracedRow]> = traced.rows.chunk_by(|a, b| a.position == b.position).collect();
    let title = escaped(&visible(&traced.prompt));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Trace: {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let explained = match (&traced.answer, traced.view) {
        (Some(answer), TraceView::Answer | TraceView::Decomposition) => format!(
            "Probability of {} ({}) by the logit lens after each layer.",
            escaped(&visible(&answer.text)),
            escaped(&visible(&answer.token))
        ),
        _ => "The likeliest next token by the logit lens after each layer; the darker, the more probable."
            .to_owned(),
    };
    let _ =
        writeln!(page, "<p>{explained} Point at a cell for its figures.</p>\n<div class=\"scroll\"><table>");
    page += "<tr><th class=\"layer\"></th>";
    for rows in &positions {
        let token = rows.first().and_then(|row| traced.tokens.get(row.position));
        let _ = write!(page, "<th>{}</th>", escaped(&visible(token.map_or("", String::as_str))));
    }
    page += "</tr>\n";
    for waypoint in (0..positions.iter().map(|rows| rows.len()).max().unwrap_or(0)).rev() {
        let layer = positions.first().and_then(|rows| rows.get(waypoint)).map_or(-1, |row| row.layer);
        let name = if layer < 0 { "emb".to_owned() } else { format!("L{layer}") };
        let _ = write!(page, "<tr><th class=\"layer\">{name}</th>");
        for row in positions.iter().filter_map(|rows| rows.get(waypoint)) {
            page += &cell(row);
        }
        page += "</tr>\n";
    }
    page += "</table></div></body></html>\n";
    page
}

fn cell(row: &TracedRow) -> String {
    let mut figures = format!(
        "top: {} {}; |residual| {:.1}, |attention| {:.1}, |feed-forward| {:.1}",
        visible(&row.top1_token),
        percent(row.top1_prob.into()),
        row.residual_norm,
        row.attn_delta_norm,
        row.ffn_delta_norm
    );
    let (content, share) = match &row.answer {
        None => (visible(&row.top1_token), row.top1_prob),
        Some(answer) => {
            let _ = write!(
                figures,
                "; rank {}, logit {:.2}, attention {:+.2}, feed-forward {:+.2}, norm {:+.2}",
                answer.rank, answer.logit, answer.attn_logit, answer.ffn_logit, answer.norm_logit
            );
            (percent(answer.prob.into()), answer.prob)
        }
    };
    let share = share.clamp(0.0, 1.0).sqrt();
    let ink = if share > 0.6 { "#fff" } else { "#16202a" };
    format!(
        "<td style=\"background:rgba(20,90,150,{share:.2});color:{ink}\" title=\"{}\">{}</td>",
        escaped(&figures),
        escaped(&content)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_escapes_what_it_shows() {
        let row = |position, layer| TracedRow {
            position,
            layer,
            top1_token: " <b>".into(),
            top1_token_id: 1,
            top1_prob: 0.5,
            residual_norm: 1.0,
            attn_delta_norm: 0.0,
            ffn_delta_norm: 0.0,
            answer: None,
        };
        let traced = Traced {
            prompt: "a & <script>".into(),
            tokens: vec!["a".into(), "\"".into()],
            token_ids: vec![1, 2],
            n_layers: 1,
            hidden_size: 4,
            latency_ms: 1.0,
            view: TraceView::Summary,
            answer: None,
            rows: vec![row(0, -1), row(0, 0), row(1, -1), row(1, 0)],
            saved: None,
            overridden: None,
        };
        let page = trace_page(&traced);
        assert_eq!(page.matches("<td").count(), 4);
        assert!(page.contains("a &amp; &lt;script&gt;") && page.contains("&lt;b&gt;"));
        assert!(!page.contains("<script") && !page.contains("http"));
    }
}
