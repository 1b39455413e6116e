//! What each answer means, for the record it is given for and for its neighbours.

use std::time::Duration;

use model::{ErrorClass, Lane, Value};
use ports::{RowOp, RowOutcome, Target, TargetError};

use crate::{BATCH, Fixture, SINGLE, Write, batch, endpoint::Fault};

fn class(outcome: &RowOutcome) -> Option<ErrorClass> {
    match outcome {
        RowOutcome::Failed(cause) => Some(cause.class),
        _ => None,
    }
}

#[tokio::test]
async fn a_status_decides_who_deals_with_a_record() {
    use ErrorClass::{Conflict, Invalid, Reference, TooLarge, Transient};
    for (status, expected) in [
        (400, Invalid),
        (404, Invalid),
        (408, Transient),
        (409, Conflict),
        (410, Invalid),
        (412, Conflict),
        (413, TooLarge),
        (415, Invalid),
        (422, Invalid),
        (423, Transient),
        (424, Reference),
        (425, Transient),
        (431, TooLarge),
        (500, Transient),
        (501, Invalid),
        (504, Transient),
        (507, Transient),
    ] {
        let fixture = Fixture::new(SINGLE).await;
        fixture.endpoint.fail([Fault::Refused(status)]);
        let outcome = fixture.write_one((1, 1, Some("x"))).await;
        assert_eq!(class(&outcome), Some(expected), "{status}: {outcome:?}");
        let RowOutcome::Failed(cause) = outcome else {
            panic!("a failure")
        };
        assert_eq!(cause.code, format!("http-{status}"));
        let says = format!("/rows/c/1 answered {status}");
        assert!(cause.message.contains(&says), "{}", cause.message);
    }
}

#[tokio::test]
async fn some_statuses_concern_all_records() {
    let minute = "retry-after: 60";
    for (fault, expected) in [
        (Fault::Refused(401), "auth"),
        (Fault::Refused(403), "auth"),
        (Fault::Answer(302, "location: /sign-in", ""), "schema"),
        (
            Fault::Answer(308, "location: https://elsewhere/", ""),
            "schema",
        ),
        (Fault::Answer(429, minute, ""), "throttled 60"),
        (Fault::Answer(503, minute, ""), "unavailable 60"),
        (Fault::Refused(503), "unavailable 0"),
        (Fault::Refused(502), "unavailable 0"),
    ] {
        let fixture = Fixture::new(SINGLE).await;
        fixture.endpoint.fail([fault.clone()]);
        let error = fixture.write(&[(1, 1, Some("x"))]).await.unwrap_err();
        let wait = error.retry_after().unwrap_or_default().as_secs();
        let kind = match &error {
            TargetError::Auth { .. } => "auth".to_owned(),
            TargetError::Schema { .. } => "schema".to_owned(),
            TargetError::Throttled { .. } => format!("throttled {wait}"),
            TargetError::Unavailable { .. } => format!("unavailable {wait}"),
            other => format!("{other:?}"),
        };
        assert_eq!(kind, expected, "{fault:?}: {error}");
        assert_eq!(fixture.endpoint.requests(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_missing_address_breaks_the_map_only_where_it_is_the_same_for_all() {
    let fixture = Fixture::new(BATCH).await;
    fixture.endpoint.fail([Fault::Refused(404)]);
    let rows = [(1, 1, Some("a")), (2, 1, Some("b"))];
    let error = fixture.write(&rows).await.unwrap_err();
    assert!(matches!(error, TargetError::Schema { .. }), "{error:?}");
    assert!(error.to_string().contains("check the paths in `to.http`"));
    assert_eq!(fixture.write(&rows).await.unwrap().len(), 2);
    assert_eq!(fixture.endpoint.name(2).as_deref(), Some("b"));
}

#[tokio::test]
async fn a_record_that_makes_the_endpoint_fail_fails_alone() {
    let fixture = Fixture::new(SINGLE).await;
    fixture.endpoint.inner().poison = vec![("bad", 500)];
    // Many of them, side by side, before all good ones.
    let bad = (0..40).map(|no| (no, 1, Some("bad")));
    let rows: Vec<Write<'_>> = bad
        .chain((40..400).map(|no| (no, 1, Some("fine"))))
        .collect();
    let outcomes = fixture.write(&rows).await.unwrap();
    for (no, outcome) in outcomes.iter().enumerate() {
        let expected = (no < 40).then_some(ErrorClass::Transient);
        assert_eq!(class(outcome), expected, "row {no}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_with_everything_is_down() {
    let fixture = Fixture::new(SINGLE).await;
    let rows: Vec<Write<'_>> = (0..100).map(|no| (no, 1, Some("x"))).collect();
    fixture.endpoint.fail(vec![Fault::Refused(500); 100]);
    let error = fixture.write(&rows).await.unwrap_err();
    assert!(
        matches!(error, TargetError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(fixture.endpoint.requests() < 30);
    // What is a failure already, says nothing of the endpoint: it stays a failure.
    let mut again = batch(&rows[..20]);
    again.lane = Lane::Retry;
    let outcomes = fixture.target.write(&fixture.spec, &again).await.unwrap();
    assert!(outcomes.iter().all(|outcome| class(outcome).is_some()));
    fixture.endpoint.inner().faults.clear();
    let outcomes = fixture.write(&rows).await.unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == RowOutcome::Applied)
    );
}

#[tokio::test]
async fn an_endpoint_that_nobody_answers_for_is_down_and_nothing_stays_claimed() {
    let mut fixture = Fixture::new(SINGLE).await;
    let nobody = crate::target(
        "http://127.0.0.1:1",
        SINGLE,
        std::sync::Arc::new(fixture.store.clone()),
        &fixture.store,
        &fixture.clock,
    );
    let there = std::mem::replace(&mut fixture.target, nobody.await);
    let error = fixture.write(&[(1, 1, Some("x"))]).await.unwrap_err();
    assert!(
        matches!(error, TargetError::Unavailable { .. }),
        "{error:?}"
    );
    fixture.target = there;
    let outcome = fixture.write_one((1, 1, Some("x"))).await;
    assert_eq!(outcome, RowOutcome::Applied);
}

#[tokio::test]
async fn one_bad_record_does_not_fail_the_others_of_its_request() {
    for (status, expected) in [
        (422, ErrorClass::Invalid),
        (413, ErrorClass::TooLarge),
        (500, ErrorClass::Transient),
    ] {
        let fixture = Fixture::new(BATCH).await;
        fixture.endpoint.inner().poison = vec![("bad", status)];
        let rows: Vec<Write<'_>> = (0..14)
            .map(|no| (no, 1, Some(if no == 4 { "bad" } else { "fine" })))
            .collect();
        let outcomes = fixture.write(&rows).await.unwrap();
        for (no, outcome) in outcomes.iter().enumerate() {
            let expected = (no == 4).then_some(expected);
            assert_eq!(class(outcome), expected, "{status}, row {no}: {outcome:?}");
        }
        assert_eq!(fixture.endpoint.inner().rows.len(), 13);
        // Seven, then four and three, two and two, one and one.
        assert!(fixture.endpoint.requests() <= 9, "{status}");
    }
}

#[tokio::test]
async fn an_answer_for_each_record_is_believed() {
    let fixture = Fixture::new(BATCH).await;
    fixture.endpoint.inner().multi = true;
    fixture.endpoint.inner().poison = vec![("bad", 422), ("held", 409)];
    let names = ["a", "bad", "b", "held"];
    let rows: Vec<Write<'_>> = (0..)
        .zip(names)
        .map(|(no, name)| (no, 1, Some(name)))
        .collect();
    let outcomes = fixture.write(&rows).await.unwrap();
    assert_eq!(fixture.endpoint.requests(), 1);
    let classes: Vec<_> = outcomes.iter().map(class).collect();
    let (invalid, conflict) = (Some(ErrorClass::Invalid), Some(ErrorClass::Conflict));
    assert_eq!(classes, [None, invalid, None, conflict], "{outcomes:?}");
    let RowOutcome::Failed(cause) = &outcomes[1] else {
        panic!("a failure")
    };
    assert_eq!(cause.field.as_deref(), Some("name"));

    // An answer that does not say which record it means is asked again in parts.
    fixture
        .endpoint
        .fail([Fault::Answer(207, "a: b", "[{\"status\": 200}]")]);
    let rows = [(10, 1, Some("x")), (11, 1, Some("y"))];
    let outcomes = fixture.write(&rows).await.unwrap();
    assert_eq!(outcomes, [RowOutcome::Applied, RowOutcome::Applied]);
}

#[tokio::test]
async fn what_the_endpoint_has_already_is_not_sent() {
    let fixture = Fixture::new(SINGLE).await;
    assert_eq!(
        fixture.write_one((1, 1, Some("x"))).await,
        RowOutcome::Applied
    );
    assert_eq!(
        fixture.write_one((1, 1, Some("x"))).await,
        RowOutcome::Unchanged
    );
    assert_eq!(fixture.endpoint.requests(), 1);
    // A newer version of the same content moves the guard and nothing else.
    assert_eq!(
        fixture.write_one((1, 5, Some("x"))).await,
        RowOutcome::Applied
    );
    assert_eq!(
        fixture.write_one((1, 4, Some("y"))).await,
        RowOutcome::Superseded
    );
    assert_eq!(fixture.endpoint.requests(), 1);
    assert_eq!(fixture.write_one((1, 6, None)).await, RowOutcome::Applied);
    assert_eq!(
        fixture.write_one((1, 5, Some("x"))).await,
        RowOutcome::Superseded
    );
    assert_eq!(
        fixture.write_one((1, 7, Some("x"))).await,
        RowOutcome::Applied
    );
    assert_eq!(fixture.endpoint.name(1).as_deref(), Some("x"));
    assert_eq!(fixture.endpoint.requests(), 3);
}

#[tokio::test]
async fn a_delete_of_what_is_gone_is_done() {
    let fixture = Fixture::new(SINGLE).await;
    // What was never written is not asked for.
    assert_eq!(fixture.write_one((1, 3, None)).await, RowOutcome::Unchanged);
    assert_eq!(fixture.endpoint.requests(), 0);
    assert_eq!(
        fixture.write_one((1, 2, Some("x"))).await,
        RowOutcome::Superseded
    );
    assert_eq!(
        fixture.write_one((2, 1, Some("x"))).await,
        RowOutcome::Applied
    );
    fixture.endpoint.inner().rows.clear();
    assert_eq!(fixture.write_one((2, 2, None)).await, RowOutcome::Applied);

    // Where the address is the same for all records, it may be what is missing.
    let fixture = Fixture::new(BATCH).await;
    fixture.write_one((2, 1, Some("x"))).await;
    fixture.endpoint.inner().rows.clear();
    let outcome = fixture.write_one((2, 2, None)).await;
    assert_eq!(class(&outcome), Some(ErrorClass::Invalid), "{outcome:?}");
}

#[tokio::test]
async fn a_map_that_ignores_deletes_makes_none() {
    let fixture =
        Fixture::new("{ upsert: { path: \"/rows/{{ key.company }}/{{ key.no }}\" } }").await;
    fixture.write_one((1, 1, Some("x"))).await;
    let mut settle = batch(&[(1, 1, None)]);
    let seen = fixture
        .target
        .look(&fixture.spec, &settle.rows)
        .await
        .unwrap();
    settle.ops = vec![RowOp::SettleDelete {
        seen: seen[0].seen.clone(),
    }];
    let outcomes = fixture.target.write(&fixture.spec, &settle).await.unwrap();
    assert_eq!(outcomes, [RowOutcome::Unchanged]);
    assert_eq!(fixture.endpoint.requests(), 1);
}

#[tokio::test]
async fn a_key_that_has_no_address_fails_alone() {
    let fixture = Fixture::new(SINGLE).await;
    for company in ["", ".."] {
        let mut rows = batch(&[(1, 1, Some("x")), (2, 1, Some("y"))]);
        let mut bad = model::Rows::new(5);
        for (at, row) in rows.rows.iter().enumerate() {
            let cells = bad.push_empty();
            cells.clone_from_slice(row);
            if at == 0 {
                cells[0] = Value::Text(company.into());
            }
        }
        rows.rows = bad;
        let outcomes = fixture.target.write(&fixture.spec, &rows).await.unwrap();
        assert_eq!(
            class(&outcomes[0]),
            Some(ErrorClass::Mapping),
            "{outcomes:?}"
        );
        assert_eq!(class(&outcomes[1]), None, "{outcomes:?}");
    }
    assert_eq!(
        fixture.endpoint.requests(),
        1,
        "the second time it is unchanged"
    );
}

#[tokio::test]
async fn a_wait_that_is_asked_for_reaches_the_failure() {
    let fixture = Fixture::new(SINGLE).await;
    let rows = [(1, 1, Some("x")), (2, 1, Some("y"))];
    fixture.endpoint.fail([Fault::Answer(
        500,
        "retry-after: 90",
        "{\"message\": \"soon\"}",
    )]);
    let outcomes = fixture.write(&rows).await.unwrap();
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            RowOutcome::Failed(cause) => Some((cause.retry_after, cause.message.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(failed.len(), 1, "{outcomes:?}");
    assert_eq!(failed[0].0, Some(Duration::from_secs(90)));
    assert!(
        failed[0]
            .1
            .ends_with("answered 500 Internal Server Error: soon"),
        "{}",
        failed[0].1
    );
}

#[tokio::test]
async fn the_endpoint_is_told_the_trace_of_what_it_is_sent() {
    const ONE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (http, told) in [
        // Three requests, in any order, and one for all.
        (SINGLE, vec![None, Some(ONE), Some(OTHER)]),
        (BATCH, vec![None]),
    ] {
        let fixture = Fixture::new(http).await;
        let mut three = batch(&[(1, 1, Some("a")), (2, 1, Some("b")), (3, 1, Some("c"))]);
        three.traces = [(0, ONE), (2, OTHER)]
            .map(|(row, of)| (row, of.parse().unwrap()))
            .into();
        fixture.target.write(&fixture.spec, &three).await.unwrap();
        let mut seen: Vec<_> = fixture
            .endpoint
            .inner()
            .seen
            .iter()
            .map(|seen| seen.trace.clone())
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            told.iter()
                .map(|told| told.map(str::to_owned))
                .collect::<Vec<_>>()
        );
    }
    // One for rows of one trace.
    let fixture = Fixture::new(BATCH).await;
    let mut two = batch(&[(1, 1, Some("a")), (2, 1, Some("b"))]);
    two.traces = [0, 1].map(|row| (row, ONE.parse().unwrap())).into();
    fixture.target.write(&fixture.spec, &two).await.unwrap();
    assert_eq!(fixture.endpoint.inner().seen[0].trace.as_deref(), Some(ONE));
}
