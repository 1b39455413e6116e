//! Single values as they are written.

use serde::Serialize;

/// A single value, with numbers kept as they are written so that no digit is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scalar {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number in JSON notation.
    Number(String),
    /// Anything else, or anything in quotes.
    Text(String),
}

impl Scalar {
    /// Reads an unquoted value by the core schema of YAML 1.2, which knows no `yes` and `no`.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            _ if is_json_number(text) => Self::Number(text.to_owned()),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(text) => text.clone(),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }

    /// The value as it is written, without quotes.
    #[must_use]
    pub fn as_text(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Number(text) | Self::Text(text) => text,
        }
    }
}

/// Leading zeros make a number code text here: `007` is an article number.
fn is_json_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_countries_stay_text() {
        for text in ["007", "NO", "yes", "1.2.3", "0x1F", "1e", "+1", "nan"] {
            assert_eq!(Scalar::plain(text), Scalar::Text(text.into()));
        }
        assert_eq!(Scalar::plain("1.10"), Scalar::Number("1.10".into()));
        assert_eq!(Scalar::plain("-0"), Scalar::Number("-0".into()));
        assert_eq!(Scalar::plain("~"), Scalar::Null);
    }
}
