//! Streams and targets over HTTP.

#![cfg(test)]

use definition::{Definition, Problem};

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
