//! Records that are not what they should be, in pages: each becomes one failure that says
//! which record it is and what to do, and its neighbours land.

use std::fmt::Write as _;

use model::{ErrorClass, MapState};
use sample_crm::Set;
use serde_json::json;

use crate::support::{DEMO, Deployment, Project, Service, assert_equal, name, small_crm};

/// A map of things with a column of every kind, on a service that always has one page.
fn things(service: &Service) -> Project {
    const THINGS: &str = "\
connections:
  shop: { kind: odata, url: {url} }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  things:
    from: { stream: shop.Things, key: Id, version: Rev }
    to: { stream: warehouse.things, key: id }
    fields:
      id: { from: Id, type: text }
      name: { from: Name, type: text, missing: \"null\" }
      count: { from: Count, type: integer, missing: \"null\" }
      price: { from: Price, type: \"decimal(10,2)\", missing: \"null\" }
      day: { from: Day, type: date, missing: \"null\" }
      at: { from: At, type: timestamp, missing: \"null\" }
      on: { from: On, type: boolean, missing: \"null\" }
      uid: { from: Uid, type: uuid, missing: \"null\" }
      more: { from: More, type: json, missing: \"null\" }
    pull: { every: 5m, mode: cursor }
";
    Project::new(&THINGS.replace("{url}", &service.url()))
}

/// Loads a page of these records between two good ones; the good ones have to land.
async fn load(records: &[&[u8]]) -> (Deployment, Service) {
    let good = [
        &br#"{"Id":"first","Rev":1}"#[..],
        br#"{"Id":"last","Rev":1}"#,
    ];
    let all: Vec<&[u8]> = [&good[..1], records, &good[1..]].concat();
    let page = [b"{\"value\":[", &all.join(&b","[..])[..], b"]}"].concat();
    let service = Service::of_page(page).await;
    let deployment = Deployment::open(things(&service));
    deployment.load(&["things"]).await;
    assert_eq!(deployment.state("things").await, MapState::Running);
    let landed =
        deployment.query("SELECT id FROM things WHERE id IN ('first', 'last') ORDER BY id");
    assert_eq!(landed, [["first"], ["last"]]);
    deployment.assert_balanced().await;
    (deployment, service)
}

/// A record, the code and the field of its failure, and a part of what is said of it.
type Case = (&'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        r#"{"Id":"x","Rev":1,"Count":"many"}"#,
        "wrong-type",
        "count",
        "the value is no",
    ),
    (
        r#"{"Id":"x","Rev":1,"Count":{"n":1}}"#,
        "wrong-type",
        "count",
        "is no integer",
    ),
    (
        r#"{"Id":"x","Rev":1,"Count":4294967296}"#,
        "overflow",
        "count",
        "2147483647",
    ),
    (
        r#"{"Id":"x","Rev":1,"Count":99999999999999999999}"#,
        "overflow",
        "count",
        "64 bits",
    ),
    (
        r#"{"Id":"x","Rev":1,"Count":1.5}"#,
        "precision-loss",
        "count",
        "allow rounding",
    ),
    (
        r#"{"Id":"x","Rev":1,"Count":1e999999999}"#,
        "wrong-type",
        "count",
        "is no number",
    ),
    (
        r#"{"Id":"x","Rev":1,"Price":123456789.01}"#,
        "overflow",
        "price",
        "decimal(10,2)",
    ),
    (
        r#"{"Id":"x","Rev":1,"Price":1.005}"#,
        "precision-loss",
        "price",
        "2 decimal places",
    ),
    (
        r#"{"Id":"x","Rev":1,"Price":"NaN"}"#,
        "wrong-type",
        "price",
        "is no number",
    ),
    (
        r#"{"Id":"x","Rev":1,"Day":"2026-02-30"}"#,
        "wrong-type",
        "day",
        "is no date",
    ),
    (
        r#"{"Id":"x","Rev":1,"Day":"0000-00-00"}"#,
        "wrong-type",
        "day",
        "is no date",
    ),
    (
        r#"{"Id":"x","Rev":1,"At":"2026-13-01T00:00:00Z"}"#,
        "wrong-type",
        "at",
        "is no timestamp",
    ),
    (
        r#"{"Id":"x","Rev":1,"At":"2026-01-01T25:00:00Z"}"#,
        "wrong-type",
        "at",
        "is no timestamp",
    ),
    (
        r#"{"Id":"x","Rev":1,"On":"perhaps"}"#,
        "wrong-type",
        "on",
        "is no boolean",
    ),
    (
        r#"{"Id":"x","Rev":1,"Uid":"US-001"}"#,
        "wrong-type",
        "uid",
        "is no uuid",
    ),
    (
        r#"{"Id":"x","Rev":1,"Name":"\ud800"}"#,
        "malformed-text",
        "name",
        "is no text",
    ),
    (
        r#"{"Id":"x","Rev":1,"Name":"a","Name":"b"}"#,
        "duplicate-field",
        "Name",
        "`Name` twice",
    ),
    (
        r#"{"Id":"x","Rev":"today"}"#,
        "bad-version",
        "Rev",
        "`version: { field: Rev, kind: … }`",
    ),
];

#[tokio::test]
async fn a_value_that_does_not_convert_fails_alone_with_its_key_and_field() {
    let records: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(at, (record, ..))| record.replace("\"x\"", &format!("\"x{at}\"")))
        .collect();
    let bytes: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
    let (deployment, _service) = load(&bytes).await;
    let mut failures = deployment.failures("things").await;
    failures.sort_by_key(|failure| {
        let key = failure.key.clone().unwrap_or_default();
        key.trim_start_matches('x').parse::<usize>().ok()
    });
    assert_eq!(failures.len(), CASES.len());
    for (at, ((_, code, field, said), failure)) in CASES.iter().zip(&failures).enumerate() {
        let cause = &failure.cause;
        assert_eq!(failure.key.as_deref(), Some(format!("x{at}").as_str()));
        assert_eq!(
            (cause.code.as_str(), cause.field.as_deref()),
            (*code, Some(*field)),
            "{at}"
        );
        assert_eq!(cause.class, ErrorClass::Mapping);
        assert!(cause.message.contains(said), "{at}: {}", cause.message);
        // A list of failures is no place for what may be somebody's data.
        if let Some(value) = &cause.value {
            assert!(records[at].contains(value), "{at}: {value}");
            assert!(!cause.message.contains(value), "{at}: {}", cause.message);
        }
        assert_eq!(failure.raw, records[at], "the record is kept as it came");
    }
    assert_eq!(deployment.query("SELECT count(*) FROM things"), [["2"]]);
}

#[tokio::test]
async fn what_is_no_record_is_a_failure_too() {
    let (deployment, _service) = load(&[
        b"17",
        b"null",
        b"[{\"Id\":\"in a list\"}]",
        b"\"Id\"",
        b"{}",
        br#"{"Id":null,"Rev":1}"#,
        br#"{"Id":{"a":1},"Rev":1}"#,
    ])
    .await;
    let failures = deployment.failures("things").await;
    let codes: Vec<&str> = failures
        .iter()
        .map(|failure| failure.cause.code.as_str())
        .collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "field-missing",
            "malformed-record",
            "malformed-record",
            "malformed-record",
            "malformed-record",
            "required-null"
        ]
    );
    // A structure under the key is text like any other: it lands, and can be found by it.
    let odd = deployment.query("SELECT id FROM things WHERE id LIKE '{%'");
    assert_eq!(odd, [[r#"{"a":1}"#]]);
}

#[tokio::test]
async fn a_record_in_another_encoding_fails_alone_and_nothing_is_guessed() {
    let (deployment, _service) = load(&[
        b"{\"Id\":\"latin\",\"Rev\":1,\"Name\":\"M\xfcller\"}",
        b"{\"Id\":\"fine\",\"Rev\":1,\"Name\":\"M\xc3\xbcller\",\"Unused\":\"\xff\xfe\"}",
    ])
    .await;
    let failures = deployment.failures("things").await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].cause.code, "malformed-record");
    assert_eq!(
        failures[0].key.as_deref(),
        Some("latin"),
        "its key can be read all the same"
    );
    assert_eq!(
        deployment.query("SELECT name FROM things WHERE id = 'fine'"),
        [["Müller"]]
    );
}

#[tokio::test]
async fn keys_that_look_alike_are_different_keys() {
    let (deployment, _service) = load(&[
        br#"{"Id":"a","Rev":1,"Count":1}"#,
        br#"{"Id":"A","Rev":1,"Count":2}"#,
        br#"{"Id":"a ","Rev":1,"Count":3}"#,
        br#"{"Id":" a","Rev":1,"Count":4}"#,
        br#"{"Id":"","Rev":1,"Count":5}"#,
        br#"{"Id":"a\u0000","Rev":1,"Count":6}"#,
        br#"{"Id":"a,b\\","Rev":1,"Count":7}"#,
    ])
    .await;
    assert_eq!(deployment.failures("things").await, []);
    let counts = deployment.query("SELECT count FROM things WHERE count > 0 ORDER BY count");
    assert_eq!(counts.concat(), ["1", "2", "3", "4", "5", "6", "7"]);
    // Loaded again, each finds itself and nothing is a tie.
    let before = deployment.books("things").await.outcomes;
    deployment.load(&["things"]).await;
    let after = deployment.books("things").await.outcomes;
    assert_eq!((after.applied, after.failed), (before.applied, 0));
    assert_eq!(deployment.query("SELECT count(*) FROM things"), [["9"]]);
}

#[tokio::test]
async fn a_record_that_is_nested_without_end_is_a_value_like_any_other() {
    let depth = 100_000;
    let deep = "[".repeat(depth) + &"]".repeat(depth);
    let needed = format!(r#"{{"Id":"needed","Rev":1,"More":{deep}}}"#);
    let unneeded = format!(r#"{{"Id":"unneeded","Rev":1,"Other":{deep}}}"#);
    let wrong = format!(r#"{{"Id":"wrong","Rev":1,"Count":{deep}}}"#);
    let bytes = [needed.as_bytes(), unneeded.as_bytes(), wrong.as_bytes()];
    let (deployment, _service) = load(&bytes).await;
    let failures = deployment.failures("things").await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].key.as_deref(), Some("wrong"));
    assert!(
        failures[0].cause.message.len() < 300,
        "what is quoted is short"
    );
    let lengths = deployment.query("SELECT length(more) FROM things WHERE id = 'needed'");
    assert_eq!(lengths, [[(2 * depth).to_string()]]);
}

#[tokio::test]
async fn text_with_control_characters_and_very_long_text_arrive_whole() {
    let long = "ä".repeat(500_000);
    let long = format!(r#"{{"Id":"long","Rev":1,"Name":"{long}"}}"#);
    let mut odd = String::from(r#"{"Id":"odd","Rev":1,"Name":""#);
    for code in 0..32 {
        write!(odd, "\\u{code:04x}").unwrap();
    }
    odd.push_str("\u{7f}\u{feff}\u{202e}\"}");
    let (deployment, _service) = load(&[long.as_bytes(), odd.as_bytes()]).await;
    assert_eq!(deployment.failures("things").await, []);
    let sizes = deployment
        .query("SELECT length(CAST(name AS BLOB)) FROM things WHERE name IS NOT NULL ORDER BY id");
    assert_eq!(sizes, [["1000000"], ["39"]]);
}

/// Blobs that stand for messages.
fn blobs(deployment: &Deployment) -> i64 {
    let store = deployment.project.database(".syncline/syncline.db");
    let count = store.query_row("SELECT count(*) FROM blobs", [], |row| row.get(0));
    count.unwrap()
}

#[tokio::test]
async fn a_huge_record_travels_beside_the_queue_and_leaves_nothing_there() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(5_000_000)
        .collect();
    crm.write(Set::Orders, "100001", &json!({ "Status": noise }));
    crm.write(
        Set::Orders,
        "100002",
        &json!({ "Status": noise[..1_500_000], "Currency": "Taler" }),
    );
    crm.write(Set::Orders, "100003", &json!({ "Status": "small" }));
    deployment
        .home
        .operations
        .pull(&name("orders"))
        .await
        .unwrap();
    let mut largest = 0;
    while local::deliver_visible(&deployment.home).await > 0 {
        largest = largest.max(blobs(&deployment));
    }
    assert!(
        largest > 0,
        "it went through a queue that takes no such message"
    );
    let failures = deployment.failures("orders").await;
    assert_eq!(
        (failures.len(), failures[0].key.as_deref()),
        (1, Some("100002"))
    );
    assert!(failures[0].raw.len() > 1_500_000, "it is kept whole");

    let merge = operations::Edit::merge(r#"{"Currency":"EUR"}"#).unwrap();
    let one = operations::Selection::One(failures[0].id.to_string());
    let operations = &deployment.home.operations;
    operations.edit_failures(&one, &merge).await.unwrap();
    operations.retry_failures(&one).await.unwrap();
    deployment.run_dry().await;
    crm.write(Set::Orders, "100002", &json!({ "Currency": "EUR" }));
    deployment.pull(&["orders"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    assert_eq!(blobs(&deployment), 0);
}

#[tokio::test]
async fn an_answer_that_is_too_large_says_what_to_do() {
    let mut page = b"{\"value\":[]".to_vec();
    page.resize(65 * 1024 * 1024, b' ');
    page.push(b'}');
    let service = Service::of_page(page).await;
    let deployment = Deployment::open(things(&service));
    deployment
        .home
        .operations
        .load(&name("things"))
        .await
        .unwrap();
    deployment.settle().await;
    let status = deployment.status("things").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, MapState::Broken);
    assert!(
        reason.contains("more than 64 MiB") && reason.contains("pull.page_size"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_expression_that_fails_on_one_record_fails_for_that_record() {
    let crm = small_crm().await;
    let key = crm.keys(Set::Accounts)[4].clone();
    crm.write(Set::Accounts, &key, &json!({ "CreditLimit": "a lot" }));
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", &crm.url())));
    deployment.load_all().await;
    let failures = deployment.failures("accounts").await;
    assert_eq!((failures.len(), failures[0].key.as_ref()), (1, Some(&key)));
    crm.write(Set::Accounts, &key, &json!({ "CreditLimit": 7 }));
    deployment.pull(&["accounts"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
}
