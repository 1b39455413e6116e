//! Values in filters and keys.
//!
//! Source: OASIS "OData Version 4.01 Part 2: URL Conventions" §5.1.1.14 (literals).

use std::fmt::Write as _;

use crate::metadata::EdmType;

/// A value as a literal of its type; without a type it is judged by its form.
pub(crate) fn literal(text: &str, ty: Option<EdmType>) -> String {
    let plain = match ty {
        Some(EdmType::String | EdmType::Other) => false,
        Some(_) => true,
        None => looks_plain(text),
    };
    if plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Whether text without a known type is a number, a GUID or a time rather than a string.
fn looks_plain(text: &str) -> bool {
    text.parse::<f64>().is_ok() || is_guid(text) || text.parse::<jiff::Timestamp>().is_ok()
}

pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// `a and (b)`.
pub(crate) fn and(parts: &[Option<String>]) -> Option<String> {
    let parts: Vec<&String> = parts.iter().flatten().collect();
    match parts[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(
            parts
                .iter()
                .map(|part| format!("({part})"))
                .collect::<Vec<_>>()
                .join(" and "),
        ),
    }
}

/// `F eq 'x'`. Some services compare GUIDs as text, which they mostly keep in lower case.
fn equal(field: &str, text: &str, ty: Option<EdmType>) -> String {
    let literal = literal(text, ty);
    let lower = literal.to_ascii_lowercase();
    let guid = ty == Some(EdmType::Guid) || ty.is_none() && is_guid(text);
    if guid && lower != literal {
        format!("({field} eq {literal} or {field} eq {lower})")
    } else {
        format!("{field} eq {literal}")
    }
}

/// `(K eq 1 and L eq 'x') or (…)` for the keys given; each key has one value per field.
pub(crate) fn any_of(fields: &[(&str, Option<EdmType>)], keys: &[Vec<String>]) -> String {
    let mut filter = String::new();
    for key in keys {
        if !filter.is_empty() {
            filter.push_str(" or ");
        }
        let one: Vec<String> = fields
            .iter()
            .zip(key)
            .map(|((field, ty), value)| equal(field, value, *ty))
            .collect();
        // Writing to a string cannot fail.
        let _ = write!(filter, "({})", one.join(" and "));
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted_by_their_type() {
        assert_eq!(literal("O'Hara", Some(EdmType::String)), "'O''Hara'");
        assert_eq!(literal("42", Some(EdmType::String)), "'42'");
        assert_eq!(literal("42", Some(EdmType::Integer)), "42");
        let guid = "6d81597f-0f9f-e711-8122-000d3aa2331c";
        assert_eq!(literal(guid, Some(EdmType::Guid)), guid);
        assert_eq!(literal(guid, None), guid);
        assert_eq!(literal("US-001", None), "'US-001'");
        assert_eq!(
            literal("2026-01-01T00:00:00Z", None),
            "2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn filters_are_put_together() {
        let fields = [
            ("company", Some(EdmType::String)),
            ("no", Some(EdmType::Integer)),
        ];
        let keys = [
            vec!["usmf".into(), "1".into()],
            vec!["demf".into(), "2".into()],
        ];
        assert_eq!(
            any_of(&fields, &keys),
            "(company eq 'usmf' and no eq 1) or (company eq 'demf' and no eq 2)"
        );
        let guid = [vec!["6D81597F-0F9F-E711-8122-000D3AA2331C".into()]];
        assert_eq!(
            any_of(&[("id", Some(EdmType::Guid))], &guid),
            "((id eq 6D81597F-0F9F-E711-8122-000D3AA2331C or id eq 6d81597f-0f9f-e711-8122-000d3aa2331c))"
        );
        assert_eq!(
            any_of(&[("id", Some(EdmType::String))], &guid),
            "(id eq '6D81597F-0F9F-E711-8122-000D3AA2331C')"
        );
        assert_eq!(
            and(&[Some("a".into()), None, Some("b or c".into())]).unwrap(),
            "(a) and (b or c)"
        );
        assert_eq!(and(&[None]), None);
    }
}
