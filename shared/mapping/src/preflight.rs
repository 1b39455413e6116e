//! What shows before the first record comes, when a map is held against its systems: not what
//! is impossible, which is found when it is compiled, but what will go wrong some day.

use std::collections::BTreeSet;

use definition::{Field, FieldSource, Map, MissingPolicy, Rounding};
use model::DataType;
use ports::{ColumnSchema, FieldSchema, StreamSchema, TableSchema};

use crate::{
    expr::{Expression, Needs},
    plan::{Column, Origin, PlanProblem, Schemas},
};

/// The expressions of a map, with their places in it.
pub(crate) fn expressions<'e>(
    columns: &'e [Column],
    filter: Option<&'e Expression>,
    deleted: Option<&'e Expression>,
) -> Vec<(String, &'e Expression)> {
    let of_column = |column: &'e Column| match &column.origin {
        Origin::Expr(expression) => Some((format!("fields.{}", column.name), &**expression)),
        Origin::Slot(..) | Origin::Constant(_) => None,
    };
    let filter = filter.map(|expression| ("filter".to_owned(), expression));
    let deleted = deleted.map(|expression| ("from.deleted".to_owned(), expression));
    let of_columns = columns.iter().filter_map(of_column);
    of_columns.chain(filter).chain(deleted).collect()
}

/// Compares a map, its expressions and the types of its columns with what its systems look
/// like.
pub(crate) fn check(
    map: &Map,
    expressions: &[(String, &Expression)],
    types: &[DataType],
    schemas: &Schemas<'_>,
) -> Vec<PlanProblem> {
    let mut problems = Vec::new();
    if let Some(target) = schemas.target {
        problems.extend(owner(map, target));
    }
    let Some(source) = schemas.source.filter(|source| !source.fields.is_empty()) else {
        return problems;
    };
    for (at, expression) in expressions {
        problems.extend(unknown(map, at, expression, source));
    }
    for (field, ty) in map.fields.iter().zip(types) {
        let target = schemas.target.and_then(|target| {
            target
                .columns
                .iter()
                .find(|column| column.name == field.column)
        });
        problems.extend(unseen(map, field, source));
        if let Some(from) = plain(field, source) {
            problems.extend(lossy(field, from, *ty));
            problems.extend(empty(field, from, target));
        }
    }
    if let Some(by) = map
        .load
        .by
        .as_deref()
        .filter(|by| find(source, by).is_none())
    {
        let message = format!("`{}` has no field `{by}` to cut a load by", map.from.entity);
        let help = "name a number or a time of it, or leave `by` out to cut by the key";
        problems.push(PlanProblem::error("missing-field", "load.by", message).help(help));
    }
    problems
}

fn find<'s>(source: &'s StreamSchema, name: &str) -> Option<&'s FieldSchema> {
    source.fields.iter().find(|field| field.name == name)
}

/// The source field that goes into a column as it is.
fn plain<'s>(field: &Field, source: &'s StreamSchema) -> Option<&'s FieldSchema> {
    match &field.source {
        FieldSource::Path(path) if path.len() == 1 && field.values.is_none() => {
            find(source, &path[0])
        }
        _ => None,
    }
}

/// A table that is there already is either Syncline's own, made for this key, or said to be
/// the user's: Syncline adds columns to its own tables.
fn owner(map: &Map, target: &TableSchema) -> Option<PlanProblem> {
    if map.to.existing {
        return None;
    }
    let table = &map.to.table;
    if !target.own {
        let message = format!("table `{table}` is there already, and syncline did not make it");
        let help = "add `existing: true` to write into it as it is, or name another table";
        return Some(PlanProblem::error("foreign-table", "to.stream", message).help(help));
    }
    let sorted = |key: &[String]| {
        let mut key = key.to_vec();
        key.sort();
        key
    };
    if target.key.is_empty() || sorted(&target.key) == sorted(&map.to.key) {
        return None;
    }
    let message = format!(
        "table `{table}` was made with the key {}, and the map says {}",
        target.key.join(", "),
        map.to.key.join(", ")
    );
    let help = "go back to that key, or name another table and load it";
    Some(PlanProblem::error("key-mismatch", "to.key", message).help(help))
}

/// Fields that an expression looks at and no record has.
fn unknown(
    map: &Map,
    at: &str,
    expression: &Expression,
    source: &StreamSchema,
) -> Vec<PlanProblem> {
    let Needs::Fields(fields) = expression.needs() else {
        return Vec::new();
    };
    let fields: BTreeSet<&String> = fields.iter().collect();
    let unknown = fields
        .into_iter()
        .filter(|name| find(source, name).is_none());
    unknown.map(|name| missing(map, at, name)).collect()
}

/// A field that no record has, and of which nobody would hear: the map says what to do
/// without it.
fn unseen(map: &Map, field: &Field, source: &StreamSchema) -> Option<PlanProblem> {
    let FieldSource::Path(path) = &field.source else {
        return None;
    };
    let silent = field.default.is_some() || field.missing != MissingPolicy::Fail;
    let name = path.first().filter(|_| silent)?;
    let at = format!("fields.{}", field.column);
    find(source, name)
        .is_none()
        .then(|| missing(map, &at, name))
}

fn missing(map: &Map, at: &str, name: &str) -> PlanProblem {
    let message = format!(
        "`{}` has no field `{name}`, and the map goes on without it",
        map.from.entity
    );
    PlanProblem::warning("missing-field", at, message).help("correct the name of the field")
}

/// A column that must have a value, and a field that may have none.
fn empty(field: &Field, from: &FieldSchema, column: Option<&ColumnSchema>) -> Option<PlanProblem> {
    let column = column.filter(|column| !column.nullable && !column.computed)?;
    if !from.nullable || field.default.is_some() || field.required {
        return None;
    }
    let message = format!(
        "column `{}` must have a value, and `{}` may be null: such records will fail",
        column.name, from.name
    );
    let at = format!("fields.{}", field.column);
    let help = "give the field a `default`, or say `required: true` if that is what you want";
    Some(PlanProblem::warning("missing-default", &at, message).help(help))
}

/// A column that cannot hold every value of its field.
fn lossy(field: &Field, from: &FieldSchema, to: DataType) -> Option<PlanProblem> {
    let ty = from.ty?;
    let rounds = field.round != Rounding::Error;
    let help = match fit(ty, to) {
        Fit::All => return None,
        Fit::Smaller if rounds => return None,
        Fit::Smaller => "give the column more room, or say how to round with `round`",
        Fit::Other => "change the type of the column, or convert with `expr`",
    };
    let message = format!(
        "`{}` is {ty} in the source, and column `{}` is {to}: values that do not fit make their records fail",
        from.name, field.column
    );
    let at = format!("fields.{}", field.column);
    Some(PlanProblem::warning("type-mismatch", &at, message).help(help))
}

/// How values of one type fit into another.
enum Fit {
    All,
    /// Of the same kind, but not all of them.
    Smaller,
    /// Of another kind.
    Other,
}

/// Digits before and after the point that a numeric type holds; `None` is any number of them.
fn digits(ty: DataType) -> Option<(Option<u8>, Option<u8>)> {
    Some(match ty {
        DataType::Int16 => (Some(5), Some(0)),
        DataType::Int32 => (Some(10), Some(0)),
        DataType::Int64 => (Some(19), Some(0)),
        DataType::Decimal { digits: None } => (None, None),
        DataType::Decimal {
            digits: Some((all, scale)),
        } => (Some(all - scale), Some(scale)),
        _ => return None,
    })
}

fn fit(from: DataType, to: DataType) -> Fit {
    use DataType::{Date, Float64, Json, Text, Timestamp};
    // How much there is at the most, where that is known, against how much there is room for.
    let within = |most: Option<u8>, room: Option<u8>| match (most, room) {
        (Some(most), Some(room)) => most <= room,
        _ => true,
    };
    if let (Some((whole, scale)), Some((room, places))) = (digits(from), digits(to)) {
        let fits = within(whole, room) && within(scale, places);
        return if fits { Fit::All } else { Fit::Smaller };
    }
    match (from, to) {
        (Text { max: Some(most) }, Text { max: Some(room) }) if most > room => Fit::Smaller,
        (_, Text { .. } | Json) | (Date, Timestamp) => Fit::All,
        (Timestamp, Date) | (Float64, DataType::Decimal { .. }) => Fit::Smaller,
        (from, Float64) if digits(from).is_some() => Fit::All,
        (from, to) if std::mem::discriminant(&from) == std::mem::discriminant(&to) => Fit::All,
        _ => Fit::Other,
    }
}
