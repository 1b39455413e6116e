//! Tables and their indexes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    none,
    sources::{Files, quoted_after},
    template::{Template, Value},
};

/// Keys as `[hash, range]`.
type Keys = [String; 2];

const TESTS: &str = "shared/aws/tests/support/tables.rs";

fn keys(of: &Value) -> Keys {
    let key = |kind: &str| {
        let all = of.items("KeySchema");
        let key = all.iter().find(|key| key.text("KeyType") == kind);
        key.map(|key| key.text("AttributeName")).unwrap_or_default()
    };
    [key("HASH"), key("RANGE")]
}

/// An index: its keys, and what is projected besides.
type Index = (Keys, BTreeSet<String>);

fn declared(table: &Value) -> BTreeMap<String, Index> {
    let all = table.items("GlobalSecondaryIndexes").into_iter();
    all.map(|index| {
        let projected = index.texts("Projection.NonKeyAttributes");
        let index_of = (keys(index), projected.into_iter().collect());
        (index.text("IndexName"), index_of)
    })
    .collect()
}

/// The quoted texts of a piece of source.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// The indexes that the tests of the adapters make.
fn made_by_tests() -> BTreeMap<String, Index> {
    let files = Files::below("shared/aws/tests").0;
    let text = &files[TESTS];
    let (_, text) = text.split_once("const INDEXES").unwrap();
    let (text, _) = text.split_once("\n];").unwrap();
    let (_, text) = text.split_once("= [").unwrap();
    let one = |text: &str| -> (String, Index) {
        let words: Vec<String> = quoted(text).into_iter().map(str::to_owned).collect();
        let keys = [words[1].clone(), words[2].clone()];
        (
            words[0].clone(),
            (keys, words[3..].iter().cloned().collect()),
        )
    };
    text.split("\n    (").skip(1).map(one).collect()
}

/// Name, hash key and range key of the indexes that the failure store asks.
fn asked() -> BTreeSet<(String, String)> {
    let mut asked = BTreeSet::new();
    for text in Files::below("shared/aws/src/failures").0.values() {
        // `("by_map", "map_shard", …)` where an index is chosen, and the fields of a `Range`.
        for name in quoted_after(text, "(").filter(|name| name.starts_with("by_")) {
            for (_, after) in text
                .match_indices(&format!("(\"{name}\""))
                .map(|(at, _)| text.split_at(at))
            {
                asked.insert((name.to_owned(), quoted(after)[1].to_owned()));
            }
        }
        for (at, _) in text.match_indices("index: \"by_") {
            let words = quoted(&text[at..]);
            asked.insert((words[0].to_owned(), words[1].to_owned()));
        }
    }
    asked
}

#[test]
fn both_tables_have_the_keys_of_the_code() {
    let template = Template::read();
    let mut problems = Vec::new();
    for id in ["StateTable", "FailuresTable"] {
        let table = template.resource(id).properties();
        if keys(table) != ["pk", "sk"] {
            problems.push(format!(
                "{id}: its keys are {:?}, and have to be pk and sk",
                keys(table)
            ));
        }
        let mut used: BTreeSet<String> = keys(table).into();
        used.extend(declared(table).into_values().flat_map(|(keys, _)| keys));
        let attributes = table.items("AttributeDefinitions");
        let defined = attributes
            .iter()
            .map(|one| one.text("AttributeName"))
            .collect();
        if used != defined {
            problems.push(format!(
                "{id}: AttributeDefinitions has {defined:?}, and the keys are {used:?}"
            ));
        }
        for attribute in attributes
            .iter()
            .filter(|one| one.text("AttributeType") != "S")
        {
            let name = attribute.text("AttributeName");
            problems.push(format!(
                "{id}: the code writes `{name}` as text, so it has to be of type S"
            ));
        }
    }
    let ttl = |id| {
        let table = template.resource(id).properties();
        table.text("TimeToLiveSpecification.AttributeName")
    };
    if ttl("StateTable") != "ttl" {
        problems.push("StateTable: time to live has to be `ttl`, which the code writes".into());
    }
    if !ttl("FailuresTable").is_empty() {
        problems.push(
            "FailuresTable: it may have no time to live, what DynamoDB deletes is missing in the books".into(),
        );
    }
    none(&problems);
}

#[test]
fn the_tables_are_those_that_the_adapters_are_tested_with() {
    let template = Template::read();
    let made = made_by_tests();
    let failures = declared(template.resource("FailuresTable").properties());
    let mut problems = Vec::new();
    for name in made.keys().chain(failures.keys()).collect::<BTreeSet<_>>() {
        let (one, other) = (failures.get(name), made.get(name));
        if one != other {
            problems.push(format!(
                "FailuresTable, index {name}: the template has {one:?}, and {TESTS} has {other:?}"
            ));
        }
    }
    let state = declared(template.resource("StateTable").properties());
    if !state.is_empty() {
        problems.push(format!(
            "StateTable: {TESTS} makes no index, the template has {state:?}"
        ));
    }
    none(&problems);
}

#[test]
fn every_index_is_asked_and_every_one_that_is_asked_is_there() {
    let template = Template::read();
    let failures = declared(template.resource("FailuresTable").properties());
    let there: BTreeSet<(String, String)> = failures
        .into_iter()
        .map(|(name, ([hash, _], _))| (name, hash))
        .collect();
    let asked = asked();
    let mut problems = Vec::new();
    for (name, hash) in asked.difference(&there) {
        problems.push(format!(
            "shared/aws/src/failures asks the index {name} by `{hash}`, and FailuresTable has none such"
        ));
    }
    for (name, hash) in there.difference(&asked) {
        problems.push(format!(
            "FailuresTable has the index {name} by `{hash}`, and nothing in shared/aws/src/failures asks it"
        ));
    }
    none(&problems);
}
