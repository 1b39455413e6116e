//! What was measured, for people.

use std::io::Write as _;

/// Writes a line to standard output. A reader that has gone away is no error.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{}", text.as_ref());
    let _ = out.flush();
}

/// Which way a target lies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// There is none: a limit to compare with.
    None,
}

impl Target {
    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::AtLeast(bound) if value >= bound => "met",
            Self::AtMost(bound) if value <= bound => "met",
            Self::None => "",
            _ => "MISSED",
        }
    }

    fn show(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", number(bound)),
            Self::AtMost(bound) => format!("≤ {}", number(bound)),
            Self::None => String::new(),
        }
    }
}

/// A number with as many digits as matter.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Values of several runs: the median is shown, with the least and the greatest.
pub(crate) fn line(what: &str, unit: &str, values: &[f64], target: Target) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
        return;
    };
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let spread = if values.len() > 1 {
        format!("{} to {}", number(*least), number(*most))
    } else {
        String::new()
    };
    say(format!(
        "{what:<58} {:>10} {unit:<12} {spread:<22} {:<12} {}",
        number(median),
        target.show(),
        target.verdict(median)
    ));
}

/// A heading.
pub(crate) fn heading(text: &str) {
    say(format!("\n{text}"));
}
