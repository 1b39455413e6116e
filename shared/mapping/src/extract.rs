//! Splitting a record into the raw values that are needed.

use std::{collections::HashMap, fmt};

use model::{Cause, ErrorClass};
use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::json::Name;

/// The fields of a record that are needed, each with a slot of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    names: Vec<Box<str>>,
    index: HashMap<Box<str>, usize>,
}

impl Names {
    /// The slot of a field, a new one if it has none yet.
    pub(crate) fn slot(&mut self, name: &str) -> usize {
        if let Some(slot) = self.index.get(name) {
            return *slot;
        }
        let slot = self.names.len();
        self.names.push(name.into());
        self.index.insert(name.into(), slot);
        slot
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn name(&self, slot: usize) -> &str {
        self.names.get(slot).map_or("", |name| name)
    }

    /// Finds a name, guessing first that fields come in the order of the last record.
    fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self
            .names
            .get(guess)
            .is_some_and(|guessed| **guessed == *name)
        {
            return Some(guess);
        }
        self.index.get(name).copied()
    }
}

/// The parser's own words quote the record, so they stand below the cause.
pub(crate) fn malformed(error: serde_json::Error) -> Box<Cause> {
    let message = "the record is not a JSON object";
    let cause = Cause::new(ErrorClass::Mapping, "malformed-record", message);
    Box::new(cause.because(error))
}

/// Fills `slots` with the raw values of a record's needed fields; what the record lacks stays
/// `None`.
pub(crate) fn split<'a>(
    record: &'a [u8],
    names: &Names,
    slots: &mut Vec<Option<&'a str>>,
) -> Result<(), Box<Cause>> {
    slots.clear();
    slots.resize(names.len(), None);
    let mut json = serde_json::Deserializer::from_slice(record);
    let mut duplicate = None;
    let seed = Fields {
        names,
        slots,
        duplicate: &mut duplicate,
    };
    let result = seed.deserialize(&mut json).and_then(|()| json.end());
    result.map_err(malformed)?;
    match duplicate {
        Some(name) => {
            let message = format!(
                "the record has the field `{name}` twice: which one is meant cannot be known"
            );
            Err(Box::new(
                Cause::new(ErrorClass::Mapping, "duplicate-field", message).at_field(name),
            ))
        }
        None => Ok(()),
    }
}

struct Fields<'n, 's, 'a> {
    names: &'n Names,
    slots: &'s mut Vec<Option<&'a str>>,
    duplicate: &'s mut Option<String>,
}

impl<'a> DeserializeSeed<'a> for Fields<'_, '_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Fields<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut guess = 0;
        while let Some(Name(name)) = map.next_key()? {
            let Some(slot) = self.names.find(&name, guess) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            guess = slot + 1;
            let raw: &RawValue = map.next_value()?;
            if self.slots[slot].replace(raw.get()).is_some() {
                self.duplicate.get_or_insert_with(|| name.into_owned());
            }
        }
        Ok(())
    }
}

/// The raw value at a path inside a raw value; `None` where the way ends.
pub(crate) fn descend<'a>(
    mut raw: &'a str,
    path: &[String],
) -> Result<Option<&'a str>, Box<Cause>> {
    for name in path {
        if !raw.starts_with('{') {
            return Ok(None);
        }
        let mut names = Names::default();
        names.slot(name);
        let mut slots = Vec::with_capacity(1);
        split(raw.as_bytes(), &names, &mut slots)?;
        match slots[0] {
            Some(inner) => raw = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(record: &'a str, wanted: &[&str]) -> Result<Vec<Option<&'a str>>, Box<Cause>> {
        let mut names = Names::default();
        for name in wanted {
            names.slot(name);
        }
        let mut slots = Vec::new();
        split(record.as_bytes(), &names, &mut slots).map(|()| slots)
    }

    #[test]
    fn only_what_is_needed_is_taken_and_missing_is_not_null() {
        let record = r#" {"a": 1.50, "x": {"deep": [1]}, "b":null, "c" : "t\"ext" } "#;
        let slots = read(record, &["c", "a", "b", "d"]).unwrap();
        assert_eq!(
            slots,
            [Some(r#""t\"ext""#), Some("1.50"), Some("null"), None]
        );
    }

    #[test]
    fn a_needed_field_that_comes_twice_is_refused_and_another_is_not() {
        assert_eq!(
            read(r#"{"a":1,"a":2}"#, &["a"]).unwrap_err().code,
            "duplicate-field"
        );
        assert!(read(r#"{"a":1,"b":2,"b":3}"#, &["a"]).is_ok());
        assert_eq!(
            read(r#"{"a":1,"\u0061":2}"#, &["a"]).unwrap_err().code,
            "duplicate-field"
        );
    }

    #[test]
    fn whatever_is_no_object_is_refused() {
        let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        for bad in [
            "",
            "null",
            "[1]",
            "\"x\"",
            r#"{"a":1"#,
            r#"{"a":1} x"#,
            r#"{"a":tru}"#,
            &deep,
        ] {
            assert_eq!(
                read(bad, &["a"]).unwrap_err().code,
                "malformed-record",
                "{bad:.40}"
            );
        }
        let mut names = Names::default();
        names.slot("a");
        let error = split(b"{\"a\":\"\xff\"}", &names, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code, "malformed-record");
    }

    #[test]
    fn a_path_leads_inside() {
        let path = ["b".to_owned(), "c".to_owned()];
        assert_eq!(
            descend(r#"{"b":{"c":[1,2]}}"#, &path).unwrap(),
            Some("[1,2]")
        );
        assert_eq!(descend(r#"{"b":{}}"#, &path).unwrap(), None);
        assert_eq!(descend(r#"{"b":3}"#, &path).unwrap(), None);
    }
}
