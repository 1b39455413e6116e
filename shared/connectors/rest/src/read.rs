//! Reading pages and changes.

use bytes::Bytes;
use connector_http::{Answer, Circle, url::add_query, version};
use definition::Paging;
use http::StatusCode;
use jiff::Timestamp;
use mapping::json;
use model::{Lane, Op, SourceMark};
use ports::{Next, Page, PageRecord, ReadFrom, SourceError};
use serde::{Deserialize, Serialize};

use crate::{
    RestSource, link, page,
    paging::{Place, Turn},
};

/// Where the next read for changes begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// A version, as it stands in the records, before the overlap is taken off; `None` is
    /// the beginning.
    at: Option<String>,
    /// The newest version read so far.
    newest: Option<String>,
}

impl Mark {
    fn to_source_mark(&self) -> SourceMark {
        SourceMark(serde_json::to_string(self).unwrap_or_default())
    }
}

/// A read under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    place: Place,
    /// When its first page was asked for, on the service's clock, in microseconds of Unix time.
    started: Option<i64>,
    /// The newest version it has seen.
    newest: Option<String>,
    /// Finds paging that goes round in a circle.
    circle: Circle,
}

impl RestSource {
    pub(crate) async fn read_page(
        &self,
        from: ReadFrom<'_>,
        cursor: Option<&str>,
    ) -> Result<Page, SourceError> {
        let expired = |_| SourceError::Expired {
            what: "the place kept in the checkpoint cannot be read by this version".into(),
        };
        let mark: Option<Mark> = match from {
            ReadFrom::Rows(_) => None,
            ReadFrom::Mark(mark) => Some(serde_json::from_str(&mark.0).map_err(expired)?),
        };
        let lane = if mark.is_some() {
            Lane::Live
        } else {
            Lane::Load
        };
        let cursor = match cursor {
            Some(text) => serde_json::from_str(text).map_err(expired)?,
            None => Cursor {
                place: Place::start(&self.rest.paging),
                started: None,
                newest: None,
                circle: Circle::default(),
            },
        };
        let url = self.address(mark.as_ref(), &cursor.place)?;
        let answer = self.client.ask(&Self::call(url.clone(), lane)).await?;
        self.page(&answer, &url, mark.as_ref(), cursor)
    }

    /// The first page of all records.
    pub(crate) async fn first_page(&self, lane: Lane) -> Result<(Answer, Vec<Bytes>), SourceError> {
        let url = self.address(None, &Place::start(&self.rest.paging))?;
        let answer = self.client.call(&Self::call(url, lane)).await?;
        let records = page::records(&answer, &self.rest.records)?;
        Ok((answer, records))
    }

    fn address(&self, mark: Option<&Mark>, place: &Place) -> Result<url::Url, SourceError> {
        let expired = |what: &str| SourceError::Expired {
            what: format!("the place kept in the checkpoint {what}"),
        };
        if let Place::Link(link) = place {
            return link.parse().map_err(|_| expired("is no address"));
        }
        let mut query: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.rest.query {
            query.push((name, value.clone()));
        }
        if let Some((parameter, _, kind)) = self.since()
            && let Some(at) = mark.and_then(|mark| mark.at.as_deref())
        {
            query.push((parameter, version::less(at, self.overlap, kind)));
        }
        let (param, value, sizes) = match (&self.rest.paging, place) {
            (Paging::Cursor { param, .. }, Place::Token(token)) => {
                (Some(param), token.clone(), None)
            }
            (
                Paging::Page {
                    param,
                    size_param,
                    size,
                    ..
                },
                Place::Page(now),
            ) => (
                Some(param),
                now.number.to_string(),
                size_param.as_ref().zip(Some(size)),
            ),
            (
                Paging::Offset {
                    param,
                    size_param,
                    size,
                },
                Place::Offset(now),
            ) => (
                Some(param),
                now.skip.to_string(),
                size_param.as_ref().zip(Some(size)),
            ),
            (_, Place::Start) => (None, String::new(), None),
            _ => return Err(expired("belongs to another kind of paging")),
        };
        query.extend(param.map(|name| (name.as_str(), value)));
        query.extend(sizes.map(|(name, size)| (name.as_str(), size.to_string())));
        let mut url = self.client.at(&self.rest.path)?;
        let query = query.iter().map(|(name, value)| (*name, value.as_str()));
        add_query(&mut url, &query.collect::<Vec<_>>());
        Ok(url)
    }

    fn page(
        &self,
        answer: &Answer,
        url: &url::Url,
        mark: Option<&Mark>,
        cursor: Cursor,
    ) -> Result<Page, SourceError> {
        let mut records = self.records(answer, &cursor.place)?;
        let started = cursor.started;
        let started = started.unwrap_or_else(|| self.client.asked(answer).as_microsecond());
        let newest = self.newest(&records, cursor.newest);
        let (place, circle) = self.next(answer, url, cursor.place, cursor.circle, &mut records)?;
        let next = match place {
            Some(place) => {
                let cursor = Cursor {
                    place,
                    started: Some(started),
                    newest,
                    circle,
                };
                Next::Page(serde_json::to_string(&cursor).unwrap_or_default())
            }
            None => Next::End(self.end(mark, newest, started)),
        };
        let upsert = |raw| PageRecord {
            op: Op::Upsert,
            raw,
        };
        Ok(Page {
            records: records.into_iter().map(upsert).collect(),
            observed: answer.asked.as_microsecond(),
            next,
        })
    }

    /// The records of an answer. A counted page that does not exist has none, if it can be
    /// the end.
    fn records(&self, answer: &Answer, place: &Place) -> Result<Vec<Bytes>, SourceError> {
        let missing = matches!(
            answer.status,
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
        );
        let refused = missing
            || matches!(
                answer.status,
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
            );
        if refused && place.may_end(missing) {
            return Ok(Vec::new());
        }
        match answer.trouble(self.client.now()) {
            Some(error) => Err(error),
            None => page::records(answer, &self.rest.records),
        }
    }

    /// Where the next page is, if there is one. Takes records out that need not be sent.
    fn next(
        &self,
        answer: &Answer,
        url: &url::Url,
        place: Place,
        circle: Circle,
        records: &mut Vec<Bytes>,
    ) -> Result<(Option<Place>, Circle), SourceError> {
        let circles = |what: &str| SourceError::Invalid {
            what: format!("{}: {what}: reading it would never end", answer.what),
        };
        let link = match &self.rest.paging {
            Paging::None => None,
            Paging::NextLink { at } => page::token(answer, at)?,
            Paging::LinkHeader => link_header(answer)?,
            Paging::Cursor { at, param } => {
                let Some(token) = page::token(answer, at)? else {
                    return Ok((None, circle));
                };
                let circle = circle.step(&token).ok_or_else(|| {
                    circles(&format!("its cursor for `{param}` comes round again"))
                })?;
                return Ok((Some(Place::Token(token)), circle));
            }
            Paging::Page { param, size, .. } | Paging::Offset { param, size, .. } => {
                return match place.turn(records, *size as usize) {
                    Turn::End => Ok((None, circle)),
                    Turn::On(next) => Ok((Some(next), circle)),
                    Turn::Stuck => Err(circles(&format!(
                        "it gives the same page again: does the service know the parameter `{param}`? If it gives everything at once, say `paging: none`"
                    ))),
                };
            }
        };
        let Some(link) = link else {
            return Ok((None, circle));
        };
        let target = self.client.follow(url, &link)?;
        let circle = circle.step(target.as_str()).ok_or_else(|| {
            circles(&format!(
                "its link to the next page leads back to {}",
                self.client.shown(&target)
            ))
        })?;
        Ok((Some(Place::Link(target.into())), circle))
    }

    /// The newest of the versions seen so far. A record without a readable one is a failure
    /// of its own, later.
    fn newest(&self, records: &[Bytes], mut newest: Option<String>) -> Option<String> {
        let (_, field, kind) = self.since()?;
        for raw in records {
            let found = json::fields(raw, [field]);
            let version = found.ok().and_then(|found| json::scalar(found[0]?));
            newest = version::later(newest, version.map(std::borrow::Cow::into_owned), kind);
        }
        newest
    }

    /// Where the next read for changes begins.
    fn end(&self, mark: Option<&Mark>, newest: Option<String>, started: i64) -> Option<SourceMark> {
        let (_, _, kind) = self.since()?;
        let before = mark.cloned().unwrap_or_default();
        let known = before.newest.clone().or_else(|| before.at.clone());
        let newest = version::later(known.clone(), newest, kind);
        let at = match &newest {
            Some(text) if version::is_time(text, kind) => {
                let started = Timestamp::from_microsecond(started).unwrap_or(Timestamp::MAX);
                Some(version::at_most(text, started, kind))
            }
            // All that changed since this read began has a higher number than what had been
            // read before.
            _ => known,
        };
        let at = version::later(before.at, at, kind);
        Some(Mark { at, newest }.to_source_mark())
    }

    /// A place from which no change is missed that is made from now on: the time at the
    /// service, or where versions are counters, any number there is.
    pub(crate) async fn mark_of_now(&self) -> Result<Option<SourceMark>, SourceError> {
        let Some((_, _, kind)) = self.since() else {
            return Ok(None);
        };
        let (answer, records) = self.first_page(Lane::Load).await?;
        let newest = self.newest(&records, None);
        let form = newest.as_deref().or_else(|| version::usual(kind));
        let at = match form {
            Some(form) if version::is_time(form, kind) => {
                version::express(self.client.asked(&answer).as_microsecond(), form, kind)
            }
            _ => newest,
        };
        let mark = |at: String| {
            let at = Some(at);
            Mark {
                newest: at.clone(),
                at,
            }
            .to_source_mark()
        };
        Ok(at.map(mark))
    }
}

fn link_header(answer: &Answer) -> Result<Option<String>, SourceError> {
    let headers = answer.headers.get_all(http::header::LINK);
    let mut texts = Vec::new();
    for header in headers {
        let text = std::str::from_utf8(header.as_bytes());
        texts.push(text.map_err(|_| answer.garbled("has a `Link` header that is no text"))?);
    }
    link::next(texts.into_iter())
        .map_err(|why| answer.garbled(&format!("has a `Link` header that {why}")))
}
