//! Cutting a stream into ranges.

use connector_http::url::add_query;
use mapping::json;
use model::{Lane, SliceRange};
use ports::SourceError;

use crate::{OdataSource, literal::and, metadata::EdmType, page};

impl OdataSource {
    /// Cuts by the field the map names, else by the key if it is one number. Ranges are equal
    /// in width, not in rows: keys and creation times are near enough to even.
    pub(crate) async fn cut(&self, wanted: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        let whole = Ok(vec![None]);
        let field = match (&self.stream.slice_by, &self.stream.key[..]) {
            (Some(field), _) => field.clone(),
            (None, [key]) => key.clone(),
            (None, _) => return whole,
        };
        let ty = self.field_type(&field).await?;
        let (Some(first), Some(last)) = (
            self.edge(&field, "asc").await?,
            self.edge(&field, "desc").await?,
        ) else {
            return whole;
        };
        let bounds = match ty {
            Some(EdmType::Integer) => numbers(&first, &last, wanted),
            Some(EdmType::DateTimeOffset) => times(&first, &last, wanted),
            _ => None,
        };
        let Some(bounds) = bounds.filter(|bounds| !bounds.is_empty()) else {
            return whole;
        };
        let starts = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
        let ends = bounds.iter().cloned().map(Some).chain([None]);
        Ok(starts
            .zip(ends)
            .map(|(from, to)| {
                Some(SliceRange {
                    field: field.clone(),
                    from,
                    to,
                })
            })
            .collect())
    }

    /// The least or greatest value of a field.
    async fn edge(&self, field: &str, direction: &str) -> Result<Option<String>, SourceError> {
        let mut url = self.url()?;
        let order = format!("{field} {direction}");
        let filter = and(&[
            Some(format!("{field} ne null")),
            self.stream.condition.clone(),
        ])
        .unwrap_or_default();
        let key = self.stream.key.contains(&field.to_owned());
        let mut query = vec![("$select", field), ("$orderby", &order), ("$top", "1")];
        if !key || self.stream.condition.is_some() {
            query.push(("$filter", &filter));
        }
        add_query(&mut url, &query);
        let answer = self.client.call(&Self::call(url, Lane::Load)).await?;
        let records = page::parse(&answer, false)?.records;
        let Some(raw) = records.first() else {
            return Ok(None);
        };
        let found =
            json::fields(raw, [field]).map_err(|error| answer.garbled(&error.to_string()))?;
        Ok(found[0]
            .and_then(json::scalar)
            .map(std::borrow::Cow::into_owned))
    }
}

/// `wanted - 1` bounds between two numbers, none twice.
fn between(first: i128, last: i128, wanted: u32) -> Vec<i128> {
    let width = last - first + 1;
    let mut bounds: Vec<i128> = (1..i128::from(wanted))
        .map(|part| first + width * part / i128::from(wanted))
        .collect();
    bounds.dedup();
    bounds.retain(|bound| *bound > first);
    bounds
}

fn numbers(first: &str, last: &str, wanted: u32) -> Option<Vec<String>> {
    let bounds = between(first.parse().ok()?, last.parse().ok()?, wanted);
    Some(bounds.into_iter().map(|bound| bound.to_string()).collect())
}

fn times(first: &str, last: &str, wanted: u32) -> Option<Vec<String>> {
    let micros = |text: &str| {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_microsecond)
    };
    between(micros(first)?.into(), micros(last)?.into(), wanted)
        .into_iter()
        .map(|bound| {
            let micros = i64::try_from(bound).ok()?;
            Some(jiff::Timestamp::from_microsecond(micros).ok()?.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_are_in_order_inside_and_not_too_many(first in -1_000_i128..1_000, width in 0_i128..2_000, wanted in 1_u32..50) {
            let last = first + width;
            let bounds = between(first, last, wanted);
            prop_assert!(bounds.len() < wanted as usize);
            prop_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(bounds.iter().all(|bound| first < *bound && *bound <= last));
        }
    }

    #[test]
    fn times_are_cut_evenly() {
        let bounds = times("2026-01-01T00:00:00Z", "2026-01-01T00:00:04Z", 4).unwrap();
        assert_eq!(bounds.len(), 3);
        assert_eq!(bounds[1], "2026-01-01T00:00:02Z");
        assert_eq!(numbers("1", "10", 2).unwrap(), ["6"]);
        assert_eq!(numbers("a", "b", 2), None);
    }
}
