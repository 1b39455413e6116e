//! The published schema and the reader of files, held against each other.

#![cfg(test)]

use definition::{Definition, JSON_SCHEMA, Severity};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Value, json};

/// What only shows when the parts of a file are held against each other, or when a text is
/// looked at closely, which a schema cannot do.
const BEYOND_A_SCHEMA: &[&str] = &[
    "unknown-connection",
    "half-mapped-key",
    "missing-key-column",
    "unknown-key-field",
    "no-delete-request",
    "weak-signature",
];

/// Changes whose trouble is the kind of a connection, which is said elsewhere in the file.
fn depends_on_a_connection(what: &str) -> bool {
    what.ends_with("/from/rest taken away") || what.ends_with("/to/http taken away")
}

fn convert(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(value)) => value.as_ref().into(),
        Yaml::Sequence(list) => list.iter().map(convert).collect(),
        Yaml::Mapping(map) => map
            .iter()
            .map(|(key, value)| (key.as_str().unwrap().to_owned(), convert(value)))
            .collect(),
        _ => Value::Null,
    }
}

fn full() -> Value {
    let text = include_str!("samples/full.yaml");
    convert(&Yaml::load_from_str(text).unwrap()[0])
}

/// All places in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, value)| (n.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let name = name.replace('~', "~0").replace('/', "~1");
        let place = format!("{at}/{name}");
        found.push(place.clone());
        places(value, &place, found);
    }
}

/// The file with the value at a place exchanged, taken away, or under another name.
fn changed(place: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let others = [
        json!(null),
        json!(true),
        json!(7),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!(""),
        json!("7"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({ "x": 1 }),
    ];
    for other in others {
        let mut file = full();
        *file.pointer_mut(place).unwrap() = other.clone();
        all.push((format!("{place} = {other}"), file));
    }
    let (parent, name) = place.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/").replace("~0", "~");
    let mut file = full();
    if let Some(map) = file.pointer_mut(parent).unwrap().as_object_mut() {
        let value = map.remove(&name).unwrap();
        all.push((format!("{place} taken away"), file.clone()));
        let map = file.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        map.insert(format!("{name}_"), value);
        all.push((format!("{place} misspelt"), file));
    }
    all
}

#[test]
fn the_schema_accepts_what_the_reader_does_and_refuses_what_it_refuses() {
    let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut found = Vec::new();
    places(&full(), "", &mut found);
    let mut wrong = Vec::new();
    let mut refused = 0;
    for (what, file) in found.iter().flat_map(|place| changed(place)) {
        let reading = Definition::read(&file.to_string());
        let errors: Vec<String> = reading
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .filter(|problem| !BEYOND_A_SCHEMA.contains(&problem.code))
            .map(ToString::to_string)
            .collect();
        refused += usize::from(!errors.is_empty());
        if validator.is_valid(&file) != errors.is_empty() && !depends_on_a_connection(&what) {
            let says = validator
                .iter_errors(&file)
                .next()
                .map(|error| error.to_string());
            wrong.push(format!("{what}\n  schema: {says:?}\n  reader: {errors:?}"));
        }
    }
    assert!(refused > 1_000, "only {refused} files are refused");
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
