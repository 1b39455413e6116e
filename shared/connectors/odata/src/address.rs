//! The addresses of pages.
//!
//! A link such as `?$skip=200` means the two hundred and first row there is when it is
//! followed. Between two pages a row can be deleted, or a change can move it to the end; then
//! another row slips to the page before, where nobody sees it any more. So links that count
//! rows are not followed: the next page is asked for by what the last one ended with.

use bytes::Bytes;
use connector_http::{Circle, url::add_query, version};
use mapping::json;
use model::SliceRange;
use ports::{ReadFrom, SourceError};
use url::Url;

use crate::{
    OdataSource,
    cursor::{Cursor, Mark, Paging},
    literal::{and, literal},
    metadata::EdmType,
};

impl OdataSource {
    /// Where a read begins.
    pub(crate) async fn first(
        &self,
        from: ReadFrom<'_>,
        mark: Option<&Mark>,
        paging: Paging,
    ) -> Result<Cursor, SourceError> {
        let start = |next: String, tracked| Cursor {
            next,
            tracked,
            started: None,
            newest: None,
            paging,
            circle: Circle::default(),
        };
        if let Some(Mark::Delta { link }) = mark {
            return Ok(start(link.clone(), true));
        }
        // A part of the stream has no delta link of its own.
        let whole = range(from).is_none() && mark.is_none();
        let tracks = whole && self.may_track() && paging != Paging::Keys;
        let ordered = paging == Paging::Keys || since(mark).is_some();
        let url = self.address(from, mark, None, ordered).await?;
        Ok(start(url.into(), tracks))
    }

    /// The address of the rows that come after one; `None` when it does not say its place.
    pub(crate) async fn beyond(
        &self,
        from: ReadFrom<'_>,
        mark: Option<&Mark>,
        last: &Bytes,
    ) -> Result<Option<Url>, SourceError> {
        let mut place = Vec::new();
        for field in self.order(mark) {
            let value = json::fields(last, [field])
                .ok()
                .and_then(|found| json::scalar(found[0]?));
            let Some(value) = value else { return Ok(None) };
            place.push((field, self.field_type(field).await?, value));
        }
        let after = after(&place);
        Ok(Some(self.address(from, mark, Some(after), true).await?))
    }

    async fn address(
        &self,
        from: ReadFrom<'_>,
        mark: Option<&Mark>,
        after: Option<String>,
        ordered: bool,
    ) -> Result<Url, SourceError> {
        let since = match since(mark) {
            Some(at) => Some(self.since(at)?),
            None => None,
        };
        let in_range = match range(from) {
            Some(range) => Some(self.in_range(range).await?),
            None => None,
        };
        let filter = and(&[since, in_range, self.stream.condition.clone(), after]);
        let select = self.select();
        let order: Vec<String> = self
            .order(mark)
            .map(|field| format!("{field} asc"))
            .collect();
        let order = order.join(",");
        let mut query: Vec<(&str, &str)> = Vec::new();
        if !select.is_empty() {
            query.push(("$select", &select));
        }
        if let Some(filter) = &filter {
            query.push(("$filter", filter));
        }
        if ordered {
            query.push(("$orderby", &order));
        }
        let mut url = self.url()?;
        add_query(&mut url, &query);
        Ok(url)
    }

    pub(crate) fn select(&self) -> String {
        self.stream.select.join(",")
    }

    /// The fields of a complete order, so that no page boundary hides a record; in a read for
    /// changes the oldest change first.
    fn order<'o>(&'o self, mark: Option<&Mark>) -> impl Iterator<Item = &'o str> {
        let version = self
            .stream
            .version
            .as_ref()
            .filter(|_| since(mark).is_some());
        let version = version.map(|(field, _)| field.as_str());
        let key = self.stream.key.iter().map(String::as_str);
        version
            .into_iter()
            .chain(key.filter(move |key| Some(*key) != version))
    }

    /// Everything at or after a version, less the overlap: rows that were committed late, or
    /// by a server whose clock is behind, carry an older time than rows already read.
    fn since(&self, at: &str) -> Result<String, SourceError> {
        let Some((field, kind)) = &self.stream.version else {
            return Err(SourceError::Expired {
                what: "the map has no version field any more".into(),
            });
        };
        let value = version::less(at, self.stream.overlap, *kind);
        Ok(format!("{field} ge {value}"))
    }

    async fn in_range(&self, range: &SliceRange) -> Result<String, SourceError> {
        let ty = self.field_type(&range.field).await?;
        let field = &range.field;
        let from = range
            .from
            .as_ref()
            .map(|from| format!("{field} ge {}", literal(from, ty)));
        let to = range
            .to
            .as_ref()
            .map(|to| format!("{field} lt {}", literal(to, ty)));
        let inside = and(&[from.clone(), to]).unwrap_or_default();
        // Rows without a value are in no range: the first one takes them.
        Ok(match from {
            None if !self.stream.key.contains(field) => format!("({inside}) or {field} eq null"),
            _ => inside,
        })
    }
}

fn range(from: ReadFrom<'_>) -> Option<&SliceRange> {
    match from {
        ReadFrom::Rows(range) => range,
        ReadFrom::Mark(_) => None,
    }
}

/// The version from which changes are read.
fn since(mark: Option<&Mark>) -> Option<&str> {
    match mark {
        Some(Mark::Cursor { at, .. }) => at.as_deref(),
        _ => None,
    }
}

/// The condition of all rows that come after one in the order of its fields:
/// `(a gt 1) or (a eq 1 and b gt 2)`.
fn after<T: AsRef<str>>(place: &[(&str, Option<EdmType>, T)]) -> String {
    let is = |at: usize, operator: &str| {
        let (field, ty, value) = &place[at];
        format!("{field} {operator} {}", literal(value.as_ref(), *ty))
    };
    let parts: Vec<String> = (0..place.len())
        .map(|last| {
            let equal = (0..last).map(|at| is(at, "eq"));
            let all: Vec<String> = equal.chain([is(last, "gt")]).collect();
            all.join(" and ")
        })
        .collect();
    match &parts[..] {
        [one] => one.clone(),
        several => format!("({})", several.join(") or (")),
    }
}

/// Whether a link says how many rows come before its page.
pub(crate) fn counts_rows(link: &Url) -> bool {
    link.query_pairs().any(|(name, value)| {
        matches!(&*name, "$skip" | "$skiptoken")
            && !value.is_empty()
            && value.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether the rows behind an address are in a complete order of this connector's.
pub(crate) fn is_ordered(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| name == "$orderby")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_after_one_are_told_in_the_order_of_the_fields() {
        let place = [
            ("company", Some(EdmType::String), "us'mf"),
            ("no", Some(EdmType::Integer), "7"),
            ("at", Some(EdmType::DateTimeOffset), "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(after(&place[1..2]), "no gt 7");
        assert_eq!(
            after(&place),
            "(company gt 'us''mf') or (company eq 'us''mf' and no gt 7) or (company eq 'us''mf' and no eq 7 and at gt 2026-01-01T00:00:00Z)"
        );
    }

    #[test]
    fn only_links_that_count_rows_are_taken_for_such() {
        for (link, counts) in [
            ("https://c/A?$skiptoken=100", true),
            ("https://c/A?%24top=5&%24skip=100", true),
            ("https://c/A?$skiptoken=", false),
            ("https://c/A?$skiptoken=Id-100", false),
            (
                "https://c/A?$skiptoken=%3Ccookie%20pagenumber=%222%22%3E",
                false,
            ),
            ("https://c/A?skip=100", false),
            ("https://c/A?$skiptoken=100_7", false),
        ] {
            assert_eq!(counts_rows(&link.parse().unwrap()), counts, "{link}");
        }
    }
}
