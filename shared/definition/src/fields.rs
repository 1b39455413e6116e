//! The fields of a map.

use model::DataType;
use serde::Serialize;

use crate::{node::Node, value::Scalar};

/// One column of the target and where its value comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// The target column.
    pub column: String,
    /// Where its value comes from.
    pub source: FieldSource,
    /// Its type; `None` is the target's, else the source's.
    pub ty: Option<DataType>,
    /// What to write when the source has no value, or one that is not in `values`.
    pub default: Option<Scalar>,
    /// Values of the source and what to write for them.
    pub values: Option<ValueMap>,
    /// What to do with digits that do not fit.
    pub round: Rounding,
    /// What to do with a record that lacks the field.
    pub missing: MissingPolicy,
    /// Whether the column must have a value.
    pub required: bool,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldSource {
    /// A field of the record, or a field inside a field.
    Path(Vec<String>),
    /// A CEL expression over `src`.
    Expr(String),
    /// Always the same.
    Constant(Scalar),
}

/// Values of the source and what to write for them, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueMap(pub Vec<(String, Scalar)>);

/// What to do with digits that do not fit the target's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The record fails.
    #[default]
    Error,
    /// To the nearest, halves to the even neighbour.
    HalfEven,
    /// To the nearest, halves away from zero.
    HalfUp,
    /// Towards zero.
    Down,
}

/// What to do with a record that lacks a field, as opposed to one that says it is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingPolicy {
    /// The record fails: most likely the source has changed its schema.
    #[default]
    Fail,
    /// As if it were null: the source leaves out what is empty.
    Null,
    /// The target's column stays as it is: the source sends only what changed.
    Keep,
}

pub(crate) const KEYS: &[&str] = &[
    "from", "expr", "value", "type", "default", "values", "round", "missing", "required",
];

const ROUNDINGS: &[(&str, Rounding)] = &[
    ("error", Rounding::Error),
    ("half-even", Rounding::HalfEven),
    ("half-up", Rounding::HalfUp),
    ("down", Rounding::Down),
];

const MISSING: &[(&str, MissingPolicy)] = &[
    ("fail", MissingPolicy::Fail),
    ("null", MissingPolicy::Null),
    ("keep", MissingPolicy::Keep),
];

pub(crate) fn read(node: &Node<'_>) -> Option<Vec<Field>> {
    let entries = node.entries("fields")?;
    if entries.is_empty() {
        node.error("no-fields", "a map without fields writes nothing");
    }
    let mut fields = Vec::with_capacity(entries.len());
    for (column, node) in entries {
        if column.is_empty() {
            node.error("invalid-name", "a column needs a name");
        }
        fields.extend(read_field(column, &node));
    }
    Some(fields)
}

fn path(node: &Node<'_>) -> Option<FieldSource> {
    let text = node.text()?;
    let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) {
        node.error_help(
            "invalid-path",
            format!("`{text}` is no field"),
            "name a field of the source, or a field inside a field as address/city",
        );
        return None;
    }
    Some(FieldSource::Path(parts))
}

fn read_field(column: String, node: &Node<'_>) -> Option<Field> {
    let plain = |column, source| Field {
        column,
        source,
        ty: None,
        default: None,
        values: None,
        round: Rounding::default(),
        missing: MissingPolicy::default(),
        required: false,
    };
    if !node.is_mapping() {
        return Some(plain(column, path(node)?));
    }
    let section = node.map("a field", KEYS)?;
    let given: Vec<&str> = ["from", "expr", "value"]
        .into_iter()
        .filter(|key| section.get(key).is_some())
        .collect();
    let source = match given[..] {
        ["from"] => path(section.required("from")?)?,
        ["expr"] => FieldSource::Expr(section.required("expr")?.text()?),
        ["value"] => FieldSource::Constant(section.required("value")?.scalar()?),
        _ => {
            node.error(
                "ambiguous",
                format!("column `{column}` needs exactly one of from, expr and value"),
            );
            return None;
        }
    };
    let mut field = plain(column, source);
    if let Some(ty) = section.get("type") {
        field.ty = Some(ty.parse("unknown-type")?);
    }
    if let Some(default) = section.get("default") {
        field.default = Some(default.scalar()?);
    }
    if let Some(values) = section.get("values") {
        field.values = Some(read_values(values)?);
    }
    if let Some(round) = section.get("round") {
        field.round = round.choice(ROUNDINGS)?;
    }
    if let Some(missing) = section.get("missing") {
        field.missing = missing.choice(MISSING)?;
    }
    if let Some(required) = section.get("required") {
        field.required = required.boolean()?;
    }
    if matches!(field.source, FieldSource::Constant(_)) {
        for key in ["default", "values", "missing"] {
            if let Some(node) = section.get(key) {
                node.error(
                    "useless-key",
                    format!("`{key}` has no effect on a constant value"),
                );
            }
        }
    }
    Some(field)
}

fn read_values(node: &Node<'_>) -> Option<ValueMap> {
    let entries = node.entries("values")?;
    let mut values = Vec::with_capacity(entries.len());
    for (from, node) in entries {
        values.push((from, node.scalar()?));
    }
    Some(ValueMap(values))
}
