//! Grids as a box, as Markdown, and as a line for each value.

use unicode_width::UnicodeWidthStr;

use super::grid::Grid;

impl Grid {
    /// Every column and row, in a box.
    pub(super) fn to_box(&self) -> String {
        let (columns, rows) = self.texts();
        let head: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let widths = widths(&head, &rows);
        let rule = |left: &str, middle: &str, right: &str| {
            let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}", parts.join(middle))
        };
        let mut lines = vec![rule("┌", "┬", "┐"), row("│", &head, &widths), rule("├", "┼", "┤")];
        lines.extend(rows.iter().map(|texts| row("│", texts, &widths)));
        lines.push(rule("└", "┴", "┘"));
        lines.join("\n")
    }

    /// Every column and row, as a table of Markdown.
    pub(super) fn to_markdown(&self) -> String {
        let (columns, rows) = self.texts();
        let head: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let escaped = |text: &String| text.replace('\\', "\\\\").replace('|', "\\|");
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(escaped).collect()).collect();
        let widths: Vec<usize> = widths(&head, &rows).iter().map(|width| *width.max(&3)).collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let lines = [head, rule].into_iter().chain(rows);
        lines.map(|texts| row("|", &texts, &widths)).collect::<Vec<_>>().join("\n")
    }

    /// A line for each value, and an empty line between rows.
    pub(super) fn to_line(&self) -> String {
        let (columns, rows) = self.texts();
        let width = columns.iter().map(|name| name.width()).max().unwrap_or(0);
        let line = |(name, text): (&&str, &String)| format!("{name:>width$} = {}\n", one_line(text));
        let record = |row: &Vec<String>| columns.iter().zip(row).map(line).collect::<String>();
        rows.iter().map(record).collect::<Vec<_>>().join("\n")
    }
}

/// Width of each column.
fn widths(head: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let of = |index: usize| {
        let texts = rows.iter().map(|row| &row[index]).chain([&head[index]]);
        texts.map(|text| one_line(text).width()).max().unwrap_or(0)
    };
    (0..head.len()).map(of).collect()
}

fn row(border: &str, texts: &[String], widths: &[usize]) -> String {
    let cell = |(text, width): (&String, &usize)| {
        let text = one_line(text);
        let blanks = " ".repeat(width.saturating_sub(text.width()));
        format!(" {text}{blanks} ")
    };
    let cells: Vec<String> = texts.iter().zip(widths).map(cell).collect();
    format!("{border}{}{border}", cells.join(border))
}

/// A text without line breaks, which would break a row.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::super::grid::{Cell, Grid};

    fn grid() -> Grid {
        let cell = |text: &str| Cell::Text(text.into());
        Grid::new(&["token", "n"]).row([cell(" 東|a"), Cell::Count(1)]).row([cell("\n"), Cell::Empty])
    }

    #[test]
    fn shapes_of_a_grid() {
        assert_eq!(
            grid().to_box(),
            "┌───────┬───┐\n│ token │ n │\n├───────┼───┤\n│  東|a │ 1 │\n│ \\n    │   │\n└───────┴───┘"
        );
        assert_eq!(
            grid().to_markdown(),
            "| token  | n   |\n| ------ | --- |\n|  東\\|a | 1   |\n| \\n     |     |"
        );
        assert_eq!(grid().to_line(), "token =  東|a\n    n = 1\n\ntoken = \\n\n    n = \n");
    }
}
