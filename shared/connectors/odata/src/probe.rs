//! What is asked before a stream is read: how new it is, how large, whether it tracks changes.

use connector_http::{Answer, url::add_query};
use definition::PullMode;
use http::HeaderValue;
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
        // A service that ignores $orderby shows some record: its version is no bound. Every
        // record of the page is looked at, and the clock of the service is a bound for times.
        let mut newest = None;
        for raw in records.iter().take(1) {
            let found = json::fields(raw, [field.as_str()])
                .map_err(|error| answer.garbled(&error.to_string()))?;
            newest = found[0]
                .and_then(json::scalar)
                .map(std::borrow::Cow::into_owned);
        }
        let ty = self.field_type(field).await?;
        let is_time = match &newest {
            Some(text) => text.parse::<jiff::Timestamp>().is_ok(),
            None => ty.is_none_or(|ty| ty == EdmType::DateTimeOffset),
        };
        if is_time && *kind != VersionKind::Integer {
            let now = answer.server_time();
            newest = match newest {
                Some(text)
                    if text
                        .parse::<jiff::Timestamp>()
                        .is_ok_and(|newest| newest < now)
                        && records.len() == 1 =>
                {
                    Some(text)
                }
                _ => Some(now.to_string()),
            };
        }
        Ok(Some(Mark::Cursor {
            at: newest,
            then: None,
        }))
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
        // Some services send a byte-order mark first.
        let text = std::str::from_utf8(&answer.body)
            .ok()?
            .trim_start_matches('\u{feff}');
        text.trim().parse().ok()
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
