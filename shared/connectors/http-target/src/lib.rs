//! HTTP endpoints as targets.
//!
//! An endpoint cannot compare versions, so the guard stands in the link table: a row is
//! claimed, the endpoint is called, and then the link says what the endpoint has. Most rows
//! are claimed without a look at their links before, and what was done is written down for
//! a whole round of calls, which are begun within two seconds. While a
//! claim lasts, nobody else writes the row; it lasts longer than a call can take, so an older
//! version is never on its way while a newer one is sent. A worker that dies leaves a claim
//! that ends by itself. Then the same change, which comes again because nobody has
//! acknowledged it, is sent again: endpoints should take a repeated request for one. Where
//! they tell requests apart by `Idempotency-Key`, such a repetition has the key of the first.
//!
//! A row that somebody else is writing is waited for a moment; then it is a failure that is
//! tried again when the claim has ended. Its neighbours are not held up, and the endpoint,
//! which works, is not taken for one that is down.
//!
//! What an endpoint has is known from the links alone: a row whose content is what was last
//! sent is not sent again, what Syncline has never written it does not delete, and what
//! others change there is not noticed. Columns that a record says nothing of are left out of
//! its request; whether they stay as they are is for the endpoint and the method to say.
//!
//! The module `verdict` says what each answer means.

mod claims;
mod pace;
mod send;
mod state;
mod verdict;
mod write;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_http::{Call, HttpClient};
use definition::{Connection, Map};
use http::Method;
use mapping::{RequestKind, Requests, key_cells, key_text};
use model::{DataType, Lane, LoadMode, MapName, Rows, Value};
use ports::{
    Links, LoadEnd, RowOutcome, StoreError, Sweep, TableSchema, TableSpec, Target, TargetError,
    TargetRow, WriteBatch,
};
use sha2::{Digest, Sha256};

use crate::pace::Pace;

/// The endpoint of one map.
pub struct HttpTarget {
    map: MapName,
    client: Arc<HttpClient>,
    links: Arc<dyn Links>,
    requests: Requests,
    /// Digest of the template of upserts: rows are sent again when it changes.
    template: [u8; 32],
    concurrency: usize,
    /// How long one call may take in all, and how long a claim lasts.
    limit: Duration,
    lease: Duration,
    pace: Pace,
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget")
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

/// How much longer than a call a claim lasts: for writing the link, and for clocks that
/// differ.
const MARGIN: Duration = Duration::from_secs(20);
/// Links per step of a sweep.
const LINKS_AT_ONCE: usize = 1_000;

impl HttpTarget {
    /// The endpoint that `map` writes to over `client`, the client of `connection`. Returns
    /// what is wrong with the map's requests, if they cannot be made.
    pub fn new(
        map: &Map,
        connection: &Connection,
        client: Arc<HttpClient>,
        links: Arc<dyn Links>,
    ) -> Result<Self, String> {
        let absent = || format!("map `{}` does not say which requests to make", map.name);
        let http = map.to.http.as_ref().ok_or_else(absent)?;
        let text = DataType::Text { max: None };
        let types: Vec<DataType> = map
            .fields
            .iter()
            .map(|field| field.ty.unwrap_or(text))
            .collect();
        let (requests, problems) = Requests::compile(map, http, &types);
        let Some(requests) = requests else {
            let said = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.at, problem.message));
            return Err(said.collect::<Vec<_>>().join("; "));
        };
        let template = serde_json::to_string(&http.upsert).unwrap_or_default();
        // A call can mean two, with a new token for each.
        let limit = connection.limits.timeout * 2 + MARGIN / 2;
        Ok(Self {
            map: map.name.clone(),
            client,
            links,
            requests,
            template: Sha256::digest(template.as_bytes()).into(),
            concurrency: connection.limits.concurrency as usize,
            limit,
            lease: limit + MARGIN,
            pace: Pace::default(),
        })
    }

    /// Digest of what the endpoint has after an upsert of this row.
    fn digest(&self, row: &[Value<'_>]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.template);
        hash.update(self.requests.row_json(row).as_bytes());
        hex::encode(&hash.finalize()[..16])
    }

    fn store_error(&self, error: &StoreError) -> TargetError {
        TargetError::Unavailable {
            what: format!("the links of map `{}`: {error}", self.map),
            retry_after: None,
        }
    }
}

fn keys(table: &TableSpec, rows: &Rows<'_>) -> Vec<String> {
    rows.iter()
        .map(|row| key_text(table.key_cells(row)))
        .collect()
}

#[async_trait]
impl Target for HttpTarget {
    /// An endpoint says nothing of itself; only the credentials are looked for.
    async fn describe(&self, _table: &str) -> Result<Option<TableSchema>, TargetError> {
        self.client
            .authorize()
            .await
            .map_err(verdict::target_error)?;
        Ok(None)
    }

    async fn prepare(&self, _table: &TableSpec) -> Result<(), TargetError> {
        Ok(())
    }

    async fn begin_load(
        &self,
        _table: &TableSpec,
        _generation: u32,
    ) -> Result<LoadMode, TargetError> {
        Ok(LoadMode::Guarded)
    }

    async fn end_bulk(&self, _table: &TableSpec, _generation: u32) -> Result<LoadEnd, TargetError> {
        Ok(LoadEnd::default())
    }

    /// Of the rows that Syncline has written: others are not known. Their order is that of
    /// the bytes of their keys' text.
    async fn missing(
        &self,
        table: &TableSpec,
        generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        let columns = table.key.iter().filter_map(|at| table.columns.get(*at));
        let types: Vec<DataType> = columns.map(|column| column.ty).collect();
        let after = after.map(key_text);
        let mut sweep = Sweep::default();
        let mut last: Option<String> = None;
        loop {
            let page = self
                .links
                .list(&self.map, last.as_deref(), LINKS_AT_ONCE)
                .await
                .map_err(|error| self.store_error(&error))?;
            for (key, stored) in page
                .iter()
                .filter(|(_, stored)| state::exists(&stored.value))
            {
                sweep.rows += 1;
                if stored.value.found >= Some(generation) {
                    continue;
                }
                sweep.missing += 1;
                if sweep.keys.len() < limit && after.as_ref().is_none_or(|after| key > after) {
                    sweep.keys.extend(key_cells(key, &types));
                }
            }
            if page.len() < LINKS_AT_ONCE {
                return Ok(sweep);
            }
            last = page.into_iter().next_back().map(|(key, _)| key);
        }
    }

    fn rows_at_once(&self) -> usize {
        self.pace.rows(self.concurrency)
    }

    /// What a load has found stays noted under its number, which no other load has.
    async fn end_load(&self, _table: &TableSpec, _generation: u32) -> Result<(), TargetError> {
        Ok(())
    }

    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.write_rows(table, batch).await
    }

    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        let links = self.links.get(&self.map, &self::keys(table, keys)).await;
        let links = links.map_err(|error| self.store_error(&error))?;
        let look = |link: Option<&ports::Link>| TargetRow {
            seen: state::seen(link),
            version: link.and_then(|link| link.applied),
            exists: link.is_some_and(state::exists),
        };
        Ok(links
            .iter()
            .map(|stored| look(stored.as_ref().map(|stored| &stored.value)))
            .collect())
    }

    /// Reads from the address that rows are put at, if each has one of its own and can be
    /// read there.
    async fn show(
        &self,
        _table: &TableSpec,
        key: &Rows<'_>,
    ) -> Result<Option<String>, TargetError> {
        let shape = self.requests.shape(RequestKind::Upsert);
        let alone = shape.is_some_and(|shape| shape.at_once == 1 && shape.method != "POST");
        let rendered = self.requests.render(RequestKind::Upsert, &[key.row(0)]);
        let (true, Ok(rendered)) = (alone, rendered) else {
            return Ok(None);
        };
        let Ok(url) = self.client.at(&rendered.path) else {
            return Ok(None);
        };
        let call = Call {
            method: Method::GET,
            what: "reading a single row",
            ..Call::get(url, Lane::Live)
        };
        let turn = self.client.turn(call.lane, call.what).await;
        let turn = turn.map_err(verdict::target_error)?;
        let answer = self.client.exchange(&call, turn).await;
        let answer = answer.map_err(|error| verdict::target_error(error.into()))?;
        let body = answer.status.is_success().then_some(answer.body);
        let json = body.and_then(|body| {
            serde_json::from_slice::<Box<serde_json::value::RawValue>>(&body).ok()
        });
        Ok(json.map(|json| json.get().to_owned()))
    }
}
