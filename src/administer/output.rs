//! The output of commands: tables and lists of properties for people, JSON for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde_json::{Map, Value};

/// Longest text of a cell, in characters.
const MAX_CELL: usize = 60;

/// Prints a result; nothing for null.
pub(super) fn print(result: &Value, json: bool) {
    if result.is_null() {
        return;
    }
    let text = if json { format!("{result:#}\n") } else { text(result) };
    // A reader such as head(1) may be gone.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// A table of a list, or the properties of an object, one a line.
fn text(result: &Value) -> String {
    match result {
        Value::Array(rows) => table(rows),
        Value::Object(members) => properties(members),
        other => format!("{}\n", cell(other)),
    }
}

fn properties(members: &Map<String, Value>) -> String {
    let width = members.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    members.iter().fold(String::new(), |mut out, (name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), printable);
        let _ = writeln!(out, "{name:width$}  {value}");
        out
    })
}

/// The columns are the members of the first row whose values are no lists or objects.
fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else { return String::new() };
    let is_short = |value: &Value| !value.is_array() && !value.is_object();
    let columns = first.iter().filter(|(_, value)| is_short(value)).map(|(name, _)| name.as_str());
    let columns: Vec<&str> = columns.collect();
    let head = columns.iter().map(|name| name.to_uppercase()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|name| cell(&row[*name])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    lines.iter().fold(String::new(), |mut out, line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        out
    })
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    };
    match text.chars().count() {
        0..=MAX_CELL => text,
        _ => text.chars().take(MAX_CELL - 1).chain(['…']).collect(),
    }
}

/// A text of a person without the characters that could control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table_with_aligned_columns() {
        let list = json!([
            { "name": "ada", "title": "One\u{1b}[31m", "tags": [] },
            { "name": "longer-name", "title": "x".repeat(100), "tags": [] },
        ]);
        let expected = format!(
            "NAME         TITLE\nada          One [31m\nlonger-name  {}…\n",
            "x".repeat(MAX_CELL - 1)
        );
        assert_eq!(text(&list), expected);
        assert_eq!(text(&json!([])), "");
    }

    #[test]
    fn an_object_is_a_line_for_each_property() {
        let object = json!({ "id": "7", "visibility": "public", "tags": ["a"] });
        assert_eq!(text(&object), "id          7\ntags        [\"a\"]\nvisibility  public\n");
    }
}
