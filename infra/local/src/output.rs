//! Writing to the terminal.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Writes a line to standard output. A reader that has gone away is no error.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = writeln!(io::stdout(), "{}", text.as_ref());
}

/// Writes a line to standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Writes a value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => note(format!("this cannot be shown as JSON: {error}")),
    }
}

/// A table without lines, as wide as the terminal.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // A pipe gets every cell on one line, whatever its length.
    if io::stdout().is_terminal()
        && let Some((width, _)) = terminal_size::terminal_size()
    {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width.0);
    }
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// How long ago something was, as people say it.
pub(crate) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else {
        return "never".into();
    };
    let seconds = now.duration_since(then).as_secs();
    match seconds {
        ..0 => format!("in {}", span(-seconds)),
        0 => "just now".into(),
        _ => format!("{} ago", span(seconds)),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number with its thousands apart.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with what it counts: `1 failure`, `37 failures`.
pub(crate) fn count(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "failure"), "1 failure");
        assert_eq!(count(0, "failure"), "0 failures");
        let now = Timestamp::from_second(100_000).unwrap();
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(ago(at(99_940), now), "60 s ago");
        assert_eq!(ago(at(99_000), now), "16 min ago");
        assert_eq!(ago(at(100_300), now), "in 5 min");
        assert_eq!(ago(None, now), "never");
    }
}
