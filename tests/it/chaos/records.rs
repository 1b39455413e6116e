//! Rows as they are written at the source: good ones, and those that break a rule of their target.

use fastrand::Rng;
use sample_crm::Set;
use serde_json::{Value, json};

/// Whether a row is one that the CRM spoilt.
pub(super) fn breaks_a_rule(set: Set, row: &Value) -> bool {
    match set {
        Set::Accounts => row["Name"].is_null(),
        Set::Contacts => row["Email"].as_str().is_some_and(|text| text.len() > 80),
        Set::Orders => row["Currency"] == "Taler" || row["Total"] == 1234.567,
    }
}

/// A new row, apart from what changes.
pub(super) fn blank(set: Set) -> Value {
    match set {
        Set::Accounts => json!({
            "AccountNumber": "A-9", "Name": "New", "ParentAccountId": null, "Country": "France",
            "CreditLimit": 1, "Address": { "City": "Lyon", "PostalCode": "69001" },
        }),
        Set::Contacts => json!({
            "AccountId": null, "FirstName": "New", "LastName": "One", "Email": "new@example.com",
            "Phone": null, "Birthday": "1990-01-01",
        }),
        Set::Orders => json!({
            "AccountId": null, "ContactId": null, "OrderDate": "2026-01-01", "Currency": "EUR",
            "Total": 1, "Status": "new",
        }),
    }
}

/// What makes any record good.
pub(super) fn correction(set: Set) -> Value {
    match set {
        Set::Accounts => json!({ "Name": "Corrected" }),
        Set::Contacts => json!({ "Email": "corrected@example.com" }),
        Set::Orders => json!({ "Currency": "EUR", "Total": 1234.56, "Status": "mended" }),
    }
}

/// A new state of a row.
pub(super) fn any_state(set: Set, random: &mut Rng) -> Value {
    let n = random.u32(..100_000);
    match set {
        Set::Accounts => json!({ "Name": format!("name {n}"), "CreditLimit": n }),
        Set::Contacts => json!({ "Email": format!("{n}@example.com"), "Phone": n.to_string() }),
        Set::Orders => json!({ "Currency": "EUR", "Total": n, "Status": format!("status {n}") }),
    }
}

/// One that breaks a rule: of the map, or of the target's own.
pub(super) fn bad_state(set: Set, random: &mut Rng) -> Value {
    match set {
        Set::Accounts => json!({ "Name": null }),
        Set::Contacts => json!({ "Email": format!("{}@example.com", "long.".repeat(30)) }),
        Set::Orders if random.bool() => json!({ "Currency": "Taler" }),
        Set::Orders => json!({ "Status": format!("odd {}", random.u32(..100_000)) }),
    }
}
