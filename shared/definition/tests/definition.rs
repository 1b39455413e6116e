//! What a file is read as, and what is said of a bad one.

#![cfg(test)]

use std::time::Duration;

use definition::{
    Auth, ConnectionKind, Definition, DeletePolicy, EventRule, FieldSource, MissingPolicy, Paging,
    Problem, PullMode, Scalar, Scheme, Severity, Text, WebhookMode,
};
use model::{ConnectionName, DataType, MapName, Op, VersionKind};

const FULL: &str = include_str!("samples/full.yaml");

/// A small good file, with one part exchanged.
fn file(from: &str, to: &str) -> String {
    const GOOD: &str = "\
connections:
  crm: { kind: odata, url: \"https://crm.example.com\" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  customers:
    from: { stream: crm.Accounts, key: Id, version: ModifiedAt }
    to: { stream: warehouse.customers, key: id }
    fields:
      id: Id
      name: Name
    pull: { every: 5m }
";
    assert!(GOOD.contains(from), "the good file has no `{from}`");
    GOOD.replacen(from, to, 1)
}

fn problems(text: &str) -> Vec<Problem> {
    Definition::read(text).problems
}

/// The only problem of a text, as `line:column code`, and all that is said of it.
fn only(text: &str) -> (String, String) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = &problems[0];
    let at = format!(
        "{}:{} {}",
        problem.place.line, problem.place.column, problem.code
    );
    (at, problem.to_string())
}

#[test]
fn every_key_is_read() {
    assert_eq!(problems(&file("", "")), [], "the small file is good");
    let reading = Definition::read(FULL);
    assert_eq!(reading.problems, []);
    let definition = reading.definition.unwrap();
    let connection = |name: &str| &definition.connections[&ConnectionName::new(name).unwrap()];
    let crm = connection("crm");
    assert_eq!(crm.kind, ConnectionKind::Odata);
    assert!(matches!(&crm.auth, Auth::OAuth2(oauth2) if oauth2.secret == "crm-client"));
    assert_eq!((crm.limits.concurrency, crm.limits.rate), (8, Some(50.0)));
    assert_eq!(connection("erp").url, Text::Secret("erp".into()));

    let map = |name: &str| &definition.maps[&MapName::new(name).unwrap()];
    let customers = map("customers");
    assert_eq!(customers.from.version.kind, VersionKind::Timestamp);
    assert_eq!(customers.fields.len(), 6);
    assert_eq!(customers.fields[0].ty, Some(DataType::Uuid));
    assert_eq!(
        customers.fields[2].source,
        FieldSource::Path(vec!["Address".into(), "City".into()])
    );
    assert_eq!(customers.fields[2].missing, MissingPolicy::Null);
    assert_eq!(customers.fields[3].default, Some(Scalar::Text("XX".into())));
    assert_eq!(customers.deletes.policy, DeletePolicy::Mark);
    assert_eq!(
        (customers.pull.every, customers.pull.mode),
        (Some(Duration::from_mins(5)), PullMode::Auto)
    );
    assert_eq!(
        (customers.load.slices, customers.load.by.as_deref()),
        (16, Some("CreatedAt"))
    );
    assert_eq!(customers.expect.failures_below, Some(0.01));
    let hook = customers.webhook.as_ref().unwrap();
    assert_eq!((hook.endpoint.as_str(), hook.secrets.len()), ("crm", 2));
    assert_eq!(hook.event, Some(EventRule::Header("X-Event".into())));
    assert_eq!(hook.delivery, Some(EventRule::Header("X-Delivery".into())));
    assert_eq!(hook.ops[0].op, Some(Op::Delete));
    assert!(matches!(&hook.scheme, Scheme::Hmac(hmac) if hmac.id.as_deref() == Some("X-Delivery")));

    let orders = map("orders");
    let rest = orders.from.rest.as_ref().unwrap();
    assert_eq!(
        rest.paging,
        Paging::Cursor {
            at: vec!["meta".into(), "next".into()],
            param: "cursor".into()
        }
    );
    assert_eq!(orders.webhook.as_ref().unwrap().mode, WebhookMode::Touch);
    assert!(orders.to.existing);
    assert_eq!(map("stock").to.http.as_ref().unwrap().batch, 100);
}

#[test]
fn a_changed_map_has_another_digest_and_its_neighbour_has_not() {
    let digests = |text: &str| -> Vec<String> {
        Definition::read(text)
            .definition
            .unwrap()
            .maps
            .values()
            .map(definition::Map::digest)
            .collect()
    };
    let (before, after) = (
        digests(FULL),
        digests(&FULL.replace("name: Name", "name: Title")),
    );
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(changed, 1);
}

#[test]
fn a_misspelt_key_has_its_place_and_a_suggestion() {
    let (at, text) = only(&file(
        "    fields:\n      id: Id",
        "    feilds: {}\n    fields:\n      id: Id",
    ));
    assert_eq!(at, "8:5 unknown-key");
    assert!(text.contains("did you mean `fields`?"), "{text}");
    let (at, text) = only(&file("version:", "vresion: x, version:"));
    assert_eq!(at, "6:44 unknown-key");
    assert!(text.contains("did you mean `version`?"), "{text}");
}

#[test]
fn all_problems_are_found_at_once() {
    let text = file("kind: odata", "kind: odatta")
        .replace("stream: warehouse.customers", "stream: warehose.customers");
    let codes: Vec<_> = problems(&text).iter().map(|problem| problem.code).collect();
    assert!(
        codes.contains(&"unknown-choice") && codes.contains(&"unknown-connection"),
        "{codes:?}"
    );
}

/// What to exchange in the good file, the code of the problem it makes, and a part of what is
/// said of it. An empty first part exchanges the whole file.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("", "maps: [", "yaml", ""),
    (
        "      name: Name",
        "      name: Name\n      name: Other",
        "yaml",
        "duplicated",
    ),
    (
        "stream: crm.Accounts",
        "stream: crn.Accounts",
        "unknown-connection",
        "did you mean `crm`?",
    ),
    (
        "stream: crm.Accounts",
        "stream: Accounts",
        "invalid-stream",
        "connection.entity",
    ),
    (
        "stream: warehouse.customers",
        "stream: crm.customers",
        "read-only-target",
        "cannot be written",
    ),
    (
        "stream: crm.Accounts",
        "stream: warehouse.x",
        "not-a-source",
        "cannot be read",
    ),
    (
        "      id: Id\n",
        "",
        "missing-key-column",
        "key column `id` is not among the fields",
    ),
    (
        "      id: Id",
        "      id: Number",
        "half-mapped-key",
        "must take a key field",
    ),
    (
        "key: Id",
        "key: [Id, Company]",
        "half-mapped-key",
        "source key has 2 field(s)",
    ),
    (
        "      id: Id",
        "      id: { from: Id, default: 0 }",
        "changed-key",
        "same key",
    ),
    (
        "      name: Name",
        "      name: { from: Name, expr: src.Name }",
        "ambiguous",
        "exactly one",
    ),
    (
        "      name: Name",
        "      name: { from: Name, type: string }",
        "unknown-type",
        "the types are",
    ),
    (
        "      name: Name",
        "      name: { from: Name/, type: text }",
        "invalid-path",
        "address/city",
    ),
    (
        "      name: Name",
        "      _syncline_version: Name",
        "reserved-name",
        "another name",
    ),
    (
        "      name: Name",
        "      name: Name\n      NAME: Name",
        "duplicate-column",
        "does not tell case apart",
    ),
    (
        "pull: { every: 5m }",
        "pull: { every: 5 minutes or so }",
        "invalid-duration",
        "30s, 5m",
    ),
    (
        "pull: { every: 5m }",
        "pull: { every: 10ms }",
        "out-of-range",
        "at least 1s",
    ),
    (
        "pull: { every: 5m }",
        "deletes: { brake: 120% }",
        "invalid-share",
        "0% to 100%",
    ),
    (
        "pull: { every: 5m }",
        "deletes: purge",
        "unknown-choice",
        "propagate, mark, ignore",
    ),
    (
        "url: \"https://crm.example.com\"",
        "url: crm.example.com",
        "invalid-url",
        "begins with https://",
    ),
    (
        "url: \"https://crm.example.com\"",
        "url: \"https://u:pw@crm\"",
        "literal-secret",
        "secret://name",
    ),
    (
        "url: \"https://crm.example.com\"",
        "url: \"https://c\", auth: { bearer: s3cret }",
        "literal-secret",
        "SYNCLINE_SECRET",
    ),
    (
        "url: \"https://crm.example.com\"",
        "url: \"https://c\", limits: { rate: 5 }",
        "invalid-rate",
        "50/s",
    ),
    (
        "pull:",
        "webhook: { scheme: unsigned }\n    pull:",
        "unsigned-webhook",
        "allow_unsigned",
    ),
    (
        "pull:",
        "webhook: { scheme: standard }\n    pull:",
        "missing-key",
        "`secret`",
    ),
    (
        "pull:",
        "webhook: { scheme: standard, secret: plain }\n    pull:",
        "literal-secret",
        "plain text",
    ),
    (
        "pull:",
        "webhook: { scheme: hmac, secret: secret://s, hmac: { header: X, signed: \"{id}\", id: Y } }\n    pull:",
        "weak-signature",
        "{body}",
    ),
    (
        "pull:",
        "webhook: { scheme: hmac, secret: secret://s, hmac: { header: X, signed: \"{timestamp}{body}\" } }\n    pull:",
        "missing-key",
        "timestamp",
    ),
    (
        "pull:",
        "webhook: { scheme: standard, secret: secret://s, ops: { a: upsert } }\n    pull:",
        "missing-key",
        "`event`",
    ),
    (
        "    pull: { every: 5m }",
        "    webhook: { scheme: standard, secret: secret://s }",
        "webhook-only",
        "pulls make it right",
    ),
    (
        "  warehouse:",
        "  spare: { kind: sqlite, url: x.db }\n  warehouse:",
        "unused-connection",
        "not used",
    ),
];

#[test]
fn the_pre_flight_checks() {
    for (from, to, code, said) in CASES {
        let text = if from.is_empty() {
            (*to).to_owned()
        } else {
            file(from, to)
        };
        let found = problems(&text);
        let problem = found.iter().find(|problem| problem.code == *code);
        let problem = problem.unwrap_or_else(|| panic!("no {code} in {found:#?}"));
        assert!(problem.to_string().contains(said), "{problem}");
        assert!(problem.place.line > 0);
    }
}

#[test]
fn a_name_that_postgresql_would_cut_off_is_refused() {
    let long = "n".repeat(64);
    let text = file("      name: Name", &format!("      {long}: Name"));
    assert_eq!(problems(&text), [], "SQLite takes it");
    let text = text.replace(
        "kind: sqlite, url: warehouse.db",
        "kind: postgres, url: secret://w",
    );
    let (at, said) = only(&text);
    assert!(
        at.ends_with("long-name") && said.contains("63 bytes"),
        "{said}"
    );
}

#[test]
fn two_names_for_one_database_do_not_hide_a_shared_table() {
    let second = "
  others:
    from: { stream: crm.Others, key: Id, version: V }
    to: { stream: again.customers, key: id }
    fields: { id: Id }
    pull: { every: 5m }
";
    let again = "  warehouse: { kind: sqlite, url: warehouse.db }\n  again:";
    let text = file("  warehouse:", again) + second;
    let (at, said) = only(&text);
    assert!(at.ends_with("duplicate-target"), "{said}");
}

#[test]
fn what_loses_changes_is_warned_of() {
    let hook = "webhook: { scheme: standard, secret: secret://s }\n    pull:";
    let text = file("pull:", hook).replace(", version: ModifiedAt", "");
    let (at, said) = only(&text);
    assert!(
        at.ends_with("order-by-arrival") && said.contains("mode: touch"),
        "{said}"
    );
    let (at, said) = only(&file(
        "version: ModifiedAt",
        "version: ModifiedAt, where: \"a eq 1\"",
    ));
    assert!(
        at.ends_with("where-hides-changes") && said.contains("filter"),
        "{said}"
    );
    let reading = Definition::read(&text);
    assert!(
        reading.definition.is_some(),
        "a warning must not stop anything"
    );
    assert_eq!(reading.problems[0].severity, Severity::Warning);
}

#[test]
fn two_maps_must_not_fight_over_a_table_or_an_endpoint() {
    let second = "
  others:
    from: { stream: crm.Others, key: Id, version: V }
    to: { stream: warehouse.customers, key: id }
    fields: { id: Id }
    pull: { every: 5m }
    webhook: { endpoint: customers, scheme: github, secret: secret://other }
";
    let hook = "webhook: { scheme: standard, secret: secret://s }\n    pull:";
    let text = file("pull:", hook) + second;
    let codes: Vec<_> = problems(&text).iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["duplicate-target", "endpoint-conflict"]);
}

#[test]
fn a_problem_is_shown_with_its_line() {
    let text = file("kind: odata", "kind: odatta");
    let shown = problems(&text)[0].render("syncline.yaml", &text);
    assert_eq!(
        shown,
        "error[unknown-choice]: `odatta` is no `kind`\n  --> syncline.yaml:2:10 (connections.crm.kind)\n  |\n2 |   crm: { kind: odatta, url: \"https://crm.example.com\" }\n  |          ^\n  help: did you mean `odata`?\n"
    );
}

#[test]
fn an_empty_or_foreign_file_is_explained() {
    assert_eq!(only("").0, "1:1 empty-file");
    assert_eq!(only("[1, 2]").0, "1:1 wrong-type");
    let deep = "a: ".repeat(3) + &"[".repeat(20_000);
    assert!(!problems(&deep).is_empty());
}
