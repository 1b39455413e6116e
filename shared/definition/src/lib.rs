//! Reads and validates `syncline.yaml`, the one file that describes a deployment.
//!
//! Everything is checked that can be checked without a network, and everything wrong is
//! reported at once, each with its place in the file, a stable code and what to do. What
//! depends on the compiled map (expressions, types of key columns) is checked by `mapping`,
//! what depends on the systems by `syncline check`.

mod checks;
mod connection;
mod fields;
mod http;
mod map;
mod node;
mod problem;
mod stream;
mod value;
mod webhook;

use std::{collections::BTreeMap, time::Duration};

use model::{ConnectionName, MapName};

pub use connection::{Auth, Connection, ConnectionKind, Limits, OAuth2, Text};
pub use fields::{Field, FieldSource, MissingPolicy, Rounding, ValueMap};
pub use http::{HttpRequest, HttpTarget};
pub use map::{DeletePolicy, Deletes, Expect, From, Load, Map, Pull, PullMode, To, VersionField};
pub use problem::{Place, Problem, Severity};
pub use stream::{Paging, RestStream};
pub use value::Scalar;
pub use webhook::{
    EventRule, HmacAlgorithm, HmacEncoding, HmacScheme, OpRule, Scheme, Webhook, WebhookMode,
};

/// The published JSON Schema of the file.
pub const JSON_SCHEMA: &str = include_str!("../syncline.schema.json");

/// A deployment.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// Its connections.
    pub connections: BTreeMap<ConnectionName, Connection>,
    /// Its maps.
    pub maps: BTreeMap<MapName, Map>,
    places: BTreeMap<String, Place>,
}

/// What reading a file has found: a definition if there is no error in it, and everything
/// that is wrong or doubtful.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The definition; `None` when there are errors.
    pub definition: Option<Definition>,
    /// Errors and warnings in the order of the file.
    pub problems: Vec<Problem>,
}

impl Definition {
    /// The same, with no call of another system longer than `most`.
    #[must_use]
    pub fn limit_calls(mut self, most: Duration) -> Self {
        for connection in self.connections.values_mut() {
            connection.limits.timeout = connection.limits.timeout.min(most);
        }
        self
    }

    /// Reads the text of `syncline.yaml`.
    #[must_use]
    pub fn read(text: &str) -> Reading {
        let log = problem::Log::default();
        let mut definition = read_all(text, &log);
        definition.places = log.take_places();
        checks::check(&definition, &log);
        let problems = log.into_problems();
        let failed = problems
            .iter()
            .any(|problem| problem.severity == Severity::Error);
        Reading {
            definition: (!failed).then_some(definition),
            problems,
        }
    }

    /// Where a path such as `maps.customers.fields.name` stands in the file: the path itself,
    /// or the nearest part of it that is written there.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        problem::nearest(&self.places, path)
    }

    /// A problem found by somebody else, at a path of this file.
    #[must_use]
    pub fn problem(
        &self,
        severity: Severity,
        code: &'static str,
        path: &str,
        message: String,
        help: Option<String>,
    ) -> Problem {
        Problem {
            severity,
            code,
            place: self.place(path),
            path: path.to_owned(),
            message,
            help,
        }
    }

    /// The connection of this name.
    #[must_use]
    pub fn connection(&self, name: &ConnectionName) -> Option<&Connection> {
        self.connections.get(name)
    }
}

fn read_all(text: &str, log: &problem::Log) -> Definition {
    let mut definition = Definition::default();
    let Some(document) = node::load(text, log) else {
        return definition;
    };
    let root = node::Node::root(&document, log);
    let Some(root) = root.map("the file", ROOT_KEYS) else {
        return definition;
    };
    if let Some(connections) = root
        .required("connections")
        .and_then(|node| node.entries("connections"))
    {
        for (name, node) in connections {
            if let (Some(name), Some(connection)) = (node.name(&name), connection::read(&node)) {
                definition.connections.insert(name, connection);
            }
        }
    }
    if let Some(maps) = root.required("maps").and_then(|node| node.entries("maps")) {
        for (name, node) in maps {
            let Some(name) = node.name::<MapName>(&name) else {
                continue;
            };
            if let Some(map) = map::read(&name, &node) {
                definition.maps.insert(name, map);
            }
        }
    }
    definition
}

/// The keys of the file.
pub(crate) const ROOT_KEYS: &[&str] = &["connections", "maps"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys the schema allows at a place.
    fn published(schema: &serde_json::Value, name: &str) -> Vec<String> {
        let section = if name.is_empty() {
            schema
        } else {
            &schema["$defs"][name]
        };
        let section = if name == "auth" {
            &section["anyOf"][1]
        } else {
            section
        };
        let mut keys: Vec<String> = section["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_schema_and_the_reader_know_the_same_keys() {
        let schema: serde_json::Value = serde_json::from_str(JSON_SCHEMA).unwrap();
        for (name, keys) in [
            ("", ROOT_KEYS),
            ("connection", connection::KEYS),
            ("limits", connection::LIMIT_KEYS),
            ("auth", connection::AUTH_KEYS),
            ("oauth2", connection::OAUTH2_KEYS),
            ("map", map::KEYS),
            ("from", map::FROM_KEYS),
            ("version", map::VERSION_KEYS),
            ("to", map::TO_KEYS),
            ("http", http::HTTP_KEYS),
            ("request", http::REQUEST_KEYS),
            ("deletes", map::DELETES_KEYS),
            ("pull", map::PULL_KEYS),
            ("load", map::LOAD_KEYS),
            ("retry", map::RETRY_KEYS),
            ("expect", map::EXPECT_KEYS),
            ("field", fields::KEYS),
            ("rest", stream::KEYS),
            ("paging", stream::PAGING_KEYS),
            ("webhook", webhook::KEYS),
            ("hmac", webhook::HMAC_KEYS),
        ] {
            let mut read: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            read.sort();
            assert_eq!(published(&schema, name), read, "{name}");
        }
    }
}
