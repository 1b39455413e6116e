//! A plan applied to a change.

use std::borrow::Cow;

use definition::MissingPolicy;
use model::{Cause, Change, ErrorClass, Op, Rows, Value, Version};

use crate::{
    convert::{ConvertError, convert, convert_owned, scalar_text, shorten},
    extract::{descend, malformed, split},
    key::{key_text, split_key, to_json},
    plan::{Column, Origin, Plan},
};

/// What a change turned out to be. Unless it failed, a row was added: a whole one for an
/// upsert, one with its key cells only for the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped {
    /// A row to write. It has no version when the record does not state the one it should.
    Upsert {
        /// Version of the row.
        version: Option<Version>,
    },
    /// A row to delete.
    Delete {
        /// Version of the deletion, where the change states one.
        version: Option<Version>,
        /// Whether it is only left out by the map's filter.
        filtered: bool,
    },
    /// A row to read from the source again.
    Touch,
    /// It cannot be mapped.
    Failed(Box<Cause>),
}

/// Memory that is used again from record to record.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    slots: Vec<Option<&'a str>>,
}

fn failed(code: &str, message: String) -> Box<Cause> {
    Box::new(Cause::new(ErrorClass::Mapping, code, message))
}

impl Plan {
    /// Maps one change and adds its row.
    pub fn map_change<'a>(
        &self,
        change: &'a Change,
        rows: &mut Rows<'a>,
        scratch: &mut Scratch<'a>,
    ) -> Mapped {
        let before = rows.len();
        match self.try_map(change, rows, scratch) {
            Ok(mapped) => mapped,
            Err(cause) => {
                if rows.len() > before {
                    rows.pop();
                }
                Mapped::Failed(cause)
            }
        }
    }

    fn try_map<'a>(
        &self,
        change: &'a Change,
        rows: &mut Rows<'a>,
        scratch: &mut Scratch<'a>,
    ) -> Result<Mapped, Box<Cause>> {
        split(&change.raw, &self.names, &mut scratch.slots)?;
        let slots = &scratch.slots;
        let cells = rows.push_empty();
        if change.op == Op::Touch {
            self.fill_key(slots, cells)?;
            return Ok(Mapped::Touch);
        }
        let version = self.version(change, slots)?;
        if change.op == Op::Delete || self.holds(self.deleted.as_ref(), change, slots, false)? {
            self.fill_key(slots, cells)?;
            return Ok(Mapped::Delete {
                version,
                filtered: false,
            });
        }
        if !self.holds(self.filter.as_ref(), change, slots, true)? {
            self.fill_key(slots, cells)?;
            return Ok(Mapped::Delete {
                version,
                filtered: true,
            });
        }
        for (column, cell) in self.columns.iter().zip(cells.iter_mut()) {
            *cell = self
                .cell(column, change, slots)
                .map_err(|cause| at(column, cause))?;
        }
        Ok(Mapped::Upsert { version })
    }

    fn fill_key<'a>(
        &self,
        slots: &[Option<&'a str>],
        cells: &mut [Value<'a>],
    ) -> Result<(), Box<Cause>> {
        for position in &self.table.key {
            let (Some(column), Some(cell)) =
                (self.columns.get(*position), cells.get_mut(*position))
            else {
                continue;
            };
            *cell = self
                .plain_cell(column, slots)
                .map_err(|cause| at(column, cause))?;
        }
        Ok(())
    }

    /// The record's version; `None` when the record lacks it. Where the source states none,
    /// the time of reading stands in.
    fn version(
        &self,
        change: &Change,
        slots: &[Option<&str>],
    ) -> Result<Option<Version>, Box<Cause>> {
        let Some(slot) = self.version else {
            return Ok(Some(Version(change.observed)));
        };
        let Some(raw) = slots
            .get(slot)
            .copied()
            .flatten()
            .filter(|raw| *raw != "null")
        else {
            return Ok(None);
        };
        let field = self.names.name(slot);
        let text = scalar_text(raw).map_err(|error| error.of(raw).into_cause())?;
        match self.version_kind.read(&text) {
            Ok(version) => Ok(Some(version)),
            Err(error) => {
                let message = format!(
                    "the version field `{field}` is no version of kind {:?}: say its kind with `version: {{ field: {field}, kind: … }}`",
                    error.kind
                );
                let cause = Cause::new(ErrorClass::Mapping, "bad-version", message);
                Err(Box::new(cause.at_field(field).of_value(error.text)))
            }
        }
    }

    fn holds(
        &self,
        condition: Option<&crate::Expression>,
        change: &Change,
        slots: &[Option<&str>],
        without: bool,
    ) -> Result<bool, Box<Cause>> {
        let Some(expression) = condition else {
            return Ok(without);
        };
        match self.evaluate(expression, change, slots)? {
            cel::Value::Bool(value) => Ok(value),
            other => {
                let message = "a condition must be true or false, and this one is neither";
                let cause = Cause::new(ErrorClass::Mapping, "expression", message);
                Err(Box::new(cause.of_value(shorten(&format!("{other:?}")))))
            }
        }
    }

    fn evaluate(
        &self,
        expression: &crate::Expression,
        change: &Change,
        slots: &[Option<&str>],
    ) -> Result<cel::Value, Box<Cause>> {
        match expression.needs() {
            crate::expr::Needs::All => {
                let all: std::collections::BTreeMap<Cow<'_, str>, &serde_json::value::RawValue> =
                    serde_json::from_slice(&change.raw).map_err(malformed)?;
                expression.evaluate(all.iter().map(|(name, raw)| (name.as_ref(), raw.get())))
            }
            crate::expr::Needs::Fields(_) => {
                let present = slots
                    .iter()
                    .enumerate()
                    .filter_map(|(slot, raw)| Some((self.names.name(slot), (*raw)?)));
                expression.evaluate(present)
            }
        }
    }

    fn cell<'a>(
        &self,
        column: &Column,
        change: &Change,
        slots: &[Option<&'a str>],
    ) -> Result<Value<'a>, Box<Cause>> {
        let value = match &column.origin {
            Origin::Slot(..) => return self.plain_cell(column, slots),
            Origin::Constant(value) => value.clone(),
            Origin::Expr(expression) => {
                let result = self.evaluate(expression, change, slots)?;
                let json = result.json().map_err(|error| {
                    failed("expression", format!("the result is no value: {error}"))
                })?;
                from_raw(column, &json.to_string(), |raw| {
                    convert_owned(raw, column.ty, column.round)
                })?
            }
        };
        required(column, value)
    }

    fn plain_cell<'a>(
        &self,
        column: &Column,
        slots: &[Option<&'a str>],
    ) -> Result<Value<'a>, Box<Cause>> {
        let Origin::Slot(slot, path) = &column.origin else {
            return Err(failed(
                "half-mapped-key",
                "a key column takes a field as it is".into(),
            ));
        };
        let raw = match slots.get(*slot).copied().flatten() {
            Some(raw) if !path.is_empty() => descend(raw, path)?,
            raw => raw,
        };
        let Some(raw) = raw else {
            return self.missing(column, *slot, path);
        };
        let value = from_raw(column, raw, |raw| convert(raw, column.ty, column.round))?;
        required(column, value)
    }

    fn missing<'a>(
        &self,
        column: &Column,
        slot: usize,
        path: &[String],
    ) -> Result<Value<'a>, Box<Cause>> {
        if let Some(default) = &column.default {
            return Ok(default.clone());
        }
        match column.missing {
            MissingPolicy::Keep => Ok(Value::Missing),
            MissingPolicy::Null => required(column, Value::Null),
            MissingPolicy::Fail => {
                let name = self.names.name(slot);
                let field = path
                    .iter()
                    .fold(name.to_owned(), |field, part| field + "/" + part);
                let message = format!(
                    "the record has no field `{field}`: if the source leaves out what is empty, add `missing: null`; if it has changed its schema, change the map"
                );
                Err(failed("field-missing", message))
            }
        }
    }

    /// The key of a change as people write it, whatever else of the record cannot be read. One
    /// that does not convert is shown as it stands in the record.
    #[must_use]
    pub fn key_of(&self, change: &Change) -> Option<String> {
        let mut found = Vec::new();
        split(&change.raw, &self.key_names, &mut found).ok()?;
        let mut slots = vec![None; self.names.len()];
        for (slot, raw) in self.key_slots.iter().zip(&found) {
            slots[*slot] = *raw;
        }
        let mut cells = vec![Value::Missing; self.columns.len()];
        if self.fill_key(&slots, &mut cells).is_ok() {
            return Some(key_text(self.table.key_cells(&cells)));
        }
        let as_it_stands = |raw: Option<&str>| {
            let raw = raw.filter(|raw| *raw != "null")?;
            Some(Value::Text(scalar_text(raw).ok()?.into_owned().into()))
        };
        let parts: Option<Vec<Value<'_>>> = found.into_iter().map(as_it_stands).collect();
        parts.map(|parts| key_text(&parts))
    }

    /// The key of a change as a row with its key cells only, and its version, as far as both
    /// can be read although the rest of the record does not map.
    #[must_use]
    pub fn identity<'a>(&self, change: &'a Change, rows: &mut Rows<'a>) -> Option<Version> {
        let mut slots = Vec::new();
        split(&change.raw, &self.names, &mut slots).ok()?;
        let version = self.version(change, &slots).ok()??;
        self.push_key(&slots, rows).then_some(version)
    }

    /// Adds the key of a change as a row with its key cells only. Says whether it could be
    /// read, although the rest of the record may not map.
    pub fn key_row<'a>(&self, change: &'a Change, rows: &mut Rows<'a>) -> bool {
        let mut slots = Vec::new();
        split(&change.raw, &self.names, &mut slots).is_ok() && self.push_key(&slots, rows)
    }

    fn push_key<'a>(&self, slots: &[Option<&'a str>], rows: &mut Rows<'a>) -> bool {
        let cells = rows.push_empty();
        let good = self.fill_key(slots, cells).is_ok();
        if !good {
            rows.pop();
        }
        good
    }

    /// The source's key of a row of the target, as a JSON object.
    #[must_use]
    pub fn source_key(&self, key: &[Value<'_>]) -> String {
        let mut object = serde_json::Map::new();
        for (position, cell) in self.table.key.iter().zip(key) {
            if let Some(Origin::Slot(slot, _)) =
                self.columns.get(*position).map(|column| &column.origin)
            {
                object.insert(self.names.name(*slot).to_owned(), to_json(cell));
            }
        }
        serde_json::Value::Object(object).to_string()
    }

    /// A key as people write it, as key cells.
    pub fn parse_key(&self, text: &str) -> Result<Vec<Value<'static>>, String> {
        let parts = split_key(text);
        if parts.len() != self.key_fields.len() {
            return Err(format!(
                "`{text}` has {} part(s), the key of map `{}` has {}: {}",
                parts.len(),
                self.map,
                self.key_fields.len(),
                self.key_fields.join(", ")
            ));
        }
        let mut cells = Vec::with_capacity(parts.len());
        for (position, part) in self.table.key.iter().zip(parts) {
            let Some(column) = self.columns.get(*position) else {
                continue;
            };
            let json = serde_json::Value::from(part).to_string();
            let cell = convert_owned(&json, column.ty, column.round)
                .map_err(|error| format!("`{}`: {}", column.name, error.message))?;
            cells.push(cell);
        }
        Ok(cells)
    }
}

fn at(column: &Column, mut cause: Box<Cause>) -> Box<Cause> {
    if cause.field.is_none() {
        cause.field = Some(column.name.clone());
    }
    cause
}

fn from_raw<'r, 'v>(
    column: &Column,
    raw: &'r str,
    convert: impl FnOnce(&'r str) -> Result<Value<'v>, ConvertError>,
) -> Result<Value<'v>, Box<Cause>> {
    if raw == "null" {
        return Ok(column.default.clone().unwrap_or(Value::Null));
    }
    if let Some(values) = &column.values {
        let text = scalar_text(raw).map_err(|error| error.of(raw).into_cause())?;
        return if let Some(value) = values.get(text.as_ref()).or(column.default.as_ref()) {
            Ok(value.clone())
        } else {
            let message =
                "the value is not among those of the map: add it to `values`, or give a `default`";
            let cause = Cause::new(ErrorClass::Mapping, "unmapped-value", message);
            Err(Box::new(cause.of_value(shorten(&text))))
        };
    }
    convert(raw).map_err(ConvertError::into_cause)
}

fn required<'v>(column: &Column, value: Value<'v>) -> Result<Value<'v>, Box<Cause>> {
    if column.required && value == Value::Null {
        return Err(failed(
            "required-null",
            format!(
                "`{}` must have a value, and the record has null",
                column.name
            ),
        ));
    }
    Ok(value)
}
