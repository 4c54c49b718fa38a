//! Cells that line up.

use std::io::{self, Write};

/// Rows of cells. The first column stands left, the others right.
#[derive(Default)]
pub struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// With a heading.
    pub fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Grid {
        Grid { rows: vec![heading.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row, which may be shorter than others.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Writes it, with two blanks before each line and between columns.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_left(out, &[0])
    }

    /// Writes it with the last of its columns to the left as well: words, not numbers.
    pub fn write_with_last_left(&self, out: &mut impl Write) -> io::Result<()> {
        let last = self.rows.first().map_or(0, Vec::len).saturating_sub(1);
        self.write_left(out, &[0, last])
    }

    fn write_left(&self, out: &mut impl Write, left: &[usize]) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - width(cell));
                line.push_str("  ");
                match left.contains(&column) {
                    true => line.extend([cell.as_str(), &padding]),
                    false => line.extend([&padding, cell.as_str()]),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Columns that a text takes: everything that these tables hold is one column a character.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut grid = Grid::new(["", "p50", "max"]);
        grid.row(["ack", "87.4 µs", "1.23 ms"]);
        grid.row(["end-to-end", "104 µs"]);
        let mut out = Vec::new();
        grid.write(&mut out).unwrap();
        let expected =
            "                  p50      max\n  ack         87.4 µs  1.23 ms\n  end-to-end   104 µs\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
