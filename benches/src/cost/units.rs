//! What DynamoDB makes of items and calls, by its own rules:
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Bytes of a write unit, and of a read unit.
const WRITE: usize = 1024;
const READ: usize = 4 * 1024;
/// What a list or a map has beside what is in it, and each element of it.
const NESTED: usize = 3;

/// Units of some calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Units {
    pub(crate) read: f64,
    pub(crate) write: f64,
}

/// Sizes of items, as they were last written. A write is paid for by the larger of what was there
/// and what comes.
#[derive(Debug, Default)]
pub(crate) struct Sizes(HashMap<String, usize>);

fn number(text: &str) -> usize {
    let digits = text.trim_start_matches(['-', '0']).len();
    digits.div_ceil(2) + 1
}

/// Bytes of an attribute's value, which is an object of its kind and what it holds.
fn value(attribute: &Value) -> usize {
    let Some((kind, held)) = attribute.as_object().and_then(|one| one.iter().next()) else {
        return 0;
    };
    let text = held.as_str().unwrap_or_default();
    match kind.as_str() {
        "S" => text.len(),
        "N" => number(text),
        "B" => STANDARD
            .decode(text)
            .map_or(text.len(), |bytes| bytes.len()),
        "L" => {
            let all = held.as_array().into_iter().flatten();
            NESTED + all.map(|one| 1 + value(one)).sum::<usize>()
        }
        "M" => NESTED + held.as_object().map_or(0, serde_json::Map::len) + size(held),
        // A boolean, or nothing.
        _ => 1,
    }
}

/// Bytes of an item: names and values of its attributes.
pub(crate) fn size(item: &Value) -> usize {
    let attributes = item.as_object().into_iter().flatten();
    attributes.map(|(name, one)| name.len() + value(one)).sum()
}

fn writes(bytes: usize) -> f64 {
    crate::real(bytes.div_ceil(WRITE).max(1))
}

fn reads(bytes: usize, strong: bool) -> f64 {
    let units = crate::real(bytes.div_ceil(READ).max(1));
    if strong { units } else { units / 2.0 }
}

fn strong(request: &Value) -> bool {
    request["ConsistentRead"] == true
}

fn items(found: &Value) -> impl Iterator<Item = &Value> {
    found.as_array().into_iter().flatten()
}

fn name(table: &Value, key: &Value) -> String {
    format!("{table} {} {}", key["pk"], key["sk"])
}

impl Sizes {
    /// Units of putting an item.
    fn put(&mut self, table: &Value, item: &Value, done: bool) -> f64 {
        let name = name(table, item);
        let (old, new) = (self.0.get(&name).copied(), size(item));
        if done {
            self.0.insert(name, new);
        }
        writes(new.max(old.unwrap_or(0)))
    }

    /// Units of an update. What it makes of the item is not known here: no more than it was and
    /// what comes with the call.
    fn update(&mut self, request: &Value, done: bool) -> f64 {
        let name = name(&request["TableName"], &request["Key"]);
        let old = self.0.get(&name).copied();
        let given = size(&request["ExpressionAttributeValues"]);
        let new = old.unwrap_or_else(|| size(&request["Key"]) + given);
        if done {
            self.0.insert(name, new);
        }
        writes(new.max(given))
    }

    fn delete(&mut self, request: &Value, done: bool) -> f64 {
        let name = name(&request["TableName"], &request["Key"]);
        let old = self.0.get(&name).copied().unwrap_or(0);
        if done {
            self.0.remove(&name);
        }
        writes(old)
    }

    fn checked(&self, request: &Value) -> f64 {
        let name = name(&request["TableName"], &request["Key"]);
        writes(self.0.get(&name).copied().unwrap_or(0))
    }

    /// A transaction costs twice what its parts cost, whether it is done or not.
    fn transaction(&mut self, request: &Value, done: bool) -> f64 {
        let mut units = 0.0;
        for part in items(&request["TransactItems"]) {
            let Some((kind, part)) = part.as_object().and_then(|part| part.iter().next()) else {
                continue;
            };
            units += match kind.as_str() {
                "Put" => self.put(&part["TableName"], &part["Item"], done),
                "Update" => self.update(part, done),
                "Delete" => self.delete(part, done),
                _ => self.checked(part),
            };
        }
        units * 2.0
    }

    fn batch_write(&mut self, request: &Value, done: bool) -> f64 {
        let tables = request["RequestItems"].as_object().into_iter().flatten();
        let mut units = 0.0;
        for (table, parts) in tables {
            let table = Value::from(table.as_str());
            for part in items(parts) {
                units += if part["PutRequest"].is_object() {
                    self.put(&table, &part["PutRequest"]["Item"], done)
                } else {
                    1.0
                };
            }
        }
        units
    }

    /// Units of a call, paid for also where a condition did not hold; `None` if this bench cannot
    /// price it.
    pub(crate) fn of(
        &mut self,
        action: &str,
        request: &Value,
        answer: &Value,
        done: bool,
    ) -> Option<Units> {
        let table = &request["TableName"];
        let (mut read, mut write) = (0.0, 0.0);
        match action {
            "GetItem" => read = reads(size(&answer["Item"]), strong(request)),
            "Query" => {
                let bytes = items(&answer["Items"]).map(size).sum();
                read = reads(bytes, strong(request));
            }
            "BatchGetItem" => read = batch_get(request, answer),
            "PutItem" => write = self.put(table, &request["Item"], done),
            "UpdateItem" => write = self.update(request, done),
            "DeleteItem" => write = self.delete(request, done),
            "BatchWriteItem" => write = self.batch_write(request, done),
            "TransactWriteItems" => write = self.transaction(request, done),
            _ => return None,
        }
        Some(Units { read, write })
    }
}

/// Each item is rounded up by itself, and one that is not there is paid for as well.
fn batch_get(request: &Value, answer: &Value) -> f64 {
    let tables = request["RequestItems"].as_object().into_iter().flatten();
    let of_table = |(table, asked): (&String, &Value)| {
        let found = &answer["Responses"][table];
        let there = items(found)
            .map(|item| reads(size(item), strong(asked)))
            .sum::<f64>();
        let keys = items(&asked["Keys"]).count();
        let absent = keys.saturating_sub(items(found).count());
        there + crate::real(absent) * reads(0, strong(asked))
    };
    tables.map(of_table).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(bytes: usize) -> Value {
        json!({ "pk": { "S": "p" }, "sk": { "S": "s" }, "t": { "S": "x".repeat(bytes - 7) } })
    }

    #[test]
    fn sizes_are_names_and_values() {
        assert_eq!(size(&text(100)), 100);
        let item = json!({
            "n": { "N": "-1234" }, "b": { "B": "AAECAw==" }, "y": { "BOOL": true },
            "l": { "L": [{ "S": "ab" }, { "NULL": true }] }
        });
        // 1+3, 1+4, 1+1, 1+3+(1+2)+(1+1)
        assert_eq!(size(&item), 4 + 5 + 2 + 9);
    }

    #[test]
    fn a_write_is_of_the_larger_of_old_and_new_and_costs_if_it_is_refused() {
        let mut sizes = Sizes::default();
        let mut put = |bytes, done| {
            let request = json!({ "TableName": "t", "Item": text(bytes) });
            sizes
                .of("PutItem", &request, &Value::Null, done)
                .unwrap()
                .write
        };
        assert_eq!(
            format!("{:?}", [put(1024, true), put(1025, false), put(10, true)]),
            "[1.0, 2.0, 1.0]"
        );
        assert_eq!(
            format!("{:?}", [put(3000, true), put(10, true), put(10, true)]),
            "[3.0, 3.0, 1.0]"
        );
    }

    #[test]
    fn a_transaction_costs_twice() {
        let request = json!({ "TransactItems": [
            { "Put": { "TableName": "t", "Item": text(2000) } },
            { "ConditionCheck": { "TableName": "t", "Key": { "pk": { "S": "q" }, "sk": { "S": "s" } } } }
        ] });
        let units = Sizes::default().of("TransactWriteItems", &request, &Value::Null, true);
        assert_eq!(
            units,
            Some(Units {
                read: 0.0,
                write: 6.0
            })
        );
    }

    #[test]
    fn reads_round_up_to_four_kilobytes_and_cost_half_if_they_may_be_late() {
        let mut sizes = Sizes::default();
        let mut read = |bytes, strong| {
            let request = json!({ "ConsistentRead": strong });
            let answer = json!({ "Item": text(bytes) });
            sizes.of("GetItem", &request, &answer, true).unwrap().read
        };
        assert_eq!(
            format!(
                "{:?}",
                [read(4096, true), read(4097, true), read(4097, false)]
            ),
            "[1.0, 2.0, 1.0]"
        );
        let asked =
            json!({ "RequestItems": { "t": { "ConsistentRead": true, "Keys": [1, 2, 3] } } });
        let found = json!({ "Responses": { "t": [text(5000)] } });
        let units = sizes.of("BatchGetItem", &asked, &found, true).unwrap();
        assert!((units.read - 4.0).abs() < 1e-9);
        let query = json!({ "ConsistentRead": true });
        let page = json!({ "Items": [text(3000), text(3000)] });
        let units = sizes.of("Query", &query, &page, true).unwrap();
        assert!((units.read - 2.0).abs() < 1e-9);
    }
}
