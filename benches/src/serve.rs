//! The source: an OData v4 service of pages made beforehand, so that it costs next to nothing.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::data::{Customer, all, changes};

/// Rows per page.
const PAGE: usize = 5_000;

#[derive(Debug)]
struct Pages {
    rows: Vec<Bytes>,
    changes: Vec<Bytes>,
    count: usize,
    /// Whether the changes have happened.
    changed: AtomicBool,
}

fn pages(customers: impl Iterator<Item = Customer>, base: &str, set: &str) -> Vec<Bytes> {
    let mut customers = customers.peekable();
    let mut pages = Vec::new();
    while customers.peek().is_some() {
        let mut text = format!(r#"{{"@odata.context":"{base}/$metadata#Customers","value":["#);
        for (at, customer) in customers.by_ref().take(PAGE).enumerate() {
            if at > 0 {
                text.push(',');
            }
            customer.write_json(&mut text);
        }
        text.push(']');
        if customers.peek().is_some() {
            let next = pages.len() + 1;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                r#","@odata.nextLink":"{base}/{set}?$skiptoken=page-{next}""#
            );
        }
        text.push('}');
        pages.push(Bytes::from(text));
    }
    pages
}

/// Serves customers until it is killed. Says its address on standard output.
pub(crate) async fn serve(rows: usize) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/odata", listener.local_addr()?);
    let pages = Arc::new(Pages {
        rows: pages(all(rows), &base, "Customers"),
        changes: pages(changes(rows).into_iter(), &base, "Changes"),
        count: rows,
        changed: AtomicBool::new(false),
    });
    let router = Router::new()
        .route("/odata/$metadata", get(async || metadata()))
        .route("/odata/Customers", get(customers))
        .route("/odata/Changes", get(later_changes))
        .route("/odata/Customers/$count", get(count))
        .route("/changed/{yes}", get(change))
        .with_state(pages);
    crate::table::say(&base);
    axum::serve(listener, router).await
}

fn metadata() -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], METADATA).into_response()
}

async fn count(State(pages): State<Arc<Pages>>) -> Response {
    pages.count.to_string().into_response()
}

fn page(pages: &[Bytes], query: Option<&str>) -> Response {
    let at: usize = query
        .and_then(|query| query.split("skiptoken=page-").nth(1))
        .and_then(|token| token.split('&').next()?.parse().ok())
        .unwrap_or(0);
    match pages.get(at) {
        Some(page) => ([(header::CONTENT_TYPE, "application/json")], page.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn customers(State(pages): State<Arc<Pages>>, RawQuery(query): RawQuery) -> Response {
    let query = query.as_deref();
    // A condition on the time of change means: what changed. Its next link leads elsewhere,
    // which is legal: a link is opaque. Of all other conditions this service knows nothing.
    match query.filter(|query| query.contains("filter=")) {
        Some(filter) if !filter.contains("modifiedAt") => StatusCode::BAD_REQUEST.into_response(),
        Some(_) if pages.changed.load(Ordering::Relaxed) => page(&pages.changes, query),
        Some(_) => page(&[Bytes::from_static(br#"{"value":[]}"#)], None),
        None => page(&pages.rows, query),
    }
}

/// Lets the changes happen, or be yet to come.
async fn change(State(pages): State<Arc<Pages>>, Path(yes): Path<bool>) {
    pages.changed.store(yes, Ordering::Relaxed);
}

async fn later_changes(State(pages): State<Arc<Pages>>, RawQuery(query): RawQuery) -> Response {
    page(&pages.changes, query.as_deref())
}

const METADATA: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
 <Schema Namespace="Bench" xmlns="http://docs.oasis-open.org/odata/ns/edm">
  <EntityType Name="Customer"><Key><PropertyRef Name="id"/></Key>
   <Property Name="id" Type="Edm.Guid" Nullable="false"/>
   <Property Name="accountNumber" Type="Edm.String"/>
   <Property Name="name" Type="Edm.String"/>
   <Property Name="email" Type="Edm.String"/>
   <Property Name="creditLimit" Type="Edm.Decimal" Precision="18" Scale="2"/>
   <Property Name="country" Type="Edm.String"/>
   <Property Name="modifiedAt" Type="Edm.DateTimeOffset"/>
   <Property Name="dataAreaId" Type="Edm.String"/>
  </EntityType>
  <EntityContainer Name="C"><EntitySet Name="Customers" EntityType="Bench.Customer"/></EntityContainer>
 </Schema></edmx:DataServices></edmx:Edmx>"#;
