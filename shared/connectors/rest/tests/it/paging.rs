//! Every row once, whatever the paging, and none missed while rows come and go.

use std::collections::BTreeSet;

use ports::{ReadFrom, SourceError};

use crate::{Shop, read, read_all, shop::Beyond, source};

/// Each kind of paging, with `SIZE` records per page.
const PAGINGS: [&str; 6] = [
    "{ path: /none }",
    "{ path: /linked, records: data.items, query: { size: \"SIZE\" }, paging: { next_link: paging.next } }",
    "{ path: /header, query: { size: \"SIZE\" }, paging: link_header }",
    "{ path: /cursor, records: items, query: { size: \"SIZE\" }, paging: { cursor: { at: next, param: skip } } }",
    "{ path: /paged, paging: { page: { param: page, size_param: size, size: SIZE } } }",
    "{ path: /counted, paging: { offset: { param: skip, size_param: size, size: SIZE } } }",
];

const PAGED: usize = 4;
const COUNTED: usize = 5;

fn paging(kind: usize, size: usize) -> String {
    PAGINGS[kind].replace("SIZE", &size.to_string())
}

#[tokio::test]
async fn every_row_comes_once_and_from_any_cursor_the_rest() {
    for items in [0, 1, 2, 3, 7, 18] {
        let shop = Shop::with(items).await;
        for kind in 0..PAGINGS.len() {
            for size in [1, 2, 3, 6, 100] {
                let source = source(&shop, &paging(kind, size)).await;
                let found = read_all(&source).await.unwrap();
                let expected: Vec<i64> = (0..items).collect();
                let at = format!("{items} items, {}", paging(kind, size));
                assert_eq!(found.ids(), expected, "{at}");
                for (cursor, before) in &found.cursors {
                    let rest = read(&source, ReadFrom::Rows(None), Some(cursor))
                        .await
                        .unwrap();
                    assert_eq!(rest.ids(), expected[*before..], "{at}, from {cursor}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_service_with_smaller_pages_than_it_was_asked_for_is_read_to_its_end() {
    let shop = Shop::with(31).await;
    shop.inner().cap = Some(7);
    for kind in [1, 2, 3, PAGED, COUNTED] {
        let source = source(&shop, &paging(kind, 500)).await;
        let found = read_all(&source).await.unwrap();
        assert_eq!(
            found.ids(),
            (0..31).collect::<Vec<_>>(),
            "{}",
            PAGINGS[kind]
        );
    }
}

#[tokio::test]
async fn a_page_after_the_last_may_be_anything_but_records() {
    for beyond in [Beyond::Missing, Beyond::Clamped, Beyond::Bad] {
        for items in [1, 6, 7, 8, 9] {
            let shop = Shop::with(items).await;
            shop.inner().beyond = beyond;
            for kind in [PAGED, COUNTED] {
                let source = source(&shop, &paging(kind, 4)).await;
                let read = read_all(&source).await;
                let full = kind == PAGED && items % 4 == 0;
                if beyond == Beyond::Bad && full {
                    // After a full page a refusal may be a limit of the service.
                    assert!(matches!(read, Err(SourceError::Invalid { .. })), "{read:?}");
                    continue;
                }
                let found = read.unwrap_or_else(|error| panic!("{beyond:?}, {items}: {error}"));
                let expected: BTreeSet<i64> = (0..items).collect();
                assert_eq!(found.set(), expected, "{beyond:?}, {items}, {kind}");
            }
        }
    }
}

#[tokio::test]
async fn a_parameter_that_means_nothing_is_an_error_and_not_an_endless_read() {
    let shop = Shop::with(9).await;
    shop.inner().deaf = true;
    for kind in [PAGED, COUNTED] {
        let source = source(&shop, &paging(kind, 4)).await;
        let error = read_all(&source).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("does the service know the parameter"),
            "{error}"
        );
    }
    assert!(shop.inner().requests.len() < 10);
    // Everything at once, and less than a page: that is all there is.
    for kind in [PAGED, COUNTED] {
        let source = source(&shop, &paging(kind, 10)).await;
        assert_eq!(read_all(&source).await.unwrap().set().len(), 9);
    }
}

#[tokio::test]
async fn pages_that_go_round_are_noticed() {
    for kind in [PAGED, COUNTED] {
        let shop = Shop::with(0).await;
        let source = source(&shop, &paging(kind, 2)).await;
        for number in 0..1_000 {
            let page = format!(
                "[{{\"id\": {}}}, {{\"id\": {}}}]",
                number % 5,
                number % 5 + 10
            );
            shop.answer(200, "application/json", &page);
        }
        let error = read_all(&source).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
        assert!(
            shop.inner().requests.len() < 300,
            "{}",
            shop.inner().requests.len()
        );
    }
}

#[tokio::test]
async fn links_and_cursors_that_come_round_are_noticed() {
    for (kind, body) in [
        (
            1,
            r#"{"data": {"items": []}, "paging": {"next": "linked?a=NUMBER"}}"#,
        ),
        (3, r#"{"items": [], "next": "NUMBER"}"#),
    ] {
        for round in [1, 2, 7] {
            let shop = Shop::with(0).await;
            let source = source(&shop, &paging(kind, 2)).await;
            for number in 0..200 {
                let number = (number % round).to_string();
                shop.answer(200, "application/json", &body.replace("NUMBER", &number));
            }
            let error = read_all(&source).await.unwrap_err();
            assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
            assert!(error.to_string().contains("never end"), "{error}");
            assert!(shop.inner().requests.len() < 40);
        }
    }
}

#[tokio::test]
async fn a_link_to_another_host_is_not_followed() {
    let shop = Shop::with(0).await;
    let source = source(&shop, &paging(1, 2)).await;
    let body =
        r#"{"data": {"items": [{"id": 1}]}, "paging": {"next": "http://elsewhere.example/x"}}"#;
    shop.answer(200, "application/json", body);
    let error = read_all(&source).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("credentials"), "{text}");
}

#[tokio::test]
async fn no_row_that_stays_is_missed_while_others_go() {
    for seed in 0..100_u64 {
        for kind in [PAGED, COUNTED] {
            let items = 31 + i64::try_from(seed % 4).unwrap() * 10;
            let shop = Shop::with(items).await;
            let mut random = fastrand::Rng::with_seed(seed);
            // Now and then some rows go, fewer than a page holds while two are read. Where records are counted,
            // others come at the beginning, too.
            shop.inner().script = Some(Box::new(move |_, shop| {
                let gone = [0, 0, 1, 1, 4][random.usize(..5)];
                for _ in 0..gone {
                    let ids = shop.ids();
                    let gone = ids.get(random.usize(..ids.len().max(1)));
                    gone.copied().into_iter().for_each(|id| shop.delete(id));
                }
                if kind == COUNTED && random.u8(..4) == 0 {
                    let id = random.i64(1_000..);
                    shop.write(id, &serde_json::json!("2026-03-01T00:00:00Z"), "new");
                    shop.rows.rotate_right(1);
                }
            }));
            let source = source(&shop, &paging(kind, 10)).await;
            let found = read_all(&source).await.unwrap().set();
            let ids = shop.inner().ids();
            let stayed: BTreeSet<i64> = ids.into_iter().filter(|id| *id < items).collect();
            let missed: Vec<&i64> = stayed.difference(&found).collect();
            assert!(
                missed.is_empty(),
                "seed {seed}, {}: {missed:?}",
                PAGINGS[kind]
            );
        }
    }
}

#[tokio::test]
async fn rows_that_come_in_the_number_of_a_page_are_no_end() {
    for kind in [PAGED, COUNTED] {
        for before in 1..6 {
            for rows in [10, 8, 20, 16] {
                let shop = Shop::with(45).await;
                shop.inner().script = Some(Box::new(move |number, shop| {
                    if number == before {
                        for id in 0..rows {
                            shop.write(1_000 + id, &serde_json::json!("2026-03-01T00:00:00Z"), "");
                            shop.rows.rotate_right(1);
                        }
                    }
                }));
                let source = source(&shop, &paging(kind, 10)).await;
                let found = read_all(&source).await.unwrap().set();
                let old: BTreeSet<i64> = (0..45).collect();
                assert!(old.is_subset(&found), "{kind}, {rows} before {before}");
            }
        }
    }
}

#[tokio::test]
async fn a_service_whose_rows_never_rest_is_read_to_an_end() {
    for kind in [PAGED, COUNTED] {
        let shop = Shop::with(200).await;
        // All rows are written again before each request, and some move.
        shop.inner().script = Some(Box::new(|number, shop| {
            for row in &mut shop.rows {
                row["name"] = number.into();
            }
            shop.rows.rotate_left(number % 3);
        }));
        let source = source(&shop, &paging(kind, 10)).await;
        let found = read_all(&source).await.unwrap();
        assert!(found.set().len() > 150);
        assert!(
            shop.inner().requests.len() < 100,
            "{}",
            shop.inner().requests.len()
        );
    }
}
