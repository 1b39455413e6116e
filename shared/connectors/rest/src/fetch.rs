//! Reading single records.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use mapping::{json, path_part};
use model::Lane;
use ports::SourceError;

use crate::{RestSource, page};

/// Records asked for at the same time; the connection's own limit may be lower.
const AT_ONCE: usize = 8;

/// The path of a single record, with its key fields in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemPath(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key(String),
}

impl ItemPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (field, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a brace that is not closed"))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Key(field.trim().to_owned()));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The path of the record with a key, a JSON object.
    fn fill(&self, key: &[u8]) -> Result<String, String> {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Key(field) => {
                    let value = json::fields(key, [field.as_str()])
                        .ok()
                        .and_then(|found| json::scalar(found[0]?));
                    let part = value.and_then(|value| path_part(&value));
                    path.push_str(&part.ok_or_else(|| {
                        format!(
                            "a record without a value in its key field `{field}` has no address"
                        )
                    })?);
                }
            }
        }
        Ok(path)
    }
}

impl RestSource {
    pub(crate) async fn fetch_keys(
        &self,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, SourceError> {
        let fetches: Vec<_> = keys.iter().map(|key| self.fetch_one(key)).collect();
        stream::iter(fetches).buffered(AT_ONCE).try_collect().await
    }

    async fn fetch_one(&self, key: &Bytes) -> Result<Option<Bytes>, SourceError> {
        let invalid = |what: String| SourceError::Invalid {
            what: format!("`{}`: {what}", self.name),
        };
        let Some(item) = &self.item else {
            let what = "the stream has no `item` path to read single records by";
            return Err(invalid(what.into()));
        };
        let url = self.client.at(&item.fill(key).map_err(invalid)?)?;
        let answer = self.client.ask(&Self::call(url, Lane::Live)).await?;
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(None);
        }
        let answer = answer.good(self.client.now())?;
        let body = answer.content();
        let record = page::value(&answer, &body, &self.rest.item_record)?;
        if record == "null" {
            return Ok(None);
        }
        let record = body.slice_ref(record.as_bytes());
        if self.is_other(key, &record) {
            return Err(answer.garbled("is the record of another key"));
        }
        Ok(Some(record))
    }

    /// Whether a record has another key than it was asked for by. One that lacks its key is
    /// a failure of its own, later.
    fn is_other(&self, key: &Bytes, record: &Bytes) -> bool {
        self.key.iter().any(|field| {
            let value = |object| {
                let found = json::fields(object, [field.as_str()]).ok()?;
                json::scalar(found[0]?)
            };
            match (value(key), value(record)) {
                // GUIDs are written both ways.
                (Some(asked), Some(found)) => !asked.eq_ignore_ascii_case(&found),
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_filled_with_encoded_parts() {
        let item = ItemPath::parse("/shops/{shop}/orders/{no}.json").unwrap();
        let fill = |key: &str| item.fill(key.as_bytes());
        assert_eq!(
            fill(r#"{"no": 7, "shop": "a/b ü"}"#).unwrap(),
            "/shops/a%2Fb%20%C3%BC/orders/7.json"
        );
        for bad in [
            r#"{"no": 7}"#,
            r#"{"no": 7, "shop": ""}"#,
            r#"{"no": 7, "shop": null}"#,
            "[]",
        ] {
            assert!(fill(bad).unwrap_err().contains("`shop`"), "{bad}");
        }
        assert!(ItemPath::parse("/a/{b").is_err());
        assert_eq!(ItemPath::parse("/a").unwrap().fill(b"{}").unwrap(), "/a");
    }
}
