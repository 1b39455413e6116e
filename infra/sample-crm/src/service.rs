//! The OData service.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use odata_params::filters::Expr;
use serde_json::{Map, Value, json};

use crate::{Fault, Inner, Set, filter, store::Store};

type Params = HashMap<String, String>;

/// Rows per page when the client does not say.
const PAGE: usize = 2_000;

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route(
            "/odata/$metadata",
            get(async || ([(header::CONTENT_TYPE, "application/xml")], METADATA)),
        )
        .route("/odata/{set}", get(collection))
        .route("/odata/{set}/$count", get(count))
        .with_state(inner)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message } }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn find_set(name: &str) -> Option<Set> {
    Set::ALL.into_iter().find(|set| set.name() == name)
}

async fn count(State(inner): State<Arc<Inner>>, Path(name): Path<String>) -> Response {
    let Some(set) = find_set(&name) else {
        return error(StatusCode::NOT_FOUND, "NotFound", "no such entity set");
    };
    inner.store().live(set).count().to_string().into_response()
}

async fn collection(
    State(inner): State<Arc<Inner>>,
    Path(name): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let Some(set) = find_set(&name) else {
        return error(StatusCode::NOT_FOUND, "NotFound", "no such entity set");
    };
    let prefer = headers
        .get("prefer")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let fault = if inner.lets_in(authorization) {
        inner.faults.next(set)
    } else {
        Some(Fault::Unauthorized)
    };
    if let Some(response) = fault.and_then(broken) {
        return response;
    }
    let page = if let Some(token) = params.get("$deltatoken") {
        delta(&inner, set, token, page_size(prefer))
    } else {
        rows(&inner, set, &params, prefer)
    };
    match page {
        Ok((page, tracked)) => respond(page, tracked, fault),
        Err(response) => *response,
    }
}

/// Answers that are broken whatever was asked.
fn broken(fault: Fault) -> Option<Response> {
    let later = |seconds: u64| [(header::RETRY_AFTER, seconds.to_string())];
    Some(match fault {
        Fault::ServerError => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "something went wrong",
        ),
        Fault::Busy(seconds) => {
            (StatusCode::SERVICE_UNAVAILABLE, later(seconds), "busy").into_response()
        }
        Fault::Throttled(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, later(seconds), "slow down").into_response()
        }
        Fault::Unauthorized => error(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "the token is not valid",
        ),
        Fault::Html => {
            let page = "<!DOCTYPE html><html><body>Please sign in</body></html>";
            ([(header::CONTENT_TYPE, "text/html")], page).into_response()
        }
        Fault::Gone => error(StatusCode::GONE, "ExpiredSkipToken", "the token is too old"),
        Fault::Redirect(port) => {
            let elsewhere = format!("http://localhost:{port}/odata/Accounts");
            (StatusCode::FOUND, [(header::LOCATION, elsewhere)]).into_response()
        }
        Fault::ErrorInBody => error(StatusCode::OK, "Timeout", "the query took too long"),
        _ => return None,
    })
}

fn respond(mut page: Value, tracked: bool, fault: Option<Fault>) -> Response {
    match fault {
        Some(Fault::ForeignLink(port)) => {
            let elsewhere = format!("http://localhost:{port}/odata/Accounts?$skiptoken=secret");
            page["@odata.nextLink"] = json!(elsewhere);
        }
        Some(Fault::Loop) => page["@odata.nextLink"] = json!("Accounts?$skiptoken=0"),
        Some(Fault::NoKeys) => each(&mut page, |row| {
            for set in Set::ALL {
                row.remove(set.key());
            }
        }),
        Some(Fault::NewSchema) => each(&mut page, |row| {
            if let Some(name) = row.remove("Name") {
                row.insert("Title".into(), name);
            }
        }),
        _ => {}
    }
    let mut body = page.to_string();
    if fault == Some(Fault::Truncated) {
        body.truncate(body.floor_char_boundary(body.len() * 2 / 3));
    }
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json;odata.metadata=minimal"),
    );
    headers.insert("odata-version", header::HeaderValue::from_static("4.0"));
    if tracked {
        headers.insert(
            "preference-applied",
            header::HeaderValue::from_static("odata.track-changes"),
        );
    }
    response
}

fn each(page: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    let rows = page["value"].as_array_mut().into_iter().flatten();
    rows.filter_map(Value::as_object_mut).for_each(&mut change);
}

type Page = Result<(Value, bool), Box<Response>>;

/// Rows per page that a client asks for.
fn page_size(prefer: &str) -> usize {
    let asked = prefer
        .split("maxpagesize=")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok());
    asked.unwrap_or(PAGE).clamp(1, 5_000)
}

fn delta(inner: &Inner, set: Set, token: &str, size: usize) -> Page {
    let store = inner.store();
    let gone = || {
        Box::new(error(
            StatusCode::GONE,
            "ExpiredDeltaLink",
            "the delta link is too old",
        ))
    };
    let token: u64 = token.parse().map_err(|_| gone())?;
    let (changes, next) = store.changes(set, token, size).ok_or_else(gone)?;
    let link = |token: u64| format!("{}?$deltatoken={token}", set.name());
    let page = match next {
        Some(next) => json!({ "value": changes, "@odata.nextLink": link(next) }),
        None => json!({ "value": changes, "@odata.deltaLink": link(store.delta_token()) }),
    };
    Ok((page, true))
}

fn rows(inner: &Inner, set: Set, params: &Params, prefer: &str) -> Page {
    let bad = |message: &str| Box::new(error(StatusCode::BAD_REQUEST, "BadRequest", message));
    let store = inner.store();
    let tracked = prefer.contains("track-changes");
    if tracked && (params.contains_key("$filter") || params.contains_key("$orderby")) {
        return Err(bad(
            "The \"$filter\" query parameter isn't supported when Change Tracking is enabled.",
        ));
    }
    let size = page_size(prefer);
    // A token of the first page goes along, so that the delta link covers the whole read.
    let (skip, token) = match params
        .get("$skiptoken")
        .and_then(|token| token.split_once('_'))
    {
        Some((skip, token)) => (
            skip.parse().map_err(|_| bad("bad $skiptoken"))?,
            token.parse().ok(),
        ),
        None => (0, None),
    };
    let token: u64 = token.unwrap_or_else(|| store.delta_token());
    let condition = match params.get("$filter") {
        Some(text) => {
            let parsed = odata_params::filters::parse_str(text);
            Some(parsed.map_err(|error| bad(&format!("$filter: {error}: {text}")))?)
        }
        None => None,
    };
    let found = found(&store, set, params, condition.as_ref(), skip, size)
        .ok_or_else(|| bad("$filter: not supported"))?;
    let select: Option<Vec<&str>> = params
        .get("$select")
        .map(|select| select.split(',').collect());
    let shown: Vec<Value> = found
        .rows
        .iter()
        .map(|row| project(row, select.as_deref()))
        .collect();
    let mut page = json!({ "value": shown });
    if let Some(next) = found.next {
        page["@odata.nextLink"] = json!(next_link(set, params, next, token));
    } else if tracked {
        page["@odata.deltaLink"] = json!(format!("{}?$deltatoken={token}", set.name()));
    }
    Ok((page, tracked))
}

/// The rows of a page, and where the next one begins.
struct Found<'s> {
    rows: Vec<&'s Map<String, Value>>,
    next: Option<usize>,
}

/// What a request is about, from a place on; `None` when its condition is not supported.
///
/// Rows that come in no order of the client's are counted with those that are deleted: so none is
/// passed over when others go between two pages.
fn found<'s>(
    store: &'s Store,
    set: Set,
    params: &Params,
    condition: Option<&Expr>,
    from: usize,
    size: usize,
) -> Option<Found<'s>> {
    let holds = |row| condition.map_or(Some(true), |condition| filter::holds(condition, row));
    let ordered = ["$orderby", "$top"]
        .iter()
        .any(|name| params.contains_key(*name));
    let mut rows = Vec::new();
    for (place, row) in store
        .live(set)
        .skip_while(|(place, _)| !ordered && *place < from)
    {
        if !holds(row)? {
            continue;
        }
        if !ordered && rows.len() == size {
            let next = Some(place);
            return Some(Found { rows, next });
        }
        rows.push(row);
    }
    if !ordered {
        return Some(Found { rows, next: None });
    }
    if let Some(order) = params.get("$orderby") {
        filter::sort(&mut rows, order);
    }
    let top = params.get("$top").and_then(|top| top.parse().ok());
    rows.truncate(top.unwrap_or(usize::MAX));
    let next = Some(from + size).filter(|next| *next < rows.len());
    let rows = rows.into_iter().skip(from).take(size).collect();
    Some(Found { rows, next })
}

/// Links are relative, as SAP CAP gives them.
fn next_link(set: Set, params: &Params, skip: usize, token: u64) -> String {
    // Writing to a string cannot fail.
    use std::fmt::Write as _;
    let mut link = format!("{}?$skiptoken={skip}_{token}", set.name());
    for name in ["$select", "$filter", "$orderby", "$top"] {
        if let Some(value) = params.get(name) {
            let value = value
                .replace('%', "%25")
                .replace('&', "%26")
                .replace('+', "%2B")
                .replace(' ', "%20");
            let _ = write!(link, "&{name}={value}");
        }
    }
    link
}

fn project(row: &Map<String, Value>, select: Option<&[&str]>) -> Value {
    let wanted = |name: &String| select.is_none_or(|select| select.contains(&name.as_str()));
    Value::Object(
        row.iter()
            .filter(|(name, _)| wanted(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect(),
    )
}

const METADATA: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
 <edmx:DataServices>
  <Schema Namespace="Crm" xmlns="http://docs.oasis-open.org/odata/ns/edm">
   <ComplexType Name="Address">
    <Property Name="City" Type="Edm.String"/>
    <Property Name="PostalCode" Type="Edm.String"/>
   </ComplexType>
   <EntityType Name="Account">
    <Key><PropertyRef Name="AccountId"/></Key>
    <Property Name="AccountId" Type="Edm.Guid" Nullable="false"/>
    <Property Name="AccountNumber" Type="Edm.String"/>
    <Property Name="Name" Type="Edm.String"/>
    <Property Name="ParentAccountId" Type="Edm.Guid"/>
    <Property Name="Country" Type="Edm.String"/>
    <Property Name="CreditLimit" Type="Edm.Decimal" Precision="15" Scale="2"/>
    <Property Name="Address" Type="Crm.Address"/>
    <Property Name="CreatedAt" Type="Edm.DateTimeOffset"/>
    <Property Name="ModifiedAt" Type="Edm.DateTimeOffset"/>
   </EntityType>
   <EntityType Name="Contact">
    <Key><PropertyRef Name="ContactId"/></Key>
    <Property Name="ContactId" Type="Edm.Guid" Nullable="false"/>
    <Property Name="AccountId" Type="Edm.Guid"/>
    <Property Name="FirstName" Type="Edm.String"/>
    <Property Name="LastName" Type="Edm.String"/>
    <Property Name="Email" Type="Edm.String"/>
    <Property Name="Phone" Type="Edm.String"/>
    <Property Name="Birthday" Type="Edm.Date"/>
    <Property Name="CreatedAt" Type="Edm.DateTimeOffset"/>
    <Property Name="ModifiedAt" Type="Edm.DateTimeOffset"/>
   </EntityType>
   <EntityType Name="Order">
    <Key><PropertyRef Name="OrderNo"/></Key>
    <Property Name="OrderNo" Type="Edm.Int64" Nullable="false"/>
    <Property Name="AccountId" Type="Edm.Guid"/>
    <Property Name="ContactId" Type="Edm.Guid"/>
    <Property Name="OrderDate" Type="Edm.Date"/>
    <Property Name="Currency" Type="Edm.String"/>
    <Property Name="Total" Type="Edm.Decimal" Scale="variable"/>
    <Property Name="Status" Type="Edm.String"/>
    <Property Name="CreatedAt" Type="Edm.DateTimeOffset"/>
    <Property Name="ModifiedAt" Type="Edm.DateTimeOffset"/>
   </EntityType>
   <EntityContainer Name="Container">
    <EntitySet Name="Accounts" EntityType="Crm.Account"/>
    <EntitySet Name="Contacts" EntityType="Crm.Contact"/>
    <EntitySet Name="Orders" EntityType="Crm.Order"/>
   </EntityContainer>
  </Schema>
 </edmx:DataServices>
</edmx:Edmx>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_passed_over_when_others_go_between_two_pages() {
        let mut store = Store::new();
        for number in 0..30 {
            store.fill(Set::Orders, json!({ "OrderNo": number }));
        }
        let (mut seen, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let page = found(&store, Set::Orders, &Params::new(), None, from, 4).unwrap();
            next = page.next;
            let numbers = page.rows.iter().map(|row| row["OrderNo"].as_u64().unwrap());
            seen.extend(numbers);
            let last = seen.last().unwrap().to_string();
            assert!(store.delete(Set::Orders, &last));
        }
        assert_eq!(seen, (0..30).collect::<Vec<u64>>());
    }
}
