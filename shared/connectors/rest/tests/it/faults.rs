//! Answers that are not what they should be.

use ports::{Source, SourceError};

use crate::{Shop, read_all, source};

const LIST: &str = "{ path: /items, records: data.items }";

const JSON: &str = "application/json";

/// Status, type and body, the kind of error, and what it says.
const ANSWERS: [(u16, &str, &str, &str, &str); 15] = [
    (
        200,
        "text/html",
        "<html><body>Sign in</body></html>",
        "garbled",
        "<html><body>Sign in",
    ),
    (
        200,
        JSON,
        r#"{"data": {"items": [{"id": 1}, {"id""#,
        "garbled",
        "no good JSON",
    ),
    (
        200,
        JSON,
        r#"{"data": {"items": [{"id": 1}]}} trailing"#,
        "garbled",
        "no good JSON",
    ),
    (200, JSON, "", "garbled", "no good JSON"),
    (
        200,
        JSON,
        r#"{"data": {}}"#,
        "garbled",
        "has nothing at `data.items`",
    ),
    (
        200,
        JSON,
        r#"{"data": {"items": {"id": 1}}}"#,
        "garbled",
        "say with `rest.records`",
    ),
    (
        200,
        JSON,
        r#"{"data": {"items": "none"}}"#,
        "garbled",
        "has no list at `data.items`",
    ),
    (200, JSON, "[]", "garbled", "has nothing at `data.items`"),
    (
        200,
        JSON,
        r#"{"error": {"message": "no such shop"}}"#,
        "unavailable",
        "no such shop",
    ),
    (
        200,
        JSON,
        r#"{"data": {"items": null}, "errors": [{"message": "x"}]}"#,
        "unavailable",
        "error in its body",
    ),
    (400, JSON, r#"{"message": "what?"}"#, "invalid", "what?"),
    (401, JSON, "", "auth", "check the connection's `auth`"),
    (403, JSON, "", "auth", "lacks a permission"),
    (404, JSON, "", "invalid", "answered 404"),
    (410, JSON, "", "expired", "answered 410"),
];

fn kind(error: &SourceError) -> &'static str {
    match error {
        SourceError::Unavailable { .. } => "unavailable",
        SourceError::Throttled { .. } => "throttled",
        SourceError::Auth { .. } => "auth",
        SourceError::Expired { .. } => "expired",
        SourceError::Invalid { .. } => "invalid",
        SourceError::Garbled { .. } => "garbled",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_is_an_error_that_says_what_came() {
    for (status, content, body, expected, says) in ANSWERS {
        let shop = Shop::with(0).await;
        let source = source(&shop, LIST).await;
        shop.answer(status, content, body);
        let error = read_all(&source).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(kind(&error), expected, "{body}: {text}");
        assert!(text.contains(says), "{body}: {text}");
        assert!(text.contains("/api/items answered"), "{text}");
    }
}

#[tokio::test]
async fn an_error_that_passes_is_tried_again_for_a_moment() {
    let shop = Shop::with(3).await;
    let source = source(&shop, "{ path: /none }").await;
    for status in [500, 503] {
        shop.answer(status, "text/plain", "busy");
    }
    assert_eq!(read_all(&source).await.unwrap().ids(), [0, 1, 2]);
    for _ in 0..3 {
        shop.answer(500, "text/plain", "broken");
    }
    let error = read_all(&source).await.unwrap_err();
    assert_eq!(kind(&error), "unavailable");
    assert_eq!(read_all(&source).await.unwrap().ids(), [0, 1, 2]);
}

#[tokio::test]
async fn an_empty_list_may_be_null_or_nothing() {
    for (status, body) in [
        (200, r#"{"data": {"items": null}}"#),
        (200, r#"{"data": {"items": []}, "error": null}"#),
        (200, "\u{feff}{\"data\": {\"items\": []}}"),
        (204, ""),
    ] {
        let shop = Shop::with(0).await;
        let source = source(&shop, LIST).await;
        shop.answer(status, "application/json", body);
        assert_eq!(read_all(&source).await.unwrap().ids(), Vec::<i64>::new());
    }
}

#[tokio::test]
async fn a_bad_record_goes_on_with_its_neighbours() {
    let shop = Shop::with(0).await;
    let source = source(&shop, LIST).await;
    let body = r#"{"data": {"items": [{"id": 1}, 7, {"name": "no key"}, [], {"id": 2}]}}"#;
    shop.answer(200, "application/json", body);
    let found = read_all(&source).await.unwrap();
    let texts: Vec<&[u8]> = found.records.iter().map(AsRef::as_ref).collect();
    let expected: [&[u8]; 5] = [
        b"{\"id\": 1}",
        b"7",
        b"{\"name\": \"no key\"}",
        b"[]",
        b"{\"id\": 2}",
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn paging_that_makes_no_sense_is_an_error_and_not_the_end() {
    let shop = Shop::with(3).await;
    let cursor = "{ path: /cursor, records: items, paging: { cursor: { at: next, param: skip } } }";
    let cursor = source(&shop, cursor).await;
    shop.answer(
        200,
        "application/json",
        r#"{"items": [], "next": {"after": 7}}"#,
    );
    let error = read_all(&cursor).await.unwrap_err();
    assert_eq!(kind(&error), "garbled", "{error}");
    let linked = "{ path: /linked, records: items, paging: { next_link: next } }";
    let linked = source(&shop, linked).await;
    shop.answer(
        200,
        "application/json",
        r#"{"items": [], "next": "http://["}"#,
    );
    let error = read_all(&linked).await.unwrap_err();
    assert_eq!(kind(&error), "garbled", "{error}");
}

#[tokio::test]
async fn a_cursor_of_another_kind_of_paging_is_too_old() {
    let shop = Shop::with(30).await;
    let pagings = [
        "{ path: /paged, paging: { page: { param: page, size: 10 } } }",
        "{ path: /counted, paging: { offset: { param: skip, size: 10 } } }",
        "{ path: /cursor, records: items, paging: { cursor: { at: next, param: skip } } }",
    ];
    for (at, rest) in pagings.iter().enumerate() {
        let found = read_all(&source(&shop, rest).await).await.unwrap();
        let other = source(&shop, pagings[(at + 1) % 3]).await;
        for cursor in [found.cursors[0].0.as_str(), "{}", "7"] {
            let read = other.read(ports::ReadFrom::Rows(None), Some(cursor)).await;
            assert_eq!(kind(&read.unwrap_err()), "expired", "{cursor}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_described_by_reading_it_once() {
    let shop = Shop::with(3).await;
    let good = source(&shop, "{ path: /none }").await;
    assert_eq!(
        good.describe().await.unwrap(),
        ports::StreamSchema::default()
    );
    shop.answer(404, "text/plain", "");
    assert_eq!(kind(&good.describe().await.unwrap_err()), "invalid");
    shop.answer(200, JSON, r#"{"items": []}"#);
    let error = good.describe().await.unwrap_err().to_string();
    assert!(
        error.contains("that is no list: say with `rest.records`"),
        "{error}"
    );
    let wrong = source(&shop, LIST.replace("/items,", "/none,").as_str()).await;
    assert_eq!(kind(&wrong.describe().await.unwrap_err()), "garbled");
}
