//! A map, compiled.

use std::{collections::HashMap, sync::Arc};

use definition::{Field, FieldSource, Map, MissingPolicy, Rounding, Severity};
use model::{DataType, MapName, Value, Version, VersionKind};
use ports::{StreamSchema, TableSchema, TableSpec};

use crate::{
    convert::convert_owned,
    expr::{Expression, Needs},
    extract::Names,
    preflight,
    request::Requests,
    table,
};

/// What is known of the two systems; nothing, when a map is only validated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schemas<'s> {
    /// The source's records.
    pub source: Option<&'s StreamSchema>,
    /// The target's table, if there is one.
    pub target: Option<&'s TableSchema>,
    /// Whether the target was asked, so that `target: None` means that there is no table.
    pub target_known: bool,
}

/// Something in a map that does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProblem {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// Where, below the map: `fields.name`.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
}

impl PlanProblem {
    /// Whether it keeps the map from being used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same with what to do.
    #[must_use]
    pub fn help(self, help: &str) -> Self {
        Self {
            help: Some(help.to_owned()),
            ..self
        }
    }

    /// Something that cannot work.
    #[must_use]
    pub fn error(code: &'static str, at: &str, message: String) -> Self {
        Self {
            severity: Severity::Error,
            code,
            at: at.to_owned(),
            message,
            help: None,
        }
    }

    /// Something that probably is not meant so.
    #[must_use]
    pub fn warning(code: &'static str, at: &str, message: String) -> Self {
        Self {
            severity: Severity::Warning,
            code,
            at: at.to_owned(),
            message,
            help: None,
        }
    }
}

/// Where a column's value comes from, compiled.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The slot of a field, and the way inside it.
    Slot(usize, Vec<String>),
    /// An expression.
    Expr(Box<Expression>),
    /// A constant.
    Constant(Value<'static>),
}

/// One column, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) ty: DataType,
    pub(crate) default: Option<Value<'static>>,
    pub(crate) values: Option<HashMap<String, Value<'static>>>,
    pub(crate) round: Rounding,
    pub(crate) missing: MissingPolicy,
    pub(crate) required: bool,
}

/// A compiled map. It is immutable and can be shared by any number of workers.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) map: MapName,
    pub(crate) digest: String,
    pub(crate) names: Names,
    pub(crate) columns: Vec<Column>,
    /// The fields that the key columns take, in their order, and their slots.
    pub(crate) key_names: Names,
    pub(crate) key_slots: Vec<usize>,
    pub(crate) key_fields: Vec<String>,
    pub(crate) version: Option<usize>,
    pub(crate) version_kind: VersionKind,
    pub(crate) filter: Option<Expression>,
    pub(crate) deleted: Option<Expression>,
    pub(crate) whole: bool,
    pub(crate) table: Arc<TableSpec>,
}

impl Plan {
    /// Compiles a map. Errors and warnings come together; without an error there is a plan.
    #[must_use]
    pub fn compile(map: &Map, schemas: Schemas<'_>) -> (Option<Self>, Vec<PlanProblem>) {
        let mut compiler = Compiler {
            names: Names::default(),
            whole: false,
            problems: Vec::new(),
        };
        let column_type = |field: &Field| table::column_type(field, &schemas);
        let types: Vec<DataType> = map.fields.iter().map(column_type).collect();
        let mut columns = Vec::with_capacity(map.fields.len());
        for (field, ty) in map.fields.iter().zip(&types) {
            let required = field.required || map.to.key.contains(&field.column);
            columns.extend(compiler.column(field, *ty, required));
        }
        for key in &map.from.key {
            compiler.names.slot(key);
        }
        let version = map
            .from
            .version
            .field
            .as_deref()
            .map(|field| compiler.names.slot(field));
        let filter = compiler.condition("filter", map.filter.as_deref());
        let deleted = compiler.condition("from.deleted", map.from.deleted.as_deref());
        compiler.check_source(map, &schemas);
        let expressions = preflight::expressions(&columns, filter.as_ref(), deleted.as_ref());
        let found = preflight::check(map, &expressions, &types, &schemas);
        compiler.problems.extend(found);
        compiler.problems.extend(table::check_target(map, &schemas));
        if let Some(http) = &map.to.http {
            let found = Requests::compile(map, http, &types).1;
            compiler.problems.extend(found);
        }
        let Compiler {
            names,
            whole,
            problems,
        } = compiler;
        if problems.iter().any(PlanProblem::is_error) {
            return (None, problems);
        }
        let table = table::table(map, &types);
        let (key_names, key_slots) = key_fields(&table, &columns, &names);
        let plan = Self {
            map: map.name.clone(),
            digest: map.digest(),
            names,
            columns,
            key_names,
            key_slots,
            key_fields: map.from.key.clone(),
            version,
            version_kind: map.from.version.kind,
            filter,
            deleted,
            whole,
            table: Arc::new(table),
        };
        (Some(plan), problems)
    }

    /// The map's name.
    #[must_use]
    pub fn map(&self) -> &MapName {
        &self.map
    }

    /// Digest of the map it was compiled from.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The table it writes.
    #[must_use]
    pub fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    /// The source's value that a value of a target column stands for, through the column's value
    /// map: the way back. `None` where there is no map or no such value, or where several of the
    /// source become this one and nobody can tell which it was.
    #[must_use]
    pub fn source_value(&self, column: usize, value: &Value<'_>) -> Option<&str> {
        let values = self.columns.get(column)?.values.as_ref()?;
        let mut found = values.iter().filter(|(_, to)| *to == value);
        let (from, _) = found.next()?;
        found.next().is_none().then_some(from)
    }

    /// The source fields it reads; `None` when it needs whole records.
    #[must_use]
    pub fn reads(&self) -> Option<Vec<&str>> {
        (!self.whole).then(|| {
            (0..self.names.len())
                .map(|slot| self.names.name(slot))
                .collect()
        })
    }

    /// When the source committed a state of a row, in microseconds of Unix time, where its
    /// version says so.
    #[must_use]
    pub fn committed(&self, version: Version) -> Option<i64> {
        self.version_kind.time(version)
    }

    /// Whether versions are times of reading, because the source states none.
    #[must_use]
    pub fn orders_by_arrival(&self) -> bool {
        self.version_kind == VersionKind::Arrival
    }
}

/// The fields that the key columns take, and their slots among all fields.
fn key_fields(table: &TableSpec, columns: &[Column], names: &Names) -> (Names, Vec<usize>) {
    let (mut fields, mut slots) = (Names::default(), Vec::with_capacity(table.key.len()));
    for column in table.key.iter().filter_map(|at| columns.get(*at)) {
        if let Origin::Slot(slot, _) = column.origin {
            fields.slot(names.name(slot));
            slots.push(slot);
        }
    }
    (fields, slots)
}

struct Compiler {
    names: Names,
    whole: bool,
    problems: Vec<PlanProblem>,
}

impl Compiler {
    fn column(&mut self, field: &Field, ty: DataType, required: bool) -> Option<Column> {
        let at = format!("fields.{}", field.column);
        let origin = match &field.source {
            FieldSource::Path(path) => {
                let (first, rest) = path.split_first()?;
                Some(Origin::Slot(self.names.slot(first), rest.to_vec()))
            }
            FieldSource::Expr(text) => self
                .expression(&at, text)
                .map(|expression| Origin::Expr(Box::new(expression))),
            FieldSource::Constant(scalar) => self
                .constant(&at, "bad-value", &scalar.to_json(), ty, field.round)
                .map(Origin::Constant),
        };
        let default = field.default.as_ref().and_then(|scalar| {
            self.constant(&at, "bad-default", &scalar.to_json(), ty, field.round)
        });
        let values = field.values.as_ref().map(|values| {
            let convert = |(from, to): &(String, definition::Scalar)| {
                let to = self.constant(&at, "bad-value", &to.to_json(), ty, field.round)?;
                Some((from.clone(), to))
            };
            values.0.iter().filter_map(convert).collect()
        });
        Some(Column {
            name: field.column.clone(),
            origin: origin?,
            ty,
            default,
            values,
            round: field.round,
            missing: field.missing,
            required,
        })
    }

    fn constant(
        &mut self,
        at: &str,
        code: &'static str,
        json: &str,
        ty: DataType,
        round: Rounding,
    ) -> Option<Value<'static>> {
        convert_owned(json, ty, round)
            .map_err(|error| {
                self.problems
                    .push(PlanProblem::error(code, at, error.message));
            })
            .ok()
    }

    fn condition(&mut self, at: &str, text: Option<&str>) -> Option<Expression> {
        self.expression(at, text?)
    }

    fn expression(&mut self, at: &str, text: &str) -> Option<Expression> {
        match Expression::compile(text) {
            Ok(expression) => {
                match expression.needs() {
                    Needs::All => self.whole = true,
                    Needs::Fields(fields) => {
                        for field in fields {
                            self.names.slot(field);
                        }
                    }
                }
                Some(expression)
            }
            Err(error) => {
                self.problems
                    .push(PlanProblem::error("bad-expression", at, error.0));
                None
            }
        }
    }

    /// Compares the fields the map reads with those the source says it has.
    fn check_source(&mut self, map: &Map, schemas: &Schemas<'_>) {
        let Some(source) = schemas.source.filter(|schema| !schema.fields.is_empty()) else {
            return;
        };
        let known = |name: &str| source.fields.iter().any(|field| field.name == name);
        let mut say = |at: String, name: &str| {
            let names: Vec<&str> = source
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect();
            let near = names.iter().find(|near| near.eq_ignore_ascii_case(name));
            let hint = near.map_or_else(
                || format!("its fields are {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("`{}` has no field `{name}`: {hint}", map.from.entity);
            self.problems
                .push(PlanProblem::error("missing-field", &at, message));
        };
        for key in map.from.key.iter().filter(|key| !known(key)) {
            say("from.key".into(), key);
        }
        if let Some(version) = map
            .from
            .version
            .field
            .as_deref()
            .filter(|field| !known(field))
        {
            say("from.version".into(), version);
        }
        for field in &map.fields {
            if let FieldSource::Path(path) = &field.source
                && let Some(first) = path.first()
                && !known(first)
                && field.missing == MissingPolicy::Fail
                && field.default.is_none()
            {
                say(format!("fields.{}", field.column), first);
            }
        }
    }
}
