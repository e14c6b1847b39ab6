//! Text of others for people: in rows whose columns stand under each other, and without what would move a terminal's cursor.

use std::borrow::Cow;
use std::fmt::Write;

/// A text in one line, its control characters escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => shown.push(' '),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Rows, each cell as wide as the widest of its column, the last as it is.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let begins = text.len();
        for (cell, width) in row.iter().zip(&widths) {
            write!(text, "{cell:width$}  ").expect("a String takes every write");
        }
        text.truncate(begins + text[begins..].trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_moves_the_cursor() {
        assert_eq!(printable("a b é"), "a b é");
        assert_eq!(printable("a\nb\u{1b}[2J\u{9b}1m"), "a b\\u{1b}[2J\\u{9b}1m");
    }

    #[test]
    fn columns_stand_under_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(columns(&[row(["a", "bé", "c"]), row(["long", "", ""])]), "a     bé  c\nlong\n");
        assert_eq!(columns::<2>(&[]), "");
    }
}
