//! What is asked before a stream is read: how new it is, how large, whether it tracks changes.

use connector_http::{Answer, url::add_query, version};
use definition::PullMode;
use http::HeaderValue;
use jiff::Timestamp;
use mapping::json;
use model::{Lane, VersionKind};
use ports::SourceError;

use crate::{OdataSource, cursor::Mark, metadata::EdmType, page};

impl OdataSource {
    /// Whether a read of the whole stream may ask for changes to be tracked: that takes neither
    /// a filter nor an order (Dataverse refuses them).
    pub(crate) fn may_track(&self) -> bool {
        self.stream.condition.is_none() && self.stream.mode != PullMode::Cursor
    }

    /// Whether the service tracks changes of this stream, found out with the least of reads.
    pub(crate) async fn tracks_changes(&self) -> Result<bool, SourceError> {
        if !self.may_track() {
            return Ok(false);
        }
        let mut url = self.url()?;
        add_query(&mut url, &[("$select", &self.stream.key.join(","))]);
        let mut call = Self::call(url, Lane::Load);
        let prefer = HeaderValue::from_static("odata.track-changes,odata.maxpagesize=1");
        call.headers.insert("prefer", prefer);
        match self.client.call(&call).await {
            Ok(answer) => Ok(is_tracked(&answer)),
            // A service that refuses to be asked does not track.
            Err(SourceError::Invalid { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The mark of the newest record there is, from which changes are read after a load.
    pub(crate) async fn newest(&self) -> Result<Option<Mark>, SourceError> {
        let Some((field, kind)) = &self.stream.version else {
            return Ok(None);
        };
        let mut url = self.url()?;
        add_query(
            &mut url,
            &[
                ("$select", field),
                ("$orderby", &format!("{field} desc")),
                ("$top", "1"),
            ],
        );
        let answer = self.client.call(&Self::call(url, Lane::Load)).await?;
        let records = page::parse(&answer, false)?.records;
        let newest = match records.first() {
            Some(raw) => json::fields(raw, [field.as_str()])
                .map_err(|error| answer.garbled(&error.to_string()))?[0]
                .and_then(json::scalar),
            None => None,
        };
        let now = self.client.asked(&answer);
        let at = match newest {
            // A service that ignores $orderby shows some record: its version is no bound, but
            // the clock of the service is one.
            Some(text) if version::is_time(&text, *kind) => Some(if records.len() == 1 {
                version::at_most(&text, now, *kind)
            } else {
                version::express(now.as_microsecond(), &text, *kind).unwrap_or(now.to_string())
            }),
            Some(text) => Some(text.into_owned()),
            None => self.time(now, field, *kind).await?,
        };
        Ok(Some(Mark::Cursor { at, then: None }))
    }

    /// A time as a version of a field, if that holds times.
    async fn time(
        &self,
        time: Timestamp,
        field: &str,
        kind: VersionKind,
    ) -> Result<Option<String>, SourceError> {
        let form = match (kind, self.field_type(field).await?) {
            (VersionKind::Auto | VersionKind::Timestamp, ty) => match ty {
                None | Some(EdmType::DateTimeOffset) => Some("1970-01-01T00:00:00Z"),
                Some(EdmType::Date) => Some("1970-01-01"),
                _ => None,
            },
            _ => version::usual(kind),
        };
        Ok(form.and_then(|form| version::express(time.as_microsecond(), form, kind)))
    }

    /// How many rows there are; `None` when the service does not say.
    pub(crate) async fn count(&self) -> Option<u64> {
        let mut url = self.url().ok()?;
        url.set_path(&format!("{}/$count", url.path()));
        if let Some(condition) = &self.stream.condition {
            add_query(&mut url, &[("$filter", condition)]);
        }
        let mut call = Self::call(url, Lane::Load);
        call.headers
            .insert("accept", HeaderValue::from_static("text/plain"));
        let answer = self.client.call(&call).await.ok()?;
        std::str::from_utf8(&answer.content())
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

/// Whether the service says that it tracks the changes of what it answers.
pub(crate) fn is_tracked(answer: &Answer) -> bool {
    let applied = answer
        .headers
        .get("preference-applied")
        .and_then(|value| value.to_str().ok());
    applied.is_some_and(|applied| applied.contains("track-changes"))
}
