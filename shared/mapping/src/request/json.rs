//! Cells as JSON and as values of templates.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{
    Error, ErrorKind, Value as Template,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};
use model::{Value, time_text};

use crate::key::{date, time_of_day};

/// A decimal with all its digits: as a number of a template it would lose some.
#[derive(Debug)]
struct Digits(String);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A row: its fields in the order of the map.
#[derive(Debug)]
struct Row(Vec<(String, Template)>);

impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Template) -> Option<Template> {
        let name = key.as_str()?;
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.iter().map(|(name, _)| Template::from(name));
        Enumerator::Values(names.collect())
    }
}

/// A row as a value of a template. What it says nothing of, it does not have.
pub(super) fn row<'r, 'a: 'r>(cells: impl Iterator<Item = (&'r str, &'r Value<'a>)>) -> Template {
    let present = cells.filter(|(_, cell)| !cell.is_missing());
    let fields = present.map(|(name, cell)| (name.to_owned(), value(cell)));
    Template::from_object(Row(fields.collect()))
}

/// A cell as a value of a template.
pub(super) fn value(cell: &Value<'_>) -> Template {
    match cell {
        Value::Missing => Template::UNDEFINED,
        Value::Null => Template::from(()),
        Value::Bool(value) => Template::from(*value),
        Value::Int(value) => Template::from(*value),
        Value::Float(value) => Template::from(*value),
        Value::Decimal(digits) => Template::from_object(Digits(digits.clone().into_owned())),
        Value::Json(text) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(json) => minijinja::value::Serde(json).into(),
            Err(_) => Template::from(text.as_ref()),
        },
        other => Template::from(plain(other)),
    }
}

/// A cell whose JSON is text.
fn plain(cell: &Value<'_>) -> String {
    match cell {
        Value::Text(text) | Value::Decimal(text) | Value::Json(text) => text.clone().into_owned(),
        Value::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).to_string(),
        Value::Date(days) => date(*days),
        Value::Time(micros) => time_of_day(*micros),
        Value::Timestamp(micros) => time_text(*micros),
        Value::Bytes(bytes) => STANDARD.encode(bytes),
        Value::Missing | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            String::new()
        }
    }
}

/// A JSON object of cells, without those that are missing.
pub(super) fn object<'r, 'a: 'r>(cells: impl Iterator<Item = (&'r str, &'r Value<'a>)>) -> String {
    let mut json = String::from("{");
    for (name, cell) in cells.filter(|(_, cell)| !cell.is_missing()) {
        if json.len() > 1 {
            json.push(',');
        }
        push_text(&mut json, name);
        json.push(':');
        push(&mut json, cell);
    }
    json.push('}');
    json
}

fn push(json: &mut String, cell: &Value<'_>) {
    use fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = match cell {
        Value::Missing | Value::Null => json.write_str("null"),
        Value::Bool(value) => write!(json, "{value}"),
        Value::Int(value) => write!(json, "{value}"),
        Value::Float(value) => {
            serde_json::to_string(value).map_or(Ok(()), |text| json.write_str(&text))
        }
        Value::Decimal(raw) | Value::Json(raw) => json.write_str(raw),
        other => {
            push_text(json, &plain(other));
            Ok(())
        }
    };
}

fn push_text(json: &mut String, text: &str) {
    // Text always has a form in JSON.
    json.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The filter `tojson`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "this is how the engine passes arguments to filters"
)]
pub(super) fn filter(value: Template) -> Result<Template, Error> {
    Ok(Template::from_safe_string(text(&value)?))
}

/// A value of a template as JSON.
pub(super) fn text(value: &Template) -> Result<String, Error> {
    let mut json = String::new();
    write(&mut json, value)?;
    Ok(json)
}

fn write(json: &mut String, value: &Template) -> Result<(), Error> {
    let refused = || {
        let detail = format!("{} has no form in JSON", value.kind());
        Error::new(ErrorKind::InvalidOperation, detail)
    };
    if let Some(Digits(digits)) = value.downcast_object_ref() {
        json.push_str(digits);
        return Ok(());
    }
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::String => push_text(json, value.as_str().unwrap_or_default()),
        ValueKind::Bool | ValueKind::Number => {
            let text = serde_json::to_string(value).map_err(|_| refused())?;
            json.push_str(&text);
        }
        ValueKind::Seq | ValueKind::Iterable => write_list(json, value)?,
        ValueKind::Map => write_object(json, value)?,
        _ => return Err(refused()),
    }
    Ok(())
}

fn write_list(json: &mut String, list: &Template) -> Result<(), Error> {
    json.push('[');
    for (at, element) in list.try_iter()?.enumerate() {
        if at > 0 {
            json.push(',');
        }
        write(json, &element)?;
    }
    json.push(']');
    Ok(())
}

fn write_object(json: &mut String, object: &Template) -> Result<(), Error> {
    json.push('{');
    for (at, key) in object.try_iter()?.enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_text(json, &key.to_string());
        json.push(':');
        write(json, &object.get_item(&key)?)?;
    }
    json.push('}');
    Ok(())
}
