//! What is said of webhooks.

#![cfg(test)]

use std::time::Duration;

use definition::{Definition, Reading};

/// A file with one map and its webhook.
fn read(key: &str, webhook: &str) -> Reading {
    Definition::read(&format!(
        "\
connections:
  crm: {{ kind: odata, url: \"https://crm.example.com\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
  customers:
    from: {{ stream: crm.Accounts, key: {key}, version: ModifiedAt }}
    to: {{ stream: warehouse.customers, key: {key} }}
    fields: {{ Id: Id, Company: Company }}
    pull: {{ every: 5m }}
    webhook: {{ {webhook} }}
"
    ))
}

#[test]
fn what_would_let_anybody_in_is_refused() {
    for (webhook, code, said) in [
        ("secret: secret://s", "missing-key", "`scheme`"),
        ("scheme: standard", "missing-key", "`secret`"),
        (
            "scheme: standard, secret: \"\"",
            "literal-secret",
            "secret://name",
        ),
        (
            "scheme: standard, secret: \"secret://\"",
            "invalid-name",
            "no name for a secret",
        ),
        ("scheme: standard, secret: []", "out-of-range", "one secret"),
        ("scheme: unsigned", "unsigned-webhook", "allow_unsigned"),
        (
            "scheme: unsigned, allow_unsigned: false",
            "unsigned-webhook",
            "allow_unsigned",
        ),
        (
            "scheme: unsigned, allow_unsigned: true, secret: secret://s",
            "useless-key",
            "has no secret",
        ),
        (
            "scheme: hmac, secret: secret://s, hmac: { header: X, timestamp: T }",
            "weak-signature",
            "{timestamp}",
        ),
    ] {
        let reading = read("Id", webhook);
        assert!(reading.definition.is_none(), "{webhook}");
        let found = &reading.problems;
        let problem = found.iter().find(|problem| problem.code == code);
        let problem = problem.unwrap_or_else(|| panic!("no {code} in {found:#?}"));
        assert!(problem.to_string().contains(said), "{problem}");
    }
    let spelled_out = read("Id", "scheme: unsigned, allow_unsigned: true");
    assert!(spelled_out.definition.is_some());
    assert_eq!(spelled_out.problems[0].code, "unsigned-webhook");
}

#[test]
fn a_dataverse_webhook_is_thin_and_names_one_identifier() {
    let dataverse = "scheme: dataverse, secret: secret://s";
    let codes = |key: &str, more: &str| -> Vec<&str> {
        let problems = read(key, &format!("{dataverse}{more}")).problems;
        problems.iter().map(|problem| problem.code).collect()
    };
    assert_eq!(codes("Id", ""), [""; 0]);
    assert_eq!(codes("Id", ", mode: full"), ["thin-webhook"]);
    assert_eq!(codes("[Id, Company]", ""), ["half-mapped-key"]);
    let named = ", key: { Id: InvoiceId, Company: LegalEntity }";
    assert_eq!(codes("[Id, Company]", named), [""; 0]);
    // With a place for the record it is no execution context.
    assert_eq!(codes("Id", ", mode: full, record: data"), [""; 0]);
}

#[test]
fn a_delivery_is_remembered_as_long_as_its_sender_tries() {
    let remembered = |webhook: &str| {
        let definition = read("Id", webhook).definition.unwrap();
        let map = definition.maps.into_values().next().unwrap();
        map.webhook.unwrap().remember
    };
    // The longest schedule that each sender documents, waits added up.
    let seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
    let standard = Duration::from_secs(seconds.into_iter().sum());
    let days = |days: u64| Duration::from_hours(days * 24);
    for (webhook, horizon) in [
        ("scheme: standard", standard),
        ("scheme: github", days(3)),
        ("scheme: stripe", days(3)),
        ("scheme: shopify", days(2)),
        ("scheme: event-grid", days(1)),
        ("scheme: cloud-events", days(1)),
        ("scheme: dataverse", Duration::from_mins(5)),
    ] {
        let remembered = remembered(&format!("{webhook}, secret: secret://s"));
        assert!(remembered > horizon, "{webhook}: {remembered:?}");
    }
    let own = remembered("scheme: header, header: X-Key, secret: secret://s, remember: 1h");
    assert_eq!(own, Duration::from_hours(1));
}
