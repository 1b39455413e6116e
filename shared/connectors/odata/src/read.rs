//! Reading pages and changes.

use bytes::Bytes;
use connector_http::{Answer, version};
use http::HeaderValue;
use jiff::Timestamp;
use mapping::json;
use model::{Lane, Op, SourceMark};
use ports::{Next, Page, PageRecord, ReadFrom, SourceError};

use crate::{
    OdataSource,
    address::{counts_rows, is_ordered},
    cursor::{Cursor, Mark, Paging},
    deleted::{Entry, entry},
    page::{self, PageBody},
    probe::is_tracked,
};

/// A page that was read, and what it says of the next one.
struct Read {
    answer: Answer,
    body: PageBody,
    url: url::Url,
    next: Option<url::Url>,
    /// Whether the service tracks changes in this read.
    tracked: bool,
    /// Whether its link counts rows.
    counts: bool,
    /// Whether it was asked for in an order.
    ordered: bool,
}

impl OdataSource {
    pub(crate) async fn read_page(
        &self,
        from: ReadFrom<'_>,
        cursor: Option<&str>,
    ) -> Result<Page, SourceError> {
        let expired = || SourceError::Expired {
            what: "the place kept in the checkpoint cannot be read by this version".into(),
        };
        let mark = match from {
            ReadFrom::Rows(_) => None,
            ReadFrom::Mark(mark) => Some(Mark::parse(mark).ok_or_else(expired)?),
        };
        let cursor = match cursor {
            Some(text) => serde_json::from_str(text).map_err(|_| expired())?,
            None => self.first(from, mark.as_ref(), Paging::Open).await?,
        };
        let read = self.read_at(from, mark.as_ref(), &cursor).await;
        let again = match &read {
            // The service cannot put its keys in order, or not compare them.
            Err(SourceError::Invalid { what }) if cursor.paging == Paging::Keys => {
                tracing::warn!(
                    "a row that is deleted during this read can hide another one: the links of the service count rows, and it cannot be asked by keys: {what}"
                );
                Paging::Links
            }
            Ok(read) if read.counts && cursor.paging == Paging::Open && !read.ordered => {
                Paging::Keys
            }
            _ => return self.page(read?, mark, cursor),
        };
        let cursor = self.first(from, mark.as_ref(), again).await?;
        match self.read_at(from, mark.as_ref(), &cursor).await {
            // The very first page cannot be put in order.
            Err(SourceError::Invalid { .. }) if again == Paging::Keys => {
                let links = self.first(from, mark.as_ref(), Paging::Links).await?;
                let read = self.read_at(from, mark.as_ref(), &links).await?;
                self.page(read, mark, links)
            }
            read => self.page(read?, mark, cursor),
        }
    }

    /// Reads the page at a cursor and finds out where the next one is.
    async fn read_at(
        &self,
        from: ReadFrom<'_>,
        mark: Option<&Mark>,
        cursor: &Cursor,
    ) -> Result<Read, SourceError> {
        let url: url::Url = cursor.next.parse().map_err(|_| SourceError::Expired {
            what: "the place kept in the checkpoint is no address".into(),
        })?;
        let lane = if mark.is_some() {
            Lane::Live
        } else {
            Lane::Load
        };
        let mut call = Self::call(url, lane);
        call.headers
            .insert("prefer", self.preferences(cursor.tracked));
        let answer = match self.client.call(&call).await {
            Err(SourceError::Invalid { what }) if is_expired(&what) => {
                return Err(SourceError::Expired { what });
            }
            answer => answer?,
        };
        let by_link = matches!(mark, Some(Mark::Delta { .. }));
        let tracked = by_link || is_tracked(&answer);
        let body = page::parse(&answer, by_link)?;
        let link = match &body.next {
            Some(link) => Some(self.client.follow(&call.url, link)?),
            None => None,
        };
        let counts = !tracked && link.as_ref().is_some_and(counts_rows);
        let ordered = is_ordered(&call.url);
        let next = match body.records.last() {
            Some(last) if counts && ordered && cursor.paging != Paging::Links => {
                let keyed = self.beyond(from, mark, last).await?;
                keyed.filter(|keyed| *keyed != call.url).or(link)
            }
            _ => link,
        };
        Ok(Read {
            answer,
            body,
            url: call.url,
            next,
            tracked,
            counts,
            ordered,
        })
    }

    fn preferences(&self, tracked: bool) -> HeaderValue {
        let mut preferences = Vec::new();
        if tracked {
            preferences.push("odata.track-changes".to_owned());
        }
        if let Some(size) = self.stream.page_size {
            preferences.push(format!("odata.maxpagesize={size}"));
        }
        HeaderValue::from_str(&preferences.join(",")).unwrap_or(HeaderValue::from_static(""))
    }

    fn page(
        &self,
        read: Read,
        mark: Option<Mark>,
        mut cursor: Cursor,
    ) -> Result<Page, SourceError> {
        let Read {
            answer, body, url, ..
        } = read;
        let by_link = matches!(mark, Some(Mark::Delta { .. }));
        cursor.tracked = read.tracked;
        let asked = self.client.asked(&answer).as_microsecond();
        let started = *cursor.started.get_or_insert(asked);
        if read.counts && cursor.paging == Paging::Open {
            cursor.paging = Paging::Keys;
        }
        let PageBody { records, delta, .. } = body;
        if mark.is_some() && !by_link {
            self.note_newest(&records, &mut cursor);
        }
        let records = self.records(&answer, records, by_link);
        let observed = answer.asked.as_microsecond();
        let next = match read.next {
            Some(target) => {
                let Some(circle) = cursor.circle.step(target.as_str()) else {
                    return Err(SourceError::Invalid {
                        what: format!(
                            "{}: its nextLink leads in a circle, back to a page that was read before: the service never comes to an end; tell those who run it",
                            answer.what
                        ),
                    });
                };
                let cursor = Cursor {
                    next: target.into(),
                    circle,
                    ..cursor
                };
                Next::Page(serde_json::to_string(&cursor).unwrap_or_default())
            }
            None => Next::End(self.end(&url, mark, delta, cursor.newest, started)?),
        };
        Ok(Page {
            records,
            observed,
            next,
        })
    }

    fn records(&self, answer: &Answer, records: Vec<Bytes>, changes: bool) -> Vec<PageRecord> {
        let record = |op, raw| Some(PageRecord { op, raw });
        let read = |raw: Bytes| {
            if !changes {
                return record(Op::Upsert, raw);
            }
            match entry(&raw, &self.stream.key) {
                Ok(Entry::Entity) => record(Op::Upsert, raw),
                Ok(Entry::Deleted(key)) => record(Op::Delete, key),
                Ok(Entry::Link) => None,
                // It becomes a failure that shows the entry, and blocks none of its neighbours.
                Err(why) => {
                    tracing::warn!("{} has an entry that says nothing: {why}", answer.what);
                    record(Op::Delete, raw)
                }
            }
        };
        records.into_iter().filter_map(read).collect()
    }

    /// Where the next read for changes begins.
    fn end(
        &self,
        url: &url::Url,
        mark: Option<Mark>,
        delta: Option<String>,
        newest: Option<String>,
        started: i64,
    ) -> Result<Option<SourceMark>, SourceError> {
        let link = match delta {
            Some(link) => Some(self.client.follow(url, &link)?.to_string()),
            None => None,
        };
        let end = match (mark, link) {
            // A delta read without a new link means that the old one is still good.
            (
                Some(Mark::Cursor {
                    then: Some(link), ..
                }),
                _,
            )
            | (_, Some(link))
            | (Some(Mark::Delta { link }), None) => Mark::Delta { link },
            (Some(Mark::Cursor { at, .. }), None) => Mark::Cursor {
                at: self.bounded(at, newest, started),
                then: None,
            },
            (None, None) => return Ok(None),
        };
        Ok(Some(end.to_source_mark()))
    }

    fn note_newest(&self, records: &[Bytes], cursor: &mut Cursor) {
        let Some((field, kind)) = &self.stream.version else {
            return;
        };
        for raw in records {
            // A record without a readable version is a failure of its own, later.
            let version = json::fields(raw, [field.as_str()])
                .ok()
                .and_then(|found| json::scalar(found[0]?));
            let version = version.map(std::borrow::Cow::into_owned);
            cursor.newest = version::later(cursor.newest.take(), version, *kind);
        }
    }

    /// The later of two versions, but no time after the read began: one record with a version
    /// far in the future would hide all changes until then.
    fn bounded(&self, at: Option<String>, newest: Option<String>, started: i64) -> Option<String> {
        let Some((_, kind)) = &self.stream.version else {
            return at;
        };
        let later = version::later(at.clone(), newest, *kind).or(at)?;
        match Timestamp::from_microsecond(started) {
            Ok(started) if version::is_time(&later, *kind) => {
                Some(version::at_most(&later, started, *kind))
            }
            _ => Some(later),
        }
    }
}

/// Whether a refusal says that a token is too old. The standard has 410 for that; Dataverse
/// answers 400 with a code of its own.
fn is_expired(what: &str) -> bool {
    what.contains("0x80044352") || what.contains("ExpiredVersionStamp")
}
