//! Tables: for the eye on a terminal, for `cut` and `awk` elsewhere.

use crate::terminal::{FAINT, HEADING, styled};

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// How words of the first column are styled on a terminal.
    first: fn(&str) -> String,
}

impl Table {
    pub(crate) fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Table { headings: headings.into_iter().collect(), rows: Vec::new(), first: str::to_owned }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| plain(cell.into())).collect());
    }

    /// Styles the words of the first column on a terminal.
    pub(crate) fn with_first_styled(self, first: fn(&str) -> String) -> Self {
        Table { first, ..self }
    }

    /// Headings in bold, columns as wide as they need.
    pub(crate) fn aligned(&self) -> String {
        let widths: Vec<usize> = (0..self.headings.len()).map(|column| self.width(column)).collect();
        let mut text = styled(HEADING, line(&widths, self.headings.iter().copied()).trim_end());
        text.push('\n');
        for row in &self.rows {
            // Styled last: what cannot be seen has no width.
            let first = row.first().map_or("", String::as_str);
            let whole = line(&widths, row.iter().map(String::as_str));
            text.push_str(&(self.first)(first));
            text.push_str(whole[first.len()..].trim_end());
            text.push('\n');
        }
        if self.rows.is_empty() {
            text.push_str(&styled(FAINT, "(none)"));
            text.push('\n');
        }
        text
    }

    /// One row a line, tabs between, no headings.
    pub(crate) fn tabbed(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(self.headings[column].len())
    }
}

fn line<'c>(widths: &[usize], cells: impl Iterator<Item = &'c str>) -> String {
    cells.zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect()
}

/// A cell stays in its place whatever somebody wrote into a description.
fn plain(cell: String) -> String {
    match cell.chars().any(char::is_control) {
        true => cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["TAG", "NAME"]);
        table.row(["a", "one"]);
        table.row(["long-tag", "t\two\u{1b}[2J"]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let text = anstream::adapter::strip_str(&table().aligned()).to_string();
        assert_eq!(text, "TAG       NAME\na         one\nlong-tag  t wo [2J\n");
    }

    #[test]
    fn elsewhere_cells_are_separated_by_tabs() {
        assert_eq!(table().tabbed(), "a\tone\nlong-tag\tt wo [2J\n");
    }
}
