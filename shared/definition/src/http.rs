//! HTTP endpoints as targets.

use serde::Serialize;

use crate::node::Node;

/// How an HTTP endpoint is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpTarget {
    /// Request for an upsert.
    pub upsert: HttpRequest,
    /// Request for a delete; without one, deletes cannot be propagated.
    pub delete: Option<HttpRequest>,
    /// Records per request; with more than one, templates have `keys` and `rows` instead of
    /// `key` and `row`.
    pub batch: u32,
}

/// One request as a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpRequest {
    /// Method.
    pub method: String,
    /// Path below the connection's address, a template. What is put in is percent-encoded.
    pub path: String,
    /// Body, a template. What is put in is JSON, text with its quotes. `None` is the row as a
    /// JSON object, or a list of them; for a delete that has its key in the path, nothing.
    pub body: Option<String>,
}

pub(crate) const HTTP_KEYS: &[&str] = &["upsert", "delete", "batch"];
pub(crate) const REQUEST_KEYS: &[&str] = &["method", "path", "body"];

pub(crate) fn read(node: &Node<'_>) -> Option<HttpTarget> {
    let section = node.map("http", HTTP_KEYS)?;
    let upsert = section
        .required("upsert")
        .and_then(|node| read_request(node, "PUT"));
    let delete = match section.get("delete") {
        Some(node) => read_request(node, "DELETE").map(Some),
        None => Some(None),
    };
    let batch = section
        .get("batch")
        .map_or(Some(1), |node| node.count(1, 10_000));
    Some(HttpTarget {
        upsert: upsert?,
        delete: delete?,
        batch: batch?,
    })
}

fn read_request(node: &Node<'_>, method: &str) -> Option<HttpRequest> {
    let section = node.map("a request", REQUEST_KEYS)?;
    let methods = &[
        ("PUT", "PUT"),
        ("POST", "POST"),
        ("PATCH", "PATCH"),
        ("DELETE", "DELETE"),
    ];
    let method = section
        .get("method")
        .map_or(Some(method), |node| node.choice(methods))?;
    let path = section.required("path")?.text()?;
    let body = section.get("body").and_then(Node::text);
    Some(HttpRequest {
        method: method.to_owned(),
        path,
        body,
    })
}
