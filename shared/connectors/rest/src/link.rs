//! The `Link` header.
//!
//! Source: RFC 8288 §3 (syntax), §3.2 (context), §3.3 (relation type). Crates that read it
//! drop what they do not understand; here that would drop pages.

/// The target of the first link with the relation `next`, as it is written. `Err` says where
/// a header stops making sense.
pub(crate) fn next<'h>(headers: impl Iterator<Item = &'h str>) -> Result<Option<String>, String> {
    for header in headers {
        let mut rest = header;
        while let Some(link) = take_link(&mut rest)? {
            if link.is_next {
                return Ok(Some(link.target.to_owned()));
            }
        }
    }
    Ok(None)
}

struct Link<'h> {
    target: &'h str,
    is_next: bool,
}

fn broken(rest: &str) -> String {
    let shown: String = rest.chars().take(60).collect();
    format!("makes no sense at `{shown}`")
}

/// Takes the next link off the front.
fn take_link<'h>(rest: &mut &'h str) -> Result<Option<Link<'h>>, String> {
    // Empty elements of a list are no error (RFC 9110 §5.6.1).
    *rest = rest.trim_start_matches([',', ' ', '\t']);
    if rest.is_empty() {
        return Ok(None);
    }
    let inside = rest.strip_prefix('<').ok_or_else(|| broken(rest))?;
    let (target, mut after) = inside.split_once('>').ok_or_else(|| broken(rest))?;
    let mut relation = None;
    let mut anchored = false;
    while let Some((name, value)) = take_parameter(&mut after)? {
        if name.eq_ignore_ascii_case("rel") {
            // Only the first one counts.
            relation.get_or_insert(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            anchored = true;
        }
    }
    *rest = after;
    let relations = relation.unwrap_or_default();
    let named = relations
        .split_ascii_whitespace()
        .any(|relation| relation.eq_ignore_ascii_case("next"));
    Ok(Some(Link {
        target: target.trim(),
        // A link with an anchor is about another resource than the page.
        is_next: named && !anchored,
    }))
}

/// Takes the next `; name=value` off the front; `None` at the end of the link.
fn take_parameter<'h>(rest: &mut &'h str) -> Result<Option<(&'h str, String)>, String> {
    loop {
        *rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() || rest.starts_with(',') {
            return Ok(None);
        }
        let after = rest.strip_prefix(';').ok_or_else(|| broken(rest))?;
        let after = after.trim_start_matches([' ', '\t']);
        let end = after
            .find(['=', ';', ',', ' ', '\t'])
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            *rest = after;
            if name.is_empty() {
                continue;
            }
            return Ok(Some((name, String::new())));
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = take_value(value)?;
        *rest = after;
        return Ok(Some((name, value)));
    }
}

/// A token or a quoted string.
fn take_value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return Ok((token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    Err(broken(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Option<String> {
        next(std::iter::once(header)).unwrap()
    }

    #[test]
    fn the_next_link_is_found_among_others() {
        let github = r#"<https://h/r?page=1>; rel="prev", <https://h/r?page=3>; rel="next", <https://h/r?page=50>; rel="last""#;
        assert_eq!(one(github).unwrap(), "https://h/r?page=3");
        let shopify = r#"<https://s/o.json?page_info=a,b;c>; rel="next""#;
        assert_eq!(one(shopify).unwrap(), "https://s/o.json?page_info=a,b;c");
        assert_eq!(one("<?p=2>;rel=next").unwrap(), "?p=2");
        assert_eq!(
            one(r#"<x> ; title="a \"b\", c" ; REL = "last Next""#).unwrap(),
            "x"
        );
        assert_eq!(one(", ,<a>; rel=first,,<b>; foo ; rel=next,").unwrap(), "b");
        let two = ["<a>; rel=prev", "<b>; rel=next"];
        assert_eq!(next(two.into_iter()).unwrap().unwrap(), "b");
    }

    #[test]
    fn what_is_not_next_is_not_taken_for_it() {
        for header in [
            "",
            "<a>; rel=prev",
            "<a>; rel=\"nextish\"",
            "<a>; rel=prev; rel=next",
            "<a>; title=\"; rel=next\"",
            "<a>; rel=next; anchor=\"#other\"",
            "<a>",
        ] {
            assert_eq!(one(header), None, "{header}");
        }
    }

    #[test]
    fn a_header_that_makes_no_sense_is_an_error_and_not_the_end() {
        for header in [
            "https://h/r?page=3; rel=next",
            "<a; rel=next",
            "<a>; rel=\"next",
            "<a> rel=next",
        ] {
            assert!(next(std::iter::once(header)).is_err(), "{header}");
        }
    }
}
