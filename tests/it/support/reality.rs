//! What a target should hold, worked out from the source without any code of Syncline's.

use rusqlite::Connection;
use sample_crm::{SampleCrm, Set};
use serde_json::Value;

use super::deployment::query;

/// A set, its query in the target, and what a row of the source should be there.
type Mapped = (Set, &'static str, fn(&Value) -> Vec<String>);

/// The maps of the demo.
const MAPPED: [Mapped; 3] = [
    (
        Set::Accounts,
        "SELECT id, number, name, parent_id, country, city, credit_limit, credit_class FROM accounts ORDER BY id",
        account,
    ),
    (
        Set::Contacts,
        "SELECT id, account_id, first_name, last_name, email, phone, birthday FROM contacts ORDER BY id",
        contact,
    ),
    (
        Set::Orders,
        "SELECT order_no, account_id, contact_id, ordered_on, currency, total, status FROM orders ORDER BY order_no",
        order,
    ),
];

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// SQLite gives a decimal as the shortest number that is equal to it.
fn amount(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "null".to_owned(), |n| n.to_string())
}

fn account(row: &Value) -> Vec<String> {
    let country = match row["Country"].as_str() {
        Some("Germany") => "DE",
        Some("France") => "FR",
        Some("Netherlands") => "NL",
        Some("Denmark") => "DK",
        Some("Spain") => "ES",
        Some("Italy") => "IT",
        Some("Poland") => "PL",
        Some("Austria") => "AT",
        Some("Switzerland") => "CH",
        _ => "XX",
    };
    let class = if row["CreditLimit"].as_f64() >= Some(50_000.0) {
        "A"
    } else {
        "B"
    };
    vec![
        text(&row["AccountId"]),
        text(&row["AccountNumber"]),
        text(&row["Name"]),
        text(&row["ParentAccountId"]),
        country.to_owned(),
        text(&row["Address"]["City"]),
        amount(&row["CreditLimit"]),
        class.to_owned(),
    ]
}

fn contact(row: &Value) -> Vec<String> {
    [
        "ContactId",
        "AccountId",
        "FirstName",
        "LastName",
        "Email",
        "Phone",
        "Birthday",
    ]
    .map(|field| text(&row[field]))
    .into()
}

fn order(row: &Value) -> Vec<String> {
    vec![
        text(&row["OrderNo"]),
        text(&row["AccountId"]),
        text(&row["ContactId"]),
        text(&row["OrderDate"]),
        text(&row["Currency"]),
        amount(&row["Total"]),
        text(&row["Status"]),
    ]
}

/// Rows that are only in the source, or only in the target, or differ.
pub(crate) fn differences(crm: &SampleCrm, warehouse: &Connection) -> Vec<String> {
    let of = |set: &Set| differences_of(*set, crm, warehouse);
    Set::ALL.iter().flat_map(of).collect()
}

/// The same for one set.
pub(crate) fn differences_of(set: Set, crm: &SampleCrm, warehouse: &Connection) -> Vec<String> {
    compare(set, crm, query(warehouse, query_of(set)))
}

/// What asks a target for the rows of a set.
pub(crate) fn query_of(set: Set) -> &'static str {
    let mut mapped = MAPPED.into_iter();
    mapped
        .find(|(of, ..)| *of == set)
        .map_or("", |(_, sql, _)| sql)
}

/// The same for the rows that a target has of a set.
pub(crate) fn compare(set: Set, crm: &SampleCrm, mut there: Vec<Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (_, _, expected) in MAPPED.into_iter().filter(|(of, ..)| *of == set) {
        let mut wanted: Vec<Vec<String>> = crm.rows(set).iter().map(expected).collect();
        wanted.sort();
        there.sort();
        found.extend(
            wanted
                .iter()
                .filter(|row| there.binary_search(row).is_err())
                .map(|row| format!("only in the source: {row:?}")),
        );
        found.extend(
            there
                .iter()
                .filter(|row| wanted.binary_search(row).is_err())
                .map(|row| format!("only in the target: {row:?}")),
        );
        if wanted.len() != there.len() {
            found.push(format!(
                "{} rows in {}, {} in its table",
                wanted.len(),
                set.name(),
                there.len()
            ));
        }
    }
    found
}

/// Asserts that the target holds exactly what the source does.
pub(crate) fn assert_equal(crm: &SampleCrm, warehouse: &Connection) {
    let found = differences(crm, warehouse);
    assert!(
        found.is_empty(),
        "{} differences: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
}
