//! Deleted entities in delta answers.

use bytes::Bytes;
use mapping::json;
use percent_encoding::percent_decode_str;

/// What an entry of a delta answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An entity.
    Entity,
    /// A deleted entity, with its key fields as a JSON object.
    Deleted(Bytes),
    /// A link between entities, which no map reads.
    Link,
}

/// Tells what an entry is. `keys` are the key fields of the stream.
///
/// 4.01 marks a deleted entity with `@removed`, 4.0 with a context that ends in
/// `/$deletedEntity` (Dataverse too). Its key is in its fields or in its id, which is an
/// address ending in a key predicate or, in Dataverse, the bare key.
pub(crate) fn entry(raw: &Bytes, keys: &[String]) -> Result<Entry, String> {
    const NAMES: [&str; 8] = [
        "@removed",
        "@odata.removed",
        "@odata.context",
        "@context",
        "id",
        "@id",
        "@odata.id",
        "reason",
    ];
    // Annotations that mark an entry come before everything else or not at all; what does not
    // mention them needs no second look.
    if !raw.windows(8).any(|window| {
        window == b"@removed"
            || window == b"@context"
            || window == b".context"
            || window == b".removed"
    }) {
        return Ok(Entry::Entity);
    }
    let found =
        json::fields(raw, NAMES).map_err(|error| format!("an entry is no JSON object: {error}"))?;
    let context = found[2].or(found[3]).unwrap_or_default();
    if context.contains("/$link") || context.contains("/$deletedLink") {
        return Ok(Entry::Link);
    }
    let removed = found[0].or(found[1]).is_some() || context.contains("/$deletedEntity");
    if !removed {
        return Ok(Entry::Entity);
    }
    if let Some(inline) = inline_key(raw, keys) {
        return Ok(Entry::Deleted(inline));
    }
    let id = found[5].or(found[6]).or(found[4]).and_then(json::scalar);
    let Some(id) = id else {
        return Err("a deleted entity has neither its key nor an id".into());
    };
    key_of_id(&id, keys)
        .map(|key| Entry::Deleted(key.into()))
        .ok_or_else(|| {
            format!(
                "the id `{id}` of a deleted entity does not hold the key {}",
                keys.join(", ")
            )
        })
}

/// The key fields, if all of them are there.
fn inline_key(raw: &Bytes, keys: &[String]) -> Option<Bytes> {
    let mut object = serde_json::Map::new();
    for key in keys {
        let value = json::fields(raw, [key.as_str()]).ok()?[0].filter(|value| *value != "null")?;
        object.insert(key.clone(), serde_json::from_str(value).ok()?);
    }
    Some(serde_json::Value::Object(object).to_string().into())
}

/// The key in an id: `Customers('A')`, `…/Customers(co='x',no=1)`, or the bare value.
fn key_of_id(id: &str, keys: &[String]) -> Option<String> {
    let decoded = percent_decode_str(id).decode_utf8().ok()?;
    let last = decoded
        .rsplit_once('/')
        .filter(|_| decoded.ends_with(')'))
        .map_or(decoded.as_ref(), |_| {
            // A key value may contain slashes: the predicate begins at the last segment's bracket.
            let bracket = find_predicate(&decoded);
            &decoded[bracket..]
        });
    let mut object = serde_json::Map::new();
    let predicate = last.find('(').filter(|_| last.ends_with(')'));
    let parts = match predicate {
        Some(open) => split_predicate(&last[open + 1..last.len() - 1])?,
        None => vec![(None, last.into())],
    };
    if let [(None, value)] = &parts[..] {
        let [key] = keys else { return None };
        object.insert(key.clone(), value.clone());
    } else {
        for (name, value) in parts {
            object.insert(name?, value);
        }
    }
    keys.iter()
        .all(|key| object.contains_key(key))
        .then(|| serde_json::Value::Object(object).to_string())
}

/// Where the last path segment begins whose predicate ends the id.
fn find_predicate(id: &str) -> usize {
    let mut quoted = false;
    let mut start = 0;
    let mut depth = 0;
    for (at, c) in id.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            '/' if !quoted && depth == 0 => start = at + 1,
            _ => {}
        }
    }
    start
}

/// `'A'` or `co='x',no=1` as names and JSON values.
fn split_predicate(text: &str) -> Option<Vec<(Option<String>, serde_json::Value)>> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    for c in text.chars().chain([',']) {
        match c {
            ',' if !quoted => {
                parts.push(parse_part(&part)?);
                part.clear();
                continue;
            }
            '\'' => quoted = !quoted,
            _ => {}
        }
        part.push(c);
    }
    (!quoted).then_some(parts)
}

fn parse_part(part: &str) -> Option<(Option<String>, serde_json::Value)> {
    let part = part.trim();
    let named = part
        .split_once('=')
        .filter(|(name, _)| !name.contains('\''));
    let (name, literal) = named.map_or((None, part), |(name, rest)| {
        (Some(name.trim().to_owned()), rest.trim())
    });
    let value = match literal
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        Some(text) => text.replace("''", "'").into(),
        None if literal.is_empty() => return None,
        None => match serde_json::from_str::<serde_json::Number>(literal) {
            Ok(number) => number.into(),
            Err(_) => literal.into(),
        },
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str, keys: &[&str]) -> Result<Entry, String> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        entry(&Bytes::from(raw.to_owned()), &keys)
    }

    fn deleted(raw: &str, keys: &[&str]) -> String {
        match read(raw, keys) {
            Ok(Entry::Deleted(key)) => String::from_utf8(key.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_forms_of_a_deleted_entity_are_known() {
        let dataverse = r#"{"@odata.context":"https://o/$metadata#accounts/$deletedEntity","id":"2e451703-c686","reason":"deleted"}"#;
        assert_eq!(
            deleted(dataverse, &["accountid"]),
            r#"{"accountid":"2e451703-c686"}"#
        );
        let v400 = r#"{"@odata.context":"$metadata#Customers/$deletedEntity","id":"Customers('O''Hara')","reason":"changed"}"#;
        assert_eq!(deleted(v400, &["Id"]), r#"{"Id":"O'Hara"}"#);
        let v401 =
            r#"{"@removed":{"reason":"deleted"},"@id":"https://h/s/Lines(Co='a%2Fb',No=7)"}"#;
        assert_eq!(deleted(v401, &["Co", "No"]), r#"{"Co":"a/b","No":7}"#);
        let inline = r#"{"@removed":{"reason":"deleted"},"Id":"A","extra":1}"#;
        assert_eq!(deleted(inline, &["Id"]), r#"{"Id":"A"}"#);
        let guid =
            r#"{"@odata.removed":{},"@odata.id":"Things(6d81597f-0f9f-e711-8122-000d3aa2331c)"}"#;
        assert_eq!(
            deleted(guid, &["Id"]),
            r#"{"Id":"6d81597f-0f9f-e711-8122-000d3aa2331c"}"#
        );
        let slash = r#"{"@removed":{},"@id":"Things('a/b(c)')"}"#;
        assert_eq!(deleted(slash, &["Id"]), r#"{"Id":"a/b(c)"}"#);
    }

    #[test]
    fn an_entity_is_an_entity_and_a_link_is_skipped() {
        assert_eq!(
            read(r#"{"Id":"A","reason":"x","id":"y"}"#, &["Id"]),
            Ok(Entry::Entity)
        );
        assert_eq!(
            read(
                r#"{"@odata.context":"x#Customers/$entity","Id":"A"}"#,
                &["Id"]
            ),
            Ok(Entry::Entity)
        );
        assert_eq!(
            read(
                r#"{"@context":"x#Customers/$deletedLink","source":"x"}"#,
                &["Id"]
            ),
            Ok(Entry::Link)
        );
    }

    #[test]
    fn a_deleted_entity_without_its_key_is_an_error() {
        assert!(
            read(r#"{"@removed":{}}"#, &["Id"])
                .unwrap_err()
                .contains("neither")
        );
        assert!(read(r#"{"@removed":{},"@id":"Lines(Co='a')"}"#, &["Co", "No"]).is_err());
        assert!(read(r#"{"@removed":{},"@id":"Lines('a"}"#, &["Co", "No"]).is_err());
    }
}
