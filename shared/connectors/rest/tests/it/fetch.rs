//! Single records.

use bytes::Bytes;
use ports::{Source, SourceError};

use crate::{Shop, id, source};

const ITEM: &str = "{ path: /none, item: \"/items/{id}\", item_record: data }";

fn keys(ids: &[&str]) -> Vec<Bytes> {
    ids.iter()
        .map(|id| Bytes::from(format!("{{\"id\": {id}, \"other\": 1}}")))
        .collect()
}

#[tokio::test]
async fn each_key_has_its_answer_in_order() {
    let shop = Shop::with(0).await;
    let source = source(&shop, ITEM).await;
    assert!(source.can_fetch());
    assert_eq!(
        source.fetch(&[]).await.unwrap(),
        Vec::<Option<Bytes>>::new()
    );
    // One at a time, so that the answers meet their questions.
    let answers = [
        (200, r#"{"data": {"id": 1, "name": "a"}}"#, Some(1)),
        (404, "{\"message\": \"gone\"}", None),
        (410, "", None),
        (200, r#"{"data": null}"#, None),
        (200, r#"{"data": {"id": "5"}}"#, None),
    ];
    for (number, (status, body, expected)) in answers.into_iter().enumerate() {
        shop.answer(status, "application/json", body);
        let found = source
            .fetch(&keys(&[&(number + 1).to_string()]))
            .await
            .unwrap();
        if number == 4 {
            assert!(found[0].is_some(), "a key may be text at one end");
            continue;
        }
        assert_eq!(found[0].as_ref().map(id), expected, "{body}");
    }
    let requests = shop.inner().requests.clone();
    assert_eq!(requests[0], "/api/items/1");
    shop.answer(200, "application/json", r#"{"data": {"id": "a/b"}}"#);
    source.fetch(&keys(&["\"a/b\""])).await.unwrap();
    assert_eq!(shop.inner().requests.last().unwrap(), "/api/items/a%2Fb");
}

#[tokio::test]
async fn many_records_are_read_side_by_side_and_stay_in_order() {
    let shop = Shop::with(100).await;
    let source = source(&shop, "{ path: /none, item: \"/none?id={id}\" }").await;
    // The shop answers with its whole list, which is no record and has no key to compare.
    let ids: Vec<String> = (0..100).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(source.fetch(&keys(&ids)).await.unwrap().len(), 100);
    assert_eq!(shop.inner().requests.len(), 100);
}

#[tokio::test]
async fn what_is_no_record_of_the_key_is_an_error() {
    for (status, body, says) in [
        (
            200,
            r#"{"data": {"id": 2}}"#,
            "is the record of another key",
        ),
        (200, r#"{"record": {"id": 1}}"#, "has nothing at `data`"),
        (200, "<html>", "no good JSON"),
        (200, r#"{"error": "quota"}"#, "quota"),
        (400, "", "answered 400"),
    ] {
        let shop = Shop::with(0).await;
        let source = source(&shop, ITEM).await;
        shop.answer(status, "application/json", body);
        let error = source.fetch(&keys(&["1"])).await.unwrap_err();
        assert!(error.to_string().contains(says), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_key_without_an_address_is_an_error_and_never_the_whole_list() {
    let shop = Shop::with(3).await;
    let source = source(&shop, ITEM).await;
    for key in ["\"\"", "\"..\"", "null", "[1]"] {
        let error = source.fetch(&keys(&[key])).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Invalid { .. }),
            "{key}: {error:?}"
        );
    }
    assert_eq!(shop.inner().requests.len(), 0);
}

#[tokio::test]
async fn without_a_path_for_them_there_are_no_single_records() {
    let shop = Shop::with(3).await;
    let source = source(&shop, "{ path: /none }").await;
    assert!(!source.can_fetch());
    assert!(source.fetch(&keys(&["1"])).await.is_err());
}
