//! Streams and targets over HTTP.

#![cfg(test)]

use std::time::Duration;

use definition::{Definition, Problem};
use model::ConnectionName;

fn problems(text: &str) -> Vec<Problem> {
    Definition::read(text).problems
}

/// A small good file with a JSON service and an HTTP endpoint, with one part exchanged.
fn http_file(from: &str, to: &str) -> String {
    const GOOD: &str = "\
connections:
  shop: { kind: rest, url: \"https://shop.example.com\" }
  hub: { kind: http, url: \"https://hub.example.com\" }
maps:
  items:
    from: { stream: shop.items, key: id, version: updated, rest: { path: /items, since: since } }
    to: { stream: hub.items, key: id, http: { upsert: { path: \"/{{ key }}\" }, delete: { path: \"/{{ key }}\" } } }
    fields: { id: id }
    pull: { every: 5m }
";
    assert!(GOOD.contains(from), "the good file has no `{from}`");
    GOOD.replacen(from, to, 1)
}

#[test]
fn streams_and_targets_over_http_are_checked() {
    assert_eq!(problems(&http_file("", "")), []);
    let item = |path: &str| format!("since: since, item: \"{path}\"");
    for (from, to, code, says) in [
        (
            "since: since",
            item("/items/{no}"),
            "unknown-key-field",
            "write it as /items/{id}",
        ),
        (
            "since: since",
            item("/items/one"),
            "no-record",
            "the same for all records",
        ),
        (
            "since: since",
            item("/items/{id"),
            "invalid-path",
            "not closed",
        ),
        (
            ", since: since",
            String::new(),
            "reads-everything",
            "with `since`",
        ),
        (
            "every: 5m",
            "every: 5m, mode: delta".into(),
            "no-delta",
            "leave `mode` out",
        ),
        (
            "every: 5m",
            "every: 5m, page_size: 9".into(),
            "useless-key",
            "`rest.paging`",
        ),
        (
            "stream: hub.items,",
            "stream: hub.items, existing: true,".into(),
            "useless-key",
            "has no tables",
        ),
        (
            ", version: updated",
            String::new(),
            "missing-key",
            "`since` needs a version field",
        ),
    ] {
        let problems = problems(&http_file(from, &to));
        let [problem] = &problems[..] else {
            panic!("{to}: {problems:#?}")
        };
        assert_eq!(problem.code, code, "{to}");
        assert!(problem.to_string().contains(says), "{to}: {problem}");
    }
}

#[test]
fn an_endpoint_is_called_more_often_at_once_than_a_service_is_read() {
    let read = |limits: &str| {
        let text = http_file(
            "hub.example.com\" }",
            &format!("hub.example.com\"{limits} }}"),
        );
        let definition = Definition::read(&text).definition.unwrap();
        ["shop", "hub"].map(|name| {
            let name = ConnectionName::new(name).unwrap();
            definition.connections[&name].limits.concurrency
        })
    };
    assert_eq!(read(""), [4, 10]);
    assert_eq!(read(", limits: { timeout: 2s }"), [4, 10]);
    assert_eq!(read(", limits: { concurrency: 3 }"), [4, 3]);
}

#[test]
fn no_call_is_longer_than_whoever_makes_it_has_time() {
    let text = http_file(
        "hub.example.com\" }",
        "hub.example.com\", limits: { timeout: 2s } }",
    );
    let limited = Definition::read(&text).definition.unwrap();
    let limited = limited.limit_calls(Duration::from_secs(20));
    let timeouts = ["shop", "hub"].map(|name| {
        let name = ConnectionName::new(name).unwrap();
        limited.connections[&name].limits.timeout.as_secs()
    });
    assert_eq!(timeouts, [20, 2]);
}
