//! What a map asks of an HTTP endpoint.

#![cfg(test)]

use definition::Definition;
use mapping::{Plan, PlanProblem, Rendered, RequestKind, Requests, Schemas, path_part};
use model::{DataType, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const FIELDS: &str = "id: id, no: { from: no, type: bigint }, name: name, total: { from: total, type: decimal }, at: { from: at, type: timestamp }, more: { from: more, type: json }";

fn definition(key: &str, http: &str) -> Definition {
    let text = format!(
        "connections:
  shop: {{ kind: rest, url: \"https://shop.example.com\" }}
  hub: {{ kind: http, url: \"https://hub.example.com\" }}
maps:
  items:
    from: {{ stream: shop.items, key: {key}, rest: {{ path: /items }} }}
    to: {{ stream: hub.items, key: {key}, http: {http} }}
    fields: {{ {FIELDS} }}
"
    );
    let reading = Definition::read(&text);
    let problems = reading.problems;
    reading
        .definition
        .unwrap_or_else(|| panic!("{problems:#?}"))
}

fn compile(key: &str, http: &str) -> (Option<Requests>, Vec<PlanProblem>) {
    let definition = definition(key, http);
    let map = definition.maps.values().next().unwrap();
    let text = DataType::Text { max: None };
    let decimal = DataType::Decimal { digits: None };
    let types = [
        text,
        DataType::Int64,
        text,
        decimal,
        DataType::Timestamp,
        text,
    ];
    Requests::compile(map, map.to.http.as_ref().unwrap(), &types)
}

fn requests(key: &str, http: &str) -> Requests {
    let (requests, problems) = compile(key, http);
    requests.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn row(id: &str, name: Value<'static>) -> Vec<Value<'static>> {
    vec![
        Value::Text(id.to_owned().into()),
        Value::Int(7),
        name,
        Value::Decimal("12345678901234567890.10".into()),
        Value::Timestamp(1_500_000),
        Value::Json(r#"{"a": [1, null]}"#.into()),
    ]
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

fn upsert(requests: &Requests, row: &[Value<'_>]) -> Rendered {
    requests.render(RequestKind::Upsert, &[row]).unwrap()
}

const BOTH: &str =
    "{ upsert: { path: \"/items/{{ key }}\" }, delete: { path: \"/items/{{ key }}\" } }";

#[test]
fn without_a_body_the_row_is_sent_as_it_is() {
    let requests = requests("id", BOTH);
    let rendered = upsert(&requests, &row("a/b c", Value::Missing));
    assert_eq!(rendered.path, "/items/a%2Fb%20c");
    assert_eq!(
        rendered.body.unwrap(),
        r#"{"id":"a/b c","no":7,"total":12345678901234567890.10,"at":"1970-01-01T00:00:01.5Z","more":{"a": [1, null]}}"#
    );
    let gone = requests
        .render(RequestKind::Delete, &[&row("x", Value::Null)])
        .unwrap();
    assert_eq!((gone.path.as_str(), gone.body), ("/items/x", None));
    assert!(!requests.shape(RequestKind::Upsert).unwrap().fixed);
}

#[test]
fn a_body_can_be_made_of_parts() {
    let body = r#"{ "data": { "name": {{ row.name }}, "total": {{ row.total }}, "more": {{ row.more }}, "first": {{ row.more.a[0] }}, "all": {{ row | tojson }} }, "no": {{ key.no }} }"#;
    let http = format!(
        "{{ upsert: {{ method: POST, path: \"/c/{{{{ key.id }}}}?no={{{{ key.no }}}}\", body: '{body}' }}, delete: {{ path: \"/c/{{{{ key.id }}}}/{{{{ row.no }}}}\" }} }}"
    );
    let requests = requests("[id, no]", &http);
    let rendered = upsert(&requests, &row("ü", text("\"O'Hara\"\n")));
    assert_eq!(rendered.path, "/c/%C3%BC?no=7");
    let body = rendered.body.unwrap();
    assert!(
        body.contains("\"total\": 12345678901234567890.10,"),
        "{body}"
    );
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(body["data"]["name"], "\"O'Hara\"\n");
    assert_eq!(body["data"]["first"], 1);
    assert_eq!(body["data"]["all"]["more"], json!({ "a": [1, null] }));
    assert_eq!(body["no"], 7);
}

#[test]
fn a_request_for_many_has_lists() {
    let many = "{ upsert: { path: /items }, delete: { method: POST, path: /gone }, batch: 10 }";
    let default = requests("id", many);
    let rows = [row("a", text("x")), row("b", Value::Null)];
    let rows: Vec<&[Value<'_>]> = rows.iter().map(Vec::as_slice).collect();
    let body = |requests: &Requests, kind| {
        let rendered = requests.render(kind, &rows).unwrap();
        serde_json::from_str::<Json>(&rendered.body.unwrap()).unwrap()
    };
    let all = body(&default, RequestKind::Upsert);
    assert_eq!(
        (&all[0]["name"], &all[1]["name"]),
        (&json!("x"), &Json::Null)
    );
    let gone = json!([{ "id": "a" }, { "id": "b" }]);
    assert_eq!(body(&default, RequestKind::Delete), gone);
    let shape = default.shape(RequestKind::Upsert).unwrap();
    assert_eq!((shape.at_once, shape.fixed), (10, true));
    let one = default.render(RequestKind::Upsert, &rows[..1]).unwrap();
    assert!(
        one.body.unwrap().starts_with('['),
        "a list of one is a list"
    );

    let own = "{ upsert: { path: /items, body: '{ \"keys\": {{ keys }}, \"rows\": [{% for row in rows %}{{ row.name }}{{ \",\" | safe if not loop.last }}{% endfor %}] }' }, delete: { path: \"/items/{{ key }}\" }, batch: 10 }";
    let own = requests("id", own);
    let expected = json!({ "keys": ["a", "b"], "rows": ["x", null] });
    assert_eq!(body(&own, RequestKind::Upsert), expected);
    assert_eq!(own.shape(RequestKind::Delete).unwrap().at_once, 1);
}

#[test]
fn what_a_row_does_not_have_is_an_error_and_never_empty() {
    let http = "{ upsert: { path: \"/items/{{ key }}\", body: '{ \"name\": {{ row.name }} }' }, delete: { path: \"/items/{{ key }}\" } }";
    let requests = requests("id", http);
    let error = |row: &[Value<'_>]| requests.render(RequestKind::Upsert, &[row]).unwrap_err();
    let missing = error(&row("a", Value::Missing));
    assert_eq!(
        (missing.class, missing.code.as_str()),
        (model::ErrorClass::Mapping, "template")
    );
    assert!(
        missing
            .message
            .contains("undefined value (in upsert.body:1)"),
        "{}",
        missing.message
    );
    let empty = error(&row("", text("x")));
    assert!(
        empty
            .message
            .contains("an empty text cannot be a part of a path"),
        "{}",
        empty.message
    );
    assert!(
        requests
            .render(RequestKind::Upsert, &[&row("a", Value::Null)])
            .is_ok()
    );
}

/// The only thing wrong with a map.
fn mistake(key: &str, http: &str) -> String {
    let (requests, problems) = compile(key, http);
    assert_eq!(
        requests.is_none(),
        problems.iter().any(PlanProblem::is_error)
    );
    assert_eq!(problems.len(), 1, "{http}: {problems:#?}");
    let problem = &problems[0];
    format!("{} {}: {}", problem.at, problem.code, problem.message)
}

#[test]
fn mistakes_are_found_before_a_record_comes() {
    const CASES: [(&str, &str); 9] = [
        (
            r#"path: "/i/{{ key""#,
            "to.http.upsert.path bad-template: syntax error",
        ),
        (r#"path: "/i/{{ key | nofilter }}""#, "unknown filter"),
        (
            r#"path: "/i/{{ kye }}""#,
            "there is no `kye`: a request for one record knows `key` and `row`",
        ),
        (
            r#"path: "/i/{{ row.nam }}""#,
            "the map has no column `nam`: it has id, no, name,",
        ),
        (
            r#"path: "/i/{{ key.id }}""#,
            "`key` is the value of `id` itself",
        ),
        (
            r#"path: /i, body: "{}""#,
            "no-record: neither the path nor the body says which record is meant: use `key` or `row`",
        ),
        (r"path: /i, body: '{ a: {{ rows }} }'", "there is no `rows`"),
        (
            r#"path: "/i/{{ key }}", body: '{ "a": "{{ row.name }}" }'"#,
            "doubtful-template: for a made-up record the body is no JSON",
        ),
        (
            r#"path: "/i/{{ key }}", body: '{{ row.total * 2 }}'"#,
            "doubtful-template: for a made-up record the template",
        ),
    ];
    for (upsert, expected) in CASES {
        let http =
            format!(r#"{{ upsert: {{ {upsert} }}, delete: {{ path: "/i/{{{{ key }}}}" }} }}"#);
        let said = mistake("id", &http);
        assert!(said.contains(expected), "{http}: {said}");
    }
}

#[test]
fn mistakes_about_keys_and_batches_are_found_too() {
    let batch = format!("{}, batch: 5 }}", &BOTH[..BOTH.len() - 2]);
    let two = |upsert: &str, delete: &str| {
        format!(r#"{{ upsert: {{ path: "{upsert}" }}, delete: {{ path: "{delete}" }} }}"#)
    };
    for (key, http, expected) in [
        ("id", batch, "useless-key: the request names `key` or `row`"),
        (
            "[id, no]",
            two("/{{ key }}", "/{{ key.id }}"),
            "the key has 2 parts: name one of them, as in `key.id`",
        ),
        (
            "[id, no]",
            two("/{{ key.name }}", "/{{ key.no }}"),
            "the key has no `name`: it is id, no",
        ),
        (
            "id",
            two("/{{ key }}", "/{{ row.name }}"),
            "to.http.delete.path bad-template: of a record that was deleted only the key is known",
        ),
    ] {
        let said = mistake(key, &http);
        assert!(said.contains(expected), "{http}: {said}");
    }
}

#[test]
fn a_plan_finds_them_too() {
    let definition = definition("id", &BOTH.replace("key", "kye"));
    let map = definition.maps.values().next().unwrap();
    let (plan, problems) = Plan::compile(map, Schemas::default());
    assert!(plan.is_none());
    assert_eq!(problems.len(), 2, "{problems:#?}");
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_place(id in "\\PC{1,40}", name in "\\PC{0,40}") {
        let http = "{ upsert: { path: \"/a/{{ key }}/b?c={{ row.name | default('-') if row.name else '-' }}\", body: '[{{ row.name }}, {{ key }}]' }, delete: { path: \"/{{ key }}\" } }";
        let requests = requests("id", http);
        let rendered = upsert(&requests, &row(&id, text(&name)));
        prop_assert_eq!(rendered.path.split(['/', '?', '#', '&']).count(), 5);
        let body: Json = serde_json::from_str(&rendered.body.unwrap()).unwrap();
        prop_assert_eq!(body, json!([name, id]));
        let part = path_part(&id).unwrap();
        prop_assert!(!part.contains(['/', '?', '#', '&', ' ']));
    }
}
