//! OData 4.0 and 4.01 services as sources.
//!
//! Sources: OASIS "OData Version 4.01 Part 1: Protocol" (server-driven paging §11.2.6.7, delta
//! §11.3) and "OData JSON Format" (deleted entities §15.3). Where services differ from them,
//! the code says which and why.

mod address;
mod cursor;
mod deleted;
mod keys;
mod literal;
mod metadata;
mod page;
mod probe;
mod read;
mod slices;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_http::{Answer, Call, HttpClient};
use definition::{Map, PullMode};
use http::{HeaderMap, StatusCode};
use model::{Lane, SliceRange, SourceMark, VersionKind};
use ports::{LowWater, Page, ReadFrom, Source, SourceError, StreamSchema};
use tokio::sync::OnceCell;

use crate::{
    cursor::Mark,
    metadata::{EdmType, EntityType},
};

/// One entity set, as one map reads it.
#[derive(Debug)]
pub struct OdataSource {
    client: Arc<HttpClient>,
    stream: Stream,
    /// What `$metadata` says of the entity, once it has been read; `None` when it says nothing.
    entity: OnceCell<Option<EntityType>>,
}

/// What a map says of its stream.
#[derive(Debug, Clone)]
struct Stream {
    entity: String,
    key: Vec<String>,
    version: Option<(String, VersionKind)>,
    condition: Option<String>,
    /// Fields to ask for; empty is all.
    select: Vec<String>,
    page_size: Option<u32>,
    overlap: Duration,
    mode: PullMode,
    slice_by: Option<String>,
}

impl OdataSource {
    /// The stream of `map`. `select` are the fields it reads; `None` is all of them.
    #[must_use]
    pub fn new(client: Arc<HttpClient>, map: &Map, select: Option<Vec<&str>>) -> Self {
        let from = &map.from;
        let stream = Stream {
            entity: from.entity.clone(),
            key: from.key.clone(),
            version: from
                .version
                .field
                .clone()
                .map(|field| (field, from.version.kind)),
            condition: from.condition.clone(),
            select: select
                .unwrap_or_default()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            page_size: map.pull.page_size,
            overlap: map.pull.overlap,
            mode: map.pull.mode,
            slice_by: map.load.by.clone(),
        };
        Self {
            client,
            stream,
            entity: OnceCell::new(),
        }
    }

    fn url(&self) -> Result<url::Url, SourceError> {
        self.client.at(&self.stream.entity)
    }

    fn call(url: url::Url, lane: Lane) -> Call<'static> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", http::HeaderValue::from_static("application/json"));
        headers.insert("odata-version", http::HeaderValue::from_static("4.0"));
        headers.insert("odata-maxversion", http::HeaderValue::from_static("4.01"));
        Call {
            headers,
            smaller: "ask for smaller pages with `pull.page_size`",
            ..Call::get(url, lane)
        }
    }

    /// What `$metadata` says of the entity, read once. A service without readable metadata is
    /// used all the same: only types have to be guessed then.
    async fn entity(&self) -> Result<Option<&EntityType>, SourceError> {
        let entity = self
            .entity
            .get_or_try_init(|| async {
                let mut call = Self::call(self.client.at("$metadata")?, Lane::Live);
                call.headers
                    .insert("accept", http::HeaderValue::from_static("application/xml"));
                let answer = self.client.ask(&call).await?;
                let found = self.entity_in(&answer)?;
                if let Err(what) = &found {
                    tracing::warn!("types have to be guessed: {what}");
                }
                Ok::<_, SourceError>(found.ok())
            })
            .await?;
        Ok(entity.as_ref())
    }

    /// The entity in an answer with metadata, or why it is not there. Whoever may not read
    /// metadata may well read rows.
    fn entity_in(&self, answer: &Answer) -> Result<Result<EntityType, String>, SourceError> {
        match answer.trouble(self.client.now()) {
            Some(SourceError::Invalid { what } | SourceError::Expired { what }) => {
                return Ok(Err(what));
            }
            Some(SourceError::Auth { what }) if answer.status == StatusCode::FORBIDDEN => {
                return Ok(Err(what));
            }
            Some(error) => return Err(error),
            None => {}
        }
        let set = &self.stream.entity;
        let what = match metadata::entity(&answer.content(), set) {
            Ok(Some(entity)) => return Ok(Ok(entity)),
            Ok(None) => format!("{} does not know `{set}`", answer.what),
            Err(why) => answer
                .garbled(&format!("is no OData metadata: {why}"))
                .to_string(),
        };
        Ok(Err(what))
    }

    /// The type of a field, as far as it is known.
    async fn field_type(&self, field: &str) -> Result<Option<EdmType>, SourceError> {
        let entity = self.entity().await?;
        Ok(entity
            .and_then(|entity| entity.field(field))
            .map(|field| field.ty))
    }
}

#[async_trait]
impl Source for OdataSource {
    async fn describe(&self) -> Result<StreamSchema, SourceError> {
        let Some(entity) = self.entity().await? else {
            return Ok(StreamSchema::default());
        };
        Ok(entity.schema())
    }

    async fn low_water(&self) -> Result<LowWater, SourceError> {
        let mark = self.newest().await?;
        let rows = self.count().await;
        let mark = mark.map(|mark| mark.to_source_mark());
        Ok(LowWater { mark, rows })
    }

    async fn slices(&self, wanted: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        if wanted < 2 || self.stream.mode == PullMode::Delta {
            return Ok(vec![None]);
        }
        // Only the end of one read of the whole stream has a delta link, and without it no
        // pull would ever hear of a delete: that is worth more than reading in parallel.
        if self.tracks_changes().await? {
            tracing::info!(
                "`{}` is read in one slice: its service tracks changes, which takes a read of the whole; `pull.mode: cursor` does without",
                self.stream.entity
            );
            return Ok(vec![None]);
        }
        self.cut(wanted).await
    }

    async fn read(&self, from: ReadFrom<'_>, cursor: Option<&str>) -> Result<Page, SourceError> {
        self.read_page(from, cursor).await
    }

    async fn fetch(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        self.fetch_keys(keys).await
    }

    fn can_fetch(&self) -> bool {
        true
    }

    /// A delta link is where changes go on. It may have been made after the first rows were
    /// read, so what changed since the low-water mark is read once more before it is used.
    fn after_load(
        &self,
        low_water: Option<SourceMark>,
        ends: Vec<SourceMark>,
    ) -> Option<SourceMark> {
        let low = low_water.as_ref().and_then(Mark::parse);
        let delta = ends
            .iter()
            .filter_map(Mark::parse)
            .find_map(|mark| match mark {
                Mark::Delta { link } => Some(link),
                Mark::Cursor { .. } => None,
            });
        let mark = match (low, delta) {
            (Some(Mark::Cursor { at, .. }), Some(link)) => Mark::Cursor {
                at,
                then: Some(link),
            },
            (_, Some(link)) => Mark::Delta { link },
            (Some(low), None) => low,
            (None, None) => return None,
        };
        Some(mark.to_source_mark())
    }
}
