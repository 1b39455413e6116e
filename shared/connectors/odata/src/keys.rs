//! Reading single records.

use std::str::FromStr;

use bigdecimal::BigDecimal;
use bytes::Bytes;
use connector_http::{Call, Circle, url::add_query};
use mapping::json;
use model::{Lane, time_micros};
use ports::SourceError;

use crate::{
    OdataSource,
    literal::{and, any_of, is_guid},
    metadata::EdmType,
    page,
};

/// Keys per request of [`ports::Source::fetch`]; more would make addresses that servers refuse.
const KEYS_PER_FETCH: usize = 20;

/// A record with its key, one text per key field.
type Row = (Vec<String>, Bytes);

impl OdataSource {
    pub(crate) async fn fetch_keys(
        &self,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, SourceError> {
        let mut fields: Vec<(&str, Option<EdmType>)> = Vec::with_capacity(self.stream.key.len());
        for key in &self.stream.key {
            fields.push((key, self.field_type(key).await?));
        }
        let types: Vec<_> = fields.iter().map(|(_, ty)| *ty).collect();
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS_PER_FETCH) {
            let mut wanted = Vec::with_capacity(some.len());
            for raw in some {
                wanted.push(self.key_values(raw)?);
            }
            let rows = self.fetch_some(&fields, &wanted).await?;
            found.extend(wanted.iter().map(|key| pick(&rows, &wanted, key, &types)));
        }
        Ok(found)
    }

    async fn fetch_some(
        &self,
        fields: &[(&str, Option<EdmType>)],
        wanted: &[Vec<String>],
    ) -> Result<Vec<Row>, SourceError> {
        let filter =
            and(&[Some(any_of(fields, wanted)), self.stream.condition.clone()]).unwrap_or_default();
        let select = self.select();
        let mut url = self.url()?;
        let mut query: Vec<(&str, &str)> = vec![("$filter", &filter)];
        if !select.is_empty() {
            query.push(("$select", &select));
        }
        add_query(&mut url, &query);
        let types: Vec<_> = fields.iter().map(|(_, ty)| *ty).collect();
        let mut rows = Vec::new();
        let mut circle = Circle::default();
        loop {
            let call = Call {
                what: "reading single records",
                ..Self::call(url.clone(), Lane::Live)
            };
            let answer = self.client.call(&call).await?;
            let page = page::parse(&answer, false)?;
            for raw in page.records {
                let key = self.key_values(&raw)?;
                // Whoever misunderstands a key must not be taken to say that it is gone.
                if !wanted.iter().any(|wanted| alike(wanted, &key, &types)) {
                    let key = key.join(",");
                    return Err(
                        answer.garbled(&format!("has a row that was not asked for, `{key}`"))
                    );
                }
                rows.push((key, raw));
            }
            let Some(link) = page.next else {
                return Ok(rows);
            };
            url = self.client.follow(&url, &link)?;
            circle = circle
                .step(url.as_str())
                .ok_or_else(|| answer.garbled("has a nextLink that leads in a circle"))?;
        }
    }

    /// The key of a record, one text per key field.
    fn key_values(&self, raw: &Bytes) -> Result<Vec<String>, SourceError> {
        let mut values = Vec::with_capacity(self.stream.key.len());
        for key in &self.stream.key {
            let value = json::fields(raw, [key.as_str()])
                .ok()
                .and_then(|found| json::scalar(found[0]?));
            let missing = || SourceError::Invalid {
                what: format!(
                    "a record of `{}` has no key field `{key}`",
                    self.stream.entity
                ),
            };
            values.push(value.ok_or_else(missing)?.into_owned());
        }
        Ok(values)
    }
}

/// The row of a key, which a service may write otherwise than it was asked for: `12` for
/// `12.00`. Of text it may also take cases for equal, as many databases do; then a row that
/// has the name of another key that was asked for is that key's.
fn pick(
    rows: &[Row],
    wanted: &[Vec<String>],
    key: &[String],
    types: &[Option<EdmType>],
) -> Option<Bytes> {
    let find = |is: &dyn Fn(&[String]) -> bool| rows.iter().find(|(other, _)| is(other));
    let row = find(&|other| other == key)
        .or_else(|| find(&|other| equal(key, other, types)))
        .or_else(|| {
            find(&|other| alike(key, other, types) && !wanted.iter().any(|key| key == other))
        });
    row.map(|(_, raw)| raw.clone())
}

/// Whether two keys are one by the types of their fields.
fn equal(a: &[String], b: &[String], types: &[Option<EdmType>]) -> bool {
    let mut parts = a.iter().zip(b).zip(types);
    parts.all(|((a, b), ty)| a == b || ty.is_some_and(|ty| typed(a, ty) == typed(b, ty)))
}

/// Whether a service may take two keys for one.
fn alike(a: &[String], b: &[String], types: &[Option<EdmType>]) -> bool {
    let mut parts = a.iter().zip(b).zip(types);
    parts.all(|((a, b), ty)| folded(a, *ty) == folded(b, *ty))
}

/// A value in the one form that all ways to write it have in common.
fn typed(text: &str, ty: EdmType) -> String {
    let form = match ty {
        EdmType::Integer | EdmType::Decimal | EdmType::Double => number(text),
        EdmType::DateTimeOffset | EdmType::Date => time(text),
        EdmType::Guid | EdmType::Boolean => Some(text.to_ascii_lowercase()),
        EdmType::String | EdmType::Other => None,
    };
    form.unwrap_or_else(|| text.to_owned())
}

/// The same with cases, and blanks at the end, left out of text; without a type a value is
/// judged by its form.
fn folded(text: &str, ty: Option<EdmType>) -> String {
    let form = match ty {
        Some(EdmType::String | EdmType::Other) => None,
        Some(ty) => Some(typed(text, ty)),
        None if is_guid(text) => None,
        None => number(text).or_else(|| time(text)),
    };
    form.unwrap_or_else(|| text.trim_end().to_lowercase())
}

fn number(text: &str) -> Option<String> {
    let number = BigDecimal::from_str(text).ok()?.normalized();
    let (digits, scale) = number.as_bigint_and_scale();
    Some(format!("{digits}e{}", -scale))
}

fn time(text: &str) -> Option<String> {
    time_micros(text).map(|micros| micros.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_only_in_case_are_not_mixed_up() {
        let key = |text: &str| vec![text.to_owned()];
        let row = |text: &str| (key(text), Bytes::from(text.to_owned()));
        let pick_as = |ty: Option<EdmType>, rows: &[&str], wanted: &[&str], asked: &str| {
            let rows: Vec<Row> = rows.iter().map(|text| row(text)).collect();
            let wanted: Vec<_> = wanted.iter().map(|text| key(text)).collect();
            pick(&rows, &wanted, &key(asked), &[ty])
                .map(|found| String::from_utf8(found.into()).unwrap())
        };
        let pick = |rows: &[&str], wanted: &[&str], asked: &str| {
            let text = pick_as(Some(EdmType::String), rows, wanted, asked);
            assert_eq!(text, pick_as(None, rows, wanted, asked));
            text
        };
        assert_eq!(pick(&["a", "A"], &["a", "A"], "a").unwrap(), "a");
        assert_eq!(pick(&["a", "A"], &["a", "A"], "A").unwrap(), "A");
        assert_eq!(pick(&["AB-1"], &["ab-1"], "ab-1").unwrap(), "AB-1");
        assert_eq!(
            pick(&["A"], &["a", "A"], "a"),
            None,
            "`a` is gone, `A` is another row"
        );
    }
}
