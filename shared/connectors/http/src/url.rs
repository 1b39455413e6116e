//! Query strings that every server reads the same.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that stay as they are: RFC 3986 allows them in a query, and people have to read
/// it. A blank becomes `%20`, never `+`, which some servers take for a plus.
const KEEP: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b',')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'!')
    .remove(b'@')
    .remove(b'/');

/// Text as part of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, KEEP).to_string()
}

/// Adds parameters to an address.
pub fn add_query(url: &mut url::Url, parameters: &[(&str, &str)]) {
    let mut query = url.query().unwrap_or_default().to_owned();
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&encode(name));
        query.push('=');
        query.push_str(&encode(value));
    }
    if !query.is_empty() {
        url.set_query(Some(&query));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_is_encoded() {
        let mut url: url::Url = "https://x/y?a=1".parse().unwrap();
        add_query(
            &mut url,
            &[(
                "$filter",
                "name eq 'O''Hara & Söhne+1' and x ge 2026-01-01T00:00:00Z",
            )],
        );
        assert_eq!(
            url.as_str(),
            "https://x/y?a=1&$filter=name%20eq%20%27O%27%27Hara%20%26%20S%C3%B6hne%2B1%27%20and%20x%20ge%202026-01-01T00%3A00%3A00Z"
        );
    }
}
