//! What the target table has to look like.

use definition::{DeletePolicy, Field, FieldSource, Map, Scalar};
use model::DataType;
use ports::{ColumnSchema, ColumnSpec, Deletes, Ownership, TableSchema, TableSpec};

use crate::plan::{PlanProblem, Schemas};

/// The type of a column: as the map says, else as the target has it, else as the source has
/// it, else what the map itself implies.
pub(crate) fn column_type(field: &Field, schemas: &Schemas<'_>) -> DataType {
    if let Some(ty) = field.ty {
        return ty;
    }
    if let Some(ty) = target_column(schemas, &field.column).and_then(|column| column.ty) {
        return ty;
    }
    match &field.source {
        FieldSource::Path(path) if path.len() == 1 && field.values.is_none() => {
            let fields = schemas.source.map_or(&[][..], |schema| &schema.fields);
            let found = fields
                .iter()
                .find(|known| known.name == path[0])
                .and_then(|known| known.ty);
            found.unwrap_or(DataType::Text { max: None })
        }
        FieldSource::Constant(Scalar::Bool(_)) => DataType::Boolean,
        FieldSource::Constant(Scalar::Number(_)) => DataType::Decimal { digits: None },
        _ => DataType::Text { max: None },
    }
}

fn target_column<'s>(schemas: &Schemas<'s>, name: &str) -> Option<&'s ColumnSchema> {
    schemas
        .target?
        .columns
        .iter()
        .find(|column| column.name == name)
}

/// The table a map writes. Its key columns come where the map has them.
pub(crate) fn table(map: &Map, types: &[DataType]) -> TableSpec {
    let columns = map
        .fields
        .iter()
        .zip(types)
        .map(|(field, ty)| ColumnSpec {
            name: field.column.clone(),
            ty: *ty,
            required: field.required || map.to.key.contains(&field.column),
        })
        .collect();
    let position = |name: &String| map.fields.iter().position(|field| field.column == *name);
    TableSpec {
        name: map.to.table.clone(),
        columns,
        key: map.to.key.iter().filter_map(position).collect(),
        ownership: if map.to.existing {
            Ownership::Existing
        } else {
            Ownership::Own
        },
        deletes: match map.deletes.policy {
            DeletePolicy::Propagate => Deletes::Propagate,
            DeletePolicy::Mark => Deletes::Mark,
            DeletePolicy::Ignore => Deletes::Ignore,
        },
    }
}

/// Compares a map with the table it is to write.
pub(crate) fn check_target(map: &Map, schemas: &Schemas<'_>) -> Vec<PlanProblem> {
    let mut problems = Vec::new();
    let Some(target) = schemas.target else {
        if map.to.existing && schemas.target_known {
            let message = format!(
                "there is no table `{}` in `{}`",
                map.to.table, map.to.connection
            );
            let help = "correct its name, make it, or leave `existing` out to have it made";
            problems.push(PlanProblem::error("missing-table", "to.stream", message).help(help));
        }
        return problems;
    };
    for field in &map.fields {
        let at = format!("fields.{}", field.column);
        match target_column(schemas, &field.column) {
            None if map.to.existing => {
                let message = format!("table `{}` has no column `{}`", map.to.table, field.column);
                let help =
                    "correct the name, add the column to the table, or leave it out of the map";
                problems.push(PlanProblem::error("missing-column", &at, message).help(help));
            }
            Some(column) if column.computed => {
                let message = format!(
                    "column `{}` is computed by the target and cannot be written",
                    field.column
                );
                let help = "leave it out of the map";
                problems.push(PlanProblem::error("read-only-column", &at, message).help(help));
            }
            Some(column) => problems.extend(check_type(field, column, &at)),
            None => {}
        }
    }
    let mapped = |name: &str| map.fields.iter().any(|field| field.column == name);
    for column in &target.columns {
        let needed = !column.nullable && !column.defaulted && !column.computed;
        if needed && !mapped(&column.name) && !column.name.starts_with("_syncline") {
            let message = format!(
                "column `{}` of `{}` must have a value and no field gives one",
                column.name, map.to.table
            );
            let help = format!(
                "add `{0}: <field>` or `{0}: {{ value: … }}`, or give the column a default in the table",
                column.name
            );
            let problem = PlanProblem::error("unmapped-mandatory", "fields", message);
            problems.push(problem.help(&help));
        }
    }
    problems.extend(check_key(map, target));
    problems
}

fn check_key(map: &Map, target: &TableSchema) -> Option<PlanProblem> {
    let mut wanted = map.to.key.clone();
    let mut found = target.key.clone();
    wanted.sort();
    found.sort();
    if !map.to.existing || wanted == found {
        return None;
    }
    let has = if target.key.is_empty() {
        "no unique key".to_owned()
    } else {
        format!("the key {}", target.key.join(", "))
    };
    let message = format!(
        "table `{}` has {has}, and the map says {}",
        map.to.table,
        map.to.key.join(", ")
    );
    let help = "the key of the map must be the primary key or a unique key of the table";
    Some(PlanProblem::error("key-mismatch", "to.key", message).help(help))
}

fn check_type(field: &Field, column: &ColumnSchema, at: &str) -> Option<PlanProblem> {
    let (declared, found) = (field.ty?, column.ty?);
    let same_family = std::mem::discriminant(&declared) == std::mem::discriminant(&found);
    if same_family {
        return None;
    }
    let message = format!(
        "column `{}` is {} in the target, and the map makes it {declared}",
        column.name, column.native
    );
    let help = "leave `type` out to take the column's own, or change the column";
    Some(PlanProblem::warning("type-mismatch", at, message).help(help))
}
