//! An OData v4 service that nobody here wrote: SAP CAP for Node on SQLite.
//!
//! Its links to further pages count rows (`$skiptoken=100`), are relative, and lead to an
//! empty page at the end at times; it knows no delta links and sends timestamps in
//! milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use http::Method;
use jiff::Timestamp;
use ports::{Next, ReadFrom, Source};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::support::{Deployment, Project, Served, ThirdParty, client, name};

/// Texts with which the service, the way there and the target could have trouble.
const TEXTS: [&str; 10] = [
    "O'Brien's",
    "a+b & c=d",
    "100%",
    "\"quoted\"",
    "村上春樹 😀",
    "back\\slash",
    "  ",
    "?#/;",
    "line\nbreak",
    "'' or 1=1 --",
];

/// A row, its numbers as they are written: a tree of values would round some of them.
type Row = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Page {
    value: Vec<Row>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

/// The service.
struct Cap {
    served: Served,
    client: reqwest::Client,
}

impl Cap {
    fn start() -> Self {
        Self {
            served: ThirdParty::new().serve(&["cap/start.mjs"]),
            client: client(),
        }
    }

    async fn get(&self, link: &str) -> Page {
        let url = format!("{}/{link}", self.served.url);
        let response = self.client.get(url).send().await.expect("an answer");
        assert!(response.status().is_success(), "{link}: {response:?}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// All rows of a set by their keys, as the service itself shows them.
    async fn all(&self, set: &str) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        let mut link = Some(set.to_owned());
        while let Some(at) = link {
            let page = self.get(&at).await;
            for row in page.value {
                rows.insert(text(&row["ID"]), row);
            }
            link = page.next;
        }
        rows
    }

    async fn write(&self, method: Method, path: &str, body: &Value) {
        let url = format!("{}/{path}", self.served.url);
        let request = self.client.request(method.clone(), url);
        let request = request.header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await;
        let response = response.expect("an answer");
        assert!(
            response.status().is_success(),
            "{method} {path} {body}: {}",
            response.text().await.unwrap()
        );
    }

    async fn patch(&self, set: &str, key: &str, change: &Value) {
        self.write(Method::PATCH, &format!("{set}({key})"), change)
            .await;
    }

    async fn delete(&self, set: &str, key: &str) {
        self.write(Method::DELETE, &format!("{set}({key})"), &Value::Null)
            .await;
    }
}

/// The content of a string, or anything else as it is written.
fn text(raw: &RawValue) -> String {
    match raw.get() {
        string if string.starts_with('"') => serde_json::from_str(string).unwrap(),
        other => other.to_owned(),
    }
}

/// How the target shows a value that the service shows as `raw`.
fn shown(raw: &RawValue, kind: &str) -> String {
    let text = text(raw);
    match kind {
        _ if raw.get() == "null" => text,
        "timestamp" => text.parse::<Timestamp>().unwrap().to_string(),
        "boolean" => u8::from(text == "true").to_string(),
        "number" => text.parse::<f64>().unwrap().to_string(),
        _ => text,
    }
}

/// Property, column and what kind of value it is.
type Fields = &'static [(&'static str, &'static str, &'static str)];

const AUTHORS: Fields = &[
    ("ID", "id", ""),
    ("name", "name", ""),
    ("born", "born", ""),
    ("country", "country", ""),
    ("notes", "notes", ""),
    ("createdAt", "created_at", "timestamp"),
    ("modifiedAt", "modified_at", "timestamp"),
    ("modifiedBy", "modified_by", ""),
];

const BOOKS: Fields = &[
    ("ID", "id", ""),
    ("title", "title", ""),
    ("author_ID", "author_id", ""),
    ("price", "price", "number"),
    ("weight", "weight", "number"),
    ("stock", "stock", ""),
    ("published", "published", ""),
    ("opens", "opens", ""),
    ("sold", "sold", "timestamp"),
    ("available", "available", "boolean"),
    ("modifiedAt", "modified_at", "timestamp"),
];

fn map(set: &str, fields: Fields, more: &str) -> String {
    let table = set.to_lowercase();
    let columns: Vec<String> = fields
        .iter()
        .map(|(property, column, _)| format!("{column}: {property}"))
        .collect();
    format!(
        "  {table}:
    from: {{ stream: shop.{set}, key: ID, version: modifiedAt }}
    to: {{ stream: warehouse.{table}, key: id }}
    fields: {{ {} }}
    pull: {{ every: 5m }}
    webhook: {{ scheme: unsigned, allow_unsigned: true, mode: touch }}
{more}",
        columns.join(", ")
    )
}

fn deployment(cap: &Cap, maps: &[String]) -> Deployment {
    let text = format!(
        "\
connections:
  shop: {{ kind: odata, url: \"{}\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
{}",
        cap.served.url,
        maps.concat()
    );
    Deployment::open(Project::new(&text))
}

/// Both sets; books in slices.
fn both() -> [String; 2] {
    [
        map("Authors", AUTHORS, ""),
        map("Books", BOOKS, "    load: { slices: 4 }\n"),
    ]
}

/// Rows of a set as the target should have them, by key.
fn expected(rows: &BTreeMap<String, Row>, fields: Fields) -> BTreeMap<String, Vec<String>> {
    let row = |row: &Row| -> Vec<String> {
        fields
            .iter()
            .map(|(property, _, kind)| shown(&row[*property], kind))
            .collect()
    };
    rows.iter()
        .map(|(key, value)| (key.clone(), row(value)))
        .collect()
}

/// Rows of a table, by key.
fn found(deployment: &Deployment, table: &str, fields: Fields) -> BTreeMap<String, Vec<String>> {
    let columns: Vec<&str> = fields.iter().map(|(_, column, _)| *column).collect();
    let sql = format!("SELECT {} FROM {table}", columns.join(", "));
    let rows = deployment.query(&sql);
    let count = rows.len();
    let by_key: BTreeMap<_, _> = rows.into_iter().map(|row| (row[0].clone(), row)).collect();
    assert_eq!(by_key.len(), count, "no key is there twice");
    by_key
}

/// Asserts that a table has what the service shows, and besides it only `gone`.
async fn assert_same(
    cap: &Cap,
    deployment: &Deployment,
    set: &str,
    fields: Fields,
    gone: &BTreeSet<String>,
) {
    let wanted = expected(&cap.all(set).await, fields);
    let mut there = found(deployment, &set.to_lowercase(), fields);
    there.retain(|key, _| !gone.contains(key));
    for (key, row) in &wanted {
        assert_eq!(there.get(key), Some(row), "{set}({key})");
    }
    let extra: Vec<_> = there
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .collect();
    assert_eq!(extra, Vec::<&String>::new(), "only in the target");
}

/// Writes of every kind, as any client would make them; returns the keys that are deleted.
async fn change(cap: &Cap, random: &mut Rng) -> [BTreeSet<String>; 2] {
    let authors: Vec<String> = cap.all("Authors").await.into_keys().collect();
    let books: Vec<String> = cap.all("Books").await.into_keys().collect();
    let mut gone = [BTreeSet::new(), BTreeSet::new()];
    for round in 0..40 {
        let said = TEXTS[round % TEXTS.len()];
        let author = &authors[random.usize(..authors.len())];
        let book = &books[random.usize(..books.len())];
        if !gone[0].contains(author) {
            let change = json!({ "name": said, "country": null, "born": "1999-12-31" });
            cap.patch("Authors", author, &change).await;
        }
        if !gone[1].contains(book) {
            let price = random.i32(-99_999..99_999);
            let change = json!({ "title": said, "price": f64::from(price) / 100.0, "author_ID": author, "stock": null });
            cap.patch("Books", book, &change).await;
        }
        let new = json!({ "ID": random.i32(100_000..), "title": said, "price": 0.1, "sold": "2026-07-01T00:00:00.001Z" });
        cap.write(Method::POST, "Books", &new).await;
        cap.write(Method::POST, "Authors", &json!({ "name": said }))
            .await;
        if round % 5 == 0 {
            let old = &books[random.usize(..books.len())];
            if gone[1].insert(old.clone()) {
                cap.delete("Books", old).await;
            }
        }
        if round % 10 == 0 && gone[0].insert(author.clone()) {
            cap.delete("Authors", author).await;
        }
    }
    gone
}

#[tokio::test]
async fn it_is_loaded_pulled_and_swept() {
    let cap = Cap::start();
    let deployment = deployment(&cap, &both());
    deployment.load_all().await;
    let none = BTreeSet::new();
    assert_same(&cap, &deployment, "Authors", AUTHORS, &none).await;
    assert_same(&cap, &deployment, "Books", BOOKS, &none).await;
    assert_eq!(
        deployment.query("SELECT (SELECT count(*) FROM authors), (SELECT count(*) FROM books)"),
        [["500", "1500"]]
    );

    let mut random = Rng::with_seed(3);
    for _ in 0..3 {
        let [authors, books] = change(&cap, &mut random).await;
        deployment.pull(&["authors", "books"]).await;
        // A pull by cursor does not see deletes; a load does.
        assert_same(&cap, &deployment, "Authors", AUTHORS, &authors).await;
        assert_same(&cap, &deployment, "Books", BOOKS, &books).await;
        deployment.load_all().await;
        assert_same(&cap, &deployment, "Authors", AUTHORS, &none).await;
        assert_same(&cap, &deployment, "Books", BOOKS, &none).await;
    }
    for map in ["authors", "books"] {
        assert_eq!(deployment.failures(map).await, []);
    }
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn records_are_read_singly() {
    let cap = Cap::start();
    let deployment = deployment(&cap, &both());
    deployment.load_all().await;
    for set in ["Authors", "Books"] {
        let keys: Vec<String> = cap.all(set).await.into_keys().collect();
        for (at, key) in keys.iter().step_by(9).take(50).enumerate() {
            let label = if set == "Books" { "title" } else { "name" };
            if at % 10 == 0 {
                cap.delete(set, key).await;
            } else {
                let change = json!({ label: format!("{at} {}", TEXTS[at % TEXTS.len()]) });
                cap.patch(set, key, &change).await;
            }
            let id = if set == "Books" {
                json!(key.parse::<i64>().unwrap())
            } else {
                json!(key.to_uppercase())
            };
            let thin = json!({ "ID": id }).to_string();
            let (status, answer) = deployment
                .post(&set.to_lowercase(), &[], thin.as_bytes())
                .await;
            assert_eq!(status, 202, "{answer}");
        }
    }
    deployment.settle().await;
    let none = BTreeSet::new();
    assert_same(&cap, &deployment, "Authors", AUTHORS, &none).await;
    assert_same(&cap, &deployment, "Books", BOOKS, &none).await;
}

#[tokio::test]
async fn a_condition_arrives_as_it_was_written() {
    let cap = Cap::start();
    let condition = "(contains(name,'O''Brien') or contains(name,'a&b=c+d') or contains(name,'50% off') or contains(name,'村上') or contains(name,'\\\\')) and modifiedAt ge 2026-01-01T00:00:02+00:00";
    let filtered = map("Authors", AUTHORS, "").replace(
        "version: modifiedAt",
        &format!("version: modifiedAt, where: \"{condition}\""),
    );
    let deployment = deployment(&cap, &[filtered]);
    deployment.load_all().await;
    let mut wanted = cap.all("Authors").await;
    wanted.retain(|_, row| {
        let name = text(&row["name"]);
        let parts = ["O'Brien", "a&b=c+d", "50% off", "村上", "\\"];
        parts.iter().any(|part| name.contains(part))
            && text(&row["modifiedAt"]).as_str() >= "2026-01-01T00:00:02"
    });
    assert!(wanted.len() > 100, "{}", wanted.len());
    let there = found(&deployment, "authors", AUTHORS);
    assert_eq!(there, expected(&wanted, AUTHORS));

    let key = wanted.keys().next().unwrap();
    cap.patch("Authors", key, &json!({ "name": "O'Brien + sons" }))
        .await;
    deployment.pull(&["authors"]).await;
    let names = deployment.query(&format!("SELECT name FROM authors WHERE id = '{key}'"));
    assert_eq!(names, [["O'Brien + sons"]]);
}

/// Reads to the end from a place; `between` is done after each page with the keys read so far.
async fn read(
    source: &dyn Source,
    from: ReadFrom<'_>,
    mut between: impl AsyncFnMut(&[String]),
) -> Vec<String> {
    let mut keys = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..200 {
        let page = source.read(from, cursor.as_deref()).await.unwrap();
        for record in &page.records {
            let row: Row = serde_json::from_slice(&record.raw).unwrap();
            keys.push(text(&row["ID"]));
        }
        match page.next {
            Next::Page(next) => cursor = Some(next),
            Next::End(_) => return keys,
        }
        between(&keys).await;
    }
    panic!("it never ends");
}

#[tokio::test]
async fn what_is_deleted_during_a_load_hides_no_other_row() {
    let cap = Cap::start();
    let deployment = deployment(&cap, &both());
    for (set, most) in [("Authors", 500), ("Books", 1_500)] {
        let map = name(&set.to_lowercase());
        let source = deployment
            .home
            .operations
            .systems
            .source(&map)
            .await
            .unwrap();
        let mut deleted = BTreeSet::new();
        let read = read(source.as_ref(), ReadFrom::Rows(None), async |keys| {
            for key in keys.iter().rev().step_by(7).take(5) {
                if deleted.insert(key.clone()) {
                    cap.delete(set, key).await;
                }
            }
        })
        .await;
        let read: BTreeSet<String> = read.into_iter().collect();
        let hidden: Vec<String> = cap.all(set).await.into_keys().collect();
        let hidden: Vec<_> = hidden.iter().filter(|key| !read.contains(*key)).collect();
        assert_eq!(hidden, Vec::<&String>::new(), "{set}");
        assert!(deleted.len() >= 15, "{set}: {} deleted", deleted.len());
        assert_eq!(read.len(), most);
    }
}

#[tokio::test]
async fn what_changes_during_a_pull_hides_no_other_change() {
    let cap = Cap::start();
    let deployment = deployment(&cap, &both());
    let books = name("books");
    let source = deployment
        .home
        .operations
        .systems
        .source(&books)
        .await
        .unwrap();
    let mark = source.low_water().await.unwrap().mark.unwrap();
    let keys: Vec<String> = cap.all("Books").await.into_keys().collect();
    let changed: BTreeSet<&String> = keys.iter().take(330).collect();
    for key in &changed {
        cap.patch("Books", key, &json!({ "title": "changed" }))
            .await;
    }
    let mut moved = 0;
    let read = read(source.as_ref(), ReadFrom::Mark(&mark), async |keys| {
        // Not for ever: each of them comes again at the end.
        if moved < 30 {
            let changed = keys.iter().rev().filter(|key| changed.contains(*key));
            for key in changed.step_by(9).take(10) {
                moved += 1;
                cap.patch("Books", key, &json!({ "title": "changed again" }))
                    .await;
            }
        }
    })
    .await;
    assert!(moved >= 30, "{moved} moved");
    let read: BTreeSet<&String> = read.iter().collect();
    let hidden: Vec<&String> = changed.difference(&read).copied().collect();
    assert_eq!(hidden, Vec::<&String>::new());
}
