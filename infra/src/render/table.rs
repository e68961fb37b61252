//! Columns of text.

/// Spaces between columns.
const GAP: &str = "  ";

/// A table: names of columns with `true` for those that align right (numbers), and rows of as many cells.
#[must_use]
pub fn table(header: &[(&str, bool)], rows: &[Vec<String>]) -> String {
    let width_of = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.chain([header[index].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(header.iter().zip(&widths))
            .map(
                |(cell, ((_, right), width))| {
                    if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        format!("{}\n", cells.join(GAP).trim_end())
    };
    let mut text = line(&mut header.iter().map(|(name, _)| *name));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}
