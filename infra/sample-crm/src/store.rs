//! Rows in memory.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// An entity set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// Companies; some belong to others.
    Accounts,
    /// People at companies.
    Contacts,
    /// What companies have ordered.
    Orders,
}

impl Set {
    /// All sets.
    pub const ALL: [Self; 3] = [Self::Accounts, Self::Contacts, Self::Orders];

    /// The name in addresses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "Accounts",
            Self::Contacts => "Contacts",
            Self::Orders => "Orders",
        }
    }

    /// The key field.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Accounts => "AccountId",
            Self::Contacts => "ContactId",
            Self::Orders => "OrderNo",
        }
    }

    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Accounts => "account",
            Self::Contacts => "contact",
            Self::Orders => "order",
        }
    }
}

/// How many rows there are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Accounts.
    pub accounts: usize,
    /// Contacts.
    pub contacts: usize,
    /// Orders.
    pub orders: usize,
    /// How many of them break a rule that their target has: spread over all sets.
    pub bad: usize,
}

#[derive(Debug, Clone)]
struct Row {
    json: Map<String, Value>,
    sequence: u64,
    deleted: bool,
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Row>,
    places: HashMap<String, usize>,
}

/// All rows, and the order of their changes.
#[derive(Debug)]
pub(crate) struct Store {
    tables: HashMap<Set, Table>,
    sequence: u64,
    oldest_delta: u64,
    last: Timestamp,
}

/// The text of a key value.
pub(crate) fn key_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

impl Store {
    pub(crate) fn new() -> Self {
        let tables = Set::ALL
            .into_iter()
            .map(|set| (set, Table::default()))
            .collect();
        Self {
            tables,
            sequence: 0,
            oldest_delta: 0,
            last: Timestamp::UNIX_EPOCH,
        }
    }

    fn table(&mut self, set: Set) -> &mut Table {
        self.tables.entry(set).or_default()
    }

    /// A row of the first fill, with the time it carries.
    pub(crate) fn fill(&mut self, set: Set, row: Value) {
        let Value::Object(json) = row else { return };
        let key = json.get(set.key()).map(key_text).unwrap_or_default();
        self.sequence += 1;
        let sequence = self.sequence;
        let table = self.table(set);
        table.places.insert(key, table.rows.len());
        table.rows.push(Row {
            json,
            sequence,
            deleted: false,
        });
    }

    /// The time now, later than any time given before.
    #[expect(
        clippy::disallowed_methods,
        reason = "the CRM is an outside system with a clock of its own"
    )]
    fn now(&mut self) -> Timestamp {
        let next = self
            .last
            .saturating_add(SignedDuration::from_micros(1))
            .unwrap_or(self.last);
        self.last = Timestamp::now().max(next);
        self.last
    }

    pub(crate) fn write(&mut self, set: Set, key: &str, changes: &Value) {
        let now = self.now().to_string();
        self.sequence += 1;
        let sequence = self.sequence;
        let table = self.table(set);
        let place = *table
            .places
            .entry(key.to_owned())
            .or_insert(table.rows.len());
        if place == table.rows.len() {
            let key_value = key
                .parse::<i64>()
                .map_or_else(|_| json!(key), |number| json!(number));
            let json = Map::from_iter([
                (set.key().to_owned(), key_value),
                ("CreatedAt".into(), json!(now)),
            ]);
            table.rows.push(Row {
                json,
                sequence,
                deleted: false,
            });
        }
        let row = &mut table.rows[place];
        if let Value::Object(changes) = changes {
            row.json.extend(changes.clone());
        }
        row.json.insert("ModifiedAt".into(), json!(now));
        row.sequence = sequence;
        row.deleted = false;
    }

    pub(crate) fn delete(&mut self, set: Set, key: &str) -> bool {
        let now = self.now().to_string();
        self.sequence += 1;
        let sequence = self.sequence;
        let table = self.table(set);
        let Some(place) = table.places.get(key).copied() else {
            return false;
        };
        let row = &mut table.rows[place];
        let was_there = !row.deleted;
        row.deleted = true;
        row.sequence = sequence;
        row.json.insert("ModifiedAt".into(), json!(now));
        was_there
    }

    pub(crate) fn row(&self, set: Set, key: &str) -> Option<Value> {
        let table = self.tables.get(&set)?;
        let row = &table.rows[*table.places.get(key)?];
        (!row.deleted).then(|| Value::Object(row.json.clone()))
    }

    pub(crate) fn rows(&self, set: Set) -> Vec<Value> {
        self.live(set)
            .map(|(_, json)| Value::Object(json.clone()))
            .collect()
    }

    pub(crate) fn keys(&self, set: Set) -> Vec<String> {
        self.live(set)
            .filter_map(|(_, json)| json.get(set.key()).map(key_text))
            .collect()
    }

    /// Rows that are there, with their places.
    pub(crate) fn live(&self, set: Set) -> impl Iterator<Item = (usize, &Map<String, Value>)> {
        let rows = self.tables.get(&set).map_or(&[][..], |table| &table.rows);
        rows.iter()
            .enumerate()
            .filter(|(_, row)| !row.deleted)
            .map(|(place, row)| (place, &row.json))
    }

    /// The payload of the webhook for a row.
    pub(crate) fn event(&self, set: Set, key: &str) -> Value {
        let table = self.tables.get(&set);
        let row = table.and_then(|table| Some(&table.rows[*table.places.get(key)?]));
        let Some(row) = row else { return Value::Null };
        let what = if row.deleted { "deleted" } else { "updated" };
        let data = if row.deleted {
            json!({ set.key(): row.json.get(set.key()), "ModifiedAt": row.json.get("ModifiedAt") })
        } else {
            Value::Object(row.json.clone())
        };
        json!({ "type": format!("{}.{what}", set.event()), "timestamp": row.json.get("ModifiedAt"), "data": data })
    }

    /// A token for all changes from now on.
    pub(crate) fn delta_token(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn expire_deltas(&mut self) {
        self.oldest_delta = self.sequence + 1;
        self.sequence += 1;
    }

    /// Up to `size` changes after a token, and the token at which to go on if there are more;
    /// `None` when the token is too old. What fits in one answer has upserts first, as
    /// Dataverse sends them; what does not comes in the order of the changes.
    pub(crate) fn changes(
        &self,
        set: Set,
        token: u64,
        size: usize,
    ) -> Option<(Vec<Value>, Option<u64>)> {
        if token < self.oldest_delta {
            return None;
        }
        let rows = self.tables.get(&set).map_or(&[][..], |table| &table.rows);
        let mut changed: Vec<&Row> = rows.iter().filter(|row| row.sequence > token).collect();
        changed.sort_by_key(|row| row.sequence);
        let more = changed.len() > size;
        changed.truncate(size);
        let next = changed.last().filter(|_| more).map(|last| last.sequence);
        if !more {
            changed.sort_by_key(|row| (row.deleted, row.sequence));
        }
        let entry = |row: &&Row| {
            if row.deleted {
                let key = row.json.get(set.key()).cloned().unwrap_or_default();
                json!({ "@removed": { "reason": "deleted" }, set.key(): key })
            } else {
                Value::Object(row.json.clone())
            }
        };
        Some((changed.iter().map(entry).collect(), next))
    }
}
