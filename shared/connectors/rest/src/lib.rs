//! JSON services as sources, described by their paths and their paging.
//!
//! What a service promises of its order is not known, so nothing rests on it. A read for
//! changes asks for everything at or after a version and takes it in any order; the next one
//! begins at the newest version of this one, less the overlap, but not after this one began.
//! Where versions are counters it begins one read earlier: what changes while a read is under
//! way has a higher number than what was there when it began.
//!
//! Pages that are counted shift when a row before them is deleted or moved, and a row that
//! shifts from a page that is yet to come to one that has been read would be missed for good:
//! it has not changed, so no later read for changes brings it. So counted records are read
//! with an overlap, and counted pages with a second look at the page before; when rows have
//! shifted, what lies there is read again. So a row is missed only if more than a page of
//! rows goes away while two are read, or, with counted pages, if as many come as go just
//! then. A map that cannot risk that takes another kind of paging, or `paging: none`. How a
//! service makes its links and cursors is its own matter.
//!
//! A list that is missing, a page that is no JSON, and paging that never ends are errors of
//! the read. A record that is no object, or lacks its key, is sent on and fails alone.

mod fetch;
mod link;
mod page;
mod paging;
mod read;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_http::{Call, HttpClient};
use definition::{Map, RestStream};
use http::HeaderValue;
use model::{Lane, SliceRange, VersionKind};
use ports::{LowWater, Page, ReadFrom, Source, SourceError, StreamSchema};

use crate::fetch::ItemPath;

/// One collection, as one map reads it.
#[derive(Debug)]
pub struct RestSource {
    client: Arc<HttpClient>,
    /// Its name, for people.
    name: String,
    rest: RestStream,
    key: Vec<String>,
    version: Option<(String, VersionKind)>,
    overlap: Duration,
    item: Option<ItemPath>,
}

impl RestSource {
    /// The stream of `map`. Returns what is wrong with it, if it cannot be read.
    pub fn new(client: Arc<HttpClient>, map: &Map) -> Result<Self, String> {
        let from = &map.from;
        let absent = || format!("map `{}` does not say how to read its stream", map.name);
        let rest = from.rest.clone().ok_or_else(absent)?;
        let item = match &rest.item {
            Some(text) => Some(ItemPath::parse(text)?),
            None => None,
        };
        let kind = from.version.kind;
        Ok(Self {
            client,
            name: format!("{}.{}", from.connection, from.entity),
            key: from.key.clone(),
            version: from.version.field.clone().map(|field| (field, kind)),
            overlap: map.pull.overlap,
            item,
            rest,
        })
    }

    fn call(url: url::Url, lane: Lane) -> Call<'static> {
        let mut call = Call {
            smaller: "ask for smaller pages with the `size` of `rest.paging`, or with a parameter in `rest.query`",
            ..Call::get(url, lane)
        };
        let json = HeaderValue::from_static("application/json");
        call.headers.insert("accept", json);
        call
    }

    /// The field and parameter by which changes are asked for, where there are both.
    fn since(&self) -> Option<(&str, &str, VersionKind)> {
        let (field, kind) = self.version.as_ref()?;
        Some((self.rest.since.as_deref()?, field, *kind))
    }
}

#[async_trait]
impl Source for RestSource {
    /// A service says nothing of its fields. Its first page is read to find out whether it is
    /// as the map says.
    async fn describe(&self) -> Result<StreamSchema, SourceError> {
        self.first_page(Lane::Live).await?;
        Ok(StreamSchema::default())
    }

    async fn low_water(&self) -> Result<LowWater, SourceError> {
        let mark = self.mark_of_now().await?;
        Ok(LowWater { mark, rows: None })
    }

    /// It cannot be cut: a service that could filter by ranges would need a language for it.
    async fn slices(&self, _wanted: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        Ok(vec![None])
    }

    async fn read(&self, from: ReadFrom<'_>, cursor: Option<&str>) -> Result<Page, SourceError> {
        self.read_page(from, cursor).await
    }

    async fn fetch(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        self.fetch_keys(keys).await
    }

    fn can_fetch(&self) -> bool {
        self.item.is_some()
    }
}
