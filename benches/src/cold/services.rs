//! Stubs of the services of AWS: they know what the answers look like that the functions need to
//! begin and to work on one event, and keep nothing.

use std::io;

use axum::{
    Router,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::net::TcpListener;

use super::{HOOK_SECRET, api::NoDelay};

/// Starts them; returns their endpoint.
pub(crate) async fn start() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(NoDelay(listener), router).await });
    Ok(endpoint)
}

async fn answer(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok());
    let Some((_, action)) = target.and_then(|target| target.rsplit_once('.')) else {
        return of_s3(&method, uri.query().unwrap_or_default(), &body);
    };
    let (status, json) = of_json(action, &String::from_utf8_lossy(&body));
    let kind = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    (status, kind, json).into_response()
}

/// S3 has nothing, and takes all but the nothing that a function tries it with, whose digest is
/// wrong.
fn of_s3(method: &Method, query: &str, body: &Bytes) -> Response {
    let xml = [(header::CONTENT_TYPE, "application/xml")];
    if query.contains("list-type") {
        let none = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        return (xml, none).into_response();
    }
    let (status, code) = match *method {
        Method::PUT if !body.is_empty() => return StatusCode::OK.into_response(),
        Method::PUT => (StatusCode::BAD_REQUEST, "BadDigest"),
        _ => (StatusCode::NOT_FOUND, "NoSuchKey"),
    };
    let body = format!("<Error><Code>{code}</Code><Message>a stub</Message></Error>");
    (status, xml, body).into_response()
}

fn of_json(action: &str, request: &str) -> (StatusCode, String) {
    let error = |code: &str| {
        let body = format!(r#"{{"__type":"com.amazonaws#{code}","message":"a stub"}}"#);
        (StatusCode::BAD_REQUEST, body)
    };
    let ok = |body: &str| (StatusCode::OK, body.to_owned());
    match action {
        "SendMessage" => {
            ok(r#"{"MessageId":"059f36b4-87a3-44ab-83d2-661975830a7d","MD5OfMessageBody":""}"#)
        }
        "SendMessageBatch" => match taken(request).as_str() {
            "" => error("EmptyBatchRequest"),
            taken => ok(&format!(r#"{{"Successful":[{taken}],"Failed":[]}}"#)),
        },
        "ChangeMessageVisibility" => error("ReceiptHandleIsInvalid"),
        "GetSecretValue" if request.contains("url") => {
            ok(r#"{"SecretString":"http://127.0.0.1:9"}"#)
        }
        "GetSecretValue" => ok(&format!(r#"{{"SecretString":"{HOOK_SECRET}"}}"#)),
        "Query" => ok(r#"{"Items":[],"Count":0,"ScannedCount":0}"#),
        "BatchGetItem" => ok(r#"{"Responses":{},"UnprocessedKeys":{}}"#),
        "BatchWriteItem" => ok(r#"{"UnprocessedItems":{}}"#),
        _ => ok("{}"),
    }
}

/// The messages of a batch, each with its answer. Identifiers are numbers from 0.
fn taken(request: &str) -> String {
    let messages = request.matches(r#""MessageBody":"#).count();
    let all: Vec<String> = (0..messages)
        .map(|id| format!(r#"{{"Id":"{id}","MessageId":"m-{id}","MD5OfMessageBody":""}}"#))
        .collect();
    all.join(",")
}
