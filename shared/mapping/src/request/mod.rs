//! The requests that a map makes of an HTTP endpoint.
//!
//! Paths and bodies are templates in the language of Jinja. A request for one record knows
//! `key` and `row`, one for many `keys` and `rows`. A key of one column is its value, a key
//! of several an object; a row is an object of the map's columns, without those the record
//! says nothing of. What a template does not have is an error, never empty.
//!
//! What is put into a path is percent-encoded, and what is put into a body is JSON: text
//! brings its own quotes. So no value can become a part of the request that its map did not
//! mean. The filter `safe` puts text in as it is.

mod check;
mod json;

use std::fmt;

use definition::{HttpRequest, HttpTarget, Map};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, context};
use model::{Cause, DataType, ErrorClass, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::plan::PlanProblem;

/// What RFC 3986 §2.3 lets stand anywhere.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text as one part of a path. `None` when there is no such part: an empty one would name
/// the whole collection.
#[must_use]
pub fn path_part(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| utf8_percent_encode(text, UNRESERVED).to_string())
}

/// Which of a map's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// That for rows to write.
    Upsert,
    /// That for rows to delete.
    Delete,
}

/// One request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Path and perhaps query, below the connection's address.
    pub path: String,
    /// Body.
    pub body: Option<String>,
}

/// One of a map's requests, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestShape {
    /// Its method.
    pub method: String,
    /// How many records it can be made for at once.
    pub at_once: usize,
    /// Whether its path is the same for all records.
    pub fixed: bool,
    body: Body,
}

/// Where a body comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    /// The row, or all of them.
    Rows,
    Template,
}

/// The requests of a map, compiled. They can be shared by any number of workers.
pub struct Requests {
    env: Environment<'static>,
    columns: Vec<String>,
    key: Vec<usize>,
    upsert: RequestShape,
    delete: Option<RequestShape>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("upsert", &self.upsert)
            .field("delete", &self.delete)
            .finish_non_exhaustive()
    }
}

fn name(kind: RequestKind, part: &str) -> String {
    match kind {
        RequestKind::Upsert => format!("upsert.{part}"),
        RequestKind::Delete => format!("delete.{part}"),
    }
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|name| {
        // The last part of the template's name says what it is for.
        let part = name.rsplit('.').next().unwrap_or_default();
        AutoEscape::Custom(part.to_owned().into())
    });
    env.set_formatter(|out, state, value| {
        if value.is_safe() {
            return Ok(write!(out, "{value}")?);
        }
        if in_path(state) {
            return Ok(out.write_str(&path_value(value)?)?);
        }
        // An `if` without `else`; whatever else is undefined does not come here.
        if value.is_undefined() {
            return Ok(());
        }
        Ok(out.write_str(&json::text(value)?)?)
    });
    env.add_filter("tojson", json::filter);
    env
}

fn in_path(state: &State<'_, '_>) -> bool {
    matches!(state.auto_escape(), AutoEscape::Custom(name) if name == "path")
}

fn path_value(value: &minijinja::Value) -> Result<String, Error> {
    use minijinja::value::ValueKind::{Bool, Number, Plain, String};
    let refused = |detail: std::string::String| Error::new(ErrorKind::InvalidOperation, detail);
    if !matches!(value.kind(), Bool | Number | Plain | String) {
        let kind = value.kind();
        return Err(refused(format!("{kind} cannot be a part of a path")));
    }
    path_part(&value.to_string())
        .ok_or_else(|| refused("an empty text cannot be a part of a path".into()))
}

impl Requests {
    /// Compiles the requests of a map. Errors and warnings come together; without an error
    /// there are requests. `types` are those of the map's columns.
    #[must_use]
    pub fn compile(
        map: &Map,
        http: &HttpTarget,
        types: &[DataType],
    ) -> (Option<Self>, Vec<PlanProblem>) {
        let mut problems = Vec::new();
        let mut requests = Self {
            env: environment(),
            columns: map
                .fields
                .iter()
                .map(|field| field.column.clone())
                .collect(),
            key: map
                .to
                .key
                .iter()
                .filter_map(|name| position(map, name))
                .collect(),
            upsert: shape(RequestKind::Upsert, &http.upsert),
            delete: http
                .delete
                .as_ref()
                .map(|request| shape(RequestKind::Delete, request)),
        };
        let batch = http.batch as usize;
        let kinds = [
            (RequestKind::Upsert, Some(&http.upsert)),
            (RequestKind::Delete, http.delete.as_ref()),
        ];
        for (kind, request) in kinds {
            let Some(request) = request else { continue };
            problems.extend(requests.add(kind, request, batch));
        }
        if problems.is_empty() {
            problems.extend(requests.try_out(types));
        }
        let good = problems.iter().all(|problem| !problem.is_error());
        (good.then_some(requests), problems)
    }

    /// Adds the templates of a request and works out for how many records it can be made.
    fn add(&mut self, kind: RequestKind, request: &HttpRequest, batch: usize) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let parts = [
            ("path", Some(&request.path)),
            ("body", request.body.as_ref()),
        ];
        for (part, text) in parts {
            let Some(text) = text else { continue };
            let name = name(kind, part);
            if let Err(error) = self.env.add_template_owned(name.clone(), text.clone()) {
                let at = format!("to.http.{name}");
                problems.push(PlanProblem::error("bad-template", &at, error.to_string()));
            }
        }
        if problems.is_empty() {
            problems.extend(self.check_names(kind, batch));
        }
        problems
    }

    /// The request of a kind, if the map has it.
    #[must_use]
    pub fn shape(&self, kind: RequestKind) -> Option<&RequestShape> {
        match kind {
            RequestKind::Upsert => Some(&self.upsert),
            RequestKind::Delete => self.delete.as_ref(),
        }
    }

    fn shape_mut(&mut self, kind: RequestKind) -> Option<&mut RequestShape> {
        match kind {
            RequestKind::Upsert => Some(&mut self.upsert),
            RequestKind::Delete => self.delete.as_mut(),
        }
    }

    /// A row as a JSON object, without the columns its record says nothing of.
    #[must_use]
    pub fn row_json(&self, row: &[Value<'_>]) -> String {
        json::object(self.columns.iter().map(String::as_str).zip(row))
    }

    /// Fills in a request for rows; of rows to delete only the key cells matter. There are
    /// never more rows than the request can be made for at once.
    pub fn render(&self, kind: RequestKind, rows: &[&[Value<'_>]]) -> Result<Rendered, Box<Cause>> {
        let refused = |error: &Error| {
            let message = format!("the template of the request cannot be filled in: {error}");
            Box::new(Cause::new(ErrorClass::Mapping, "template", message))
        };
        let absent = || {
            let message = "the map has no such request: add it to `to.http`";
            Box::new(Cause::new(ErrorClass::Mapping, "no-request", message))
        };
        let shape = self.shape(kind).ok_or_else(absent)?;
        let variables = self.variables(kind, shape, rows);
        let fill = |part: &str| {
            let template = self.env.get_template(&name(kind, part))?;
            template.render(variables.clone())
        };
        let path = fill("path").map_err(|error| refused(&error))?;
        let body = match shape.body {
            Body::None => None,
            Body::Template => Some(fill("body").map_err(|error| refused(&error))?),
            Body::Rows if shape.at_once > 1 => {
                let all: Vec<String> = rows.iter().map(|row| self.json_of(kind, row)).collect();
                Some(format!("[{}]", all.join(",")))
            }
            Body::Rows => rows.first().map(|row| self.json_of(kind, row)),
        };
        Ok(Rendered { path, body })
    }

    fn json_of(&self, kind: RequestKind, row: &[Value<'_>]) -> String {
        match kind {
            RequestKind::Upsert => self.row_json(row),
            RequestKind::Delete => json::object(self.key_cells(row)),
        }
    }

    fn key_cells<'r, 'a>(
        &'r self,
        row: &'r [Value<'a>],
    ) -> impl Iterator<Item = (&'r str, &'r Value<'a>)> {
        self.key
            .iter()
            .filter_map(|at| Some((self.columns.get(*at)?.as_str(), row.get(*at)?)))
    }

    fn variables(
        &self,
        kind: RequestKind,
        shape: &RequestShape,
        rows: &[&[Value<'_>]],
    ) -> minijinja::Value {
        let row = |row: &&[Value<'_>]| match kind {
            RequestKind::Upsert => json::row(self.columns.iter().map(String::as_str).zip(*row)),
            RequestKind::Delete => json::row(self.key_cells(row)),
        };
        let key = |row: &&[Value<'_>]| match self.key[..] {
            [at] => row.get(at).map_or(minijinja::Value::UNDEFINED, json::value),
            _ => json::row(self.key_cells(row)),
        };
        if shape.at_once > 1 {
            let (keys, rows): (minijinja::Value, minijinja::Value) = (
                rows.iter().map(key).collect(),
                rows.iter().map(row).collect(),
            );
            return context! { keys, rows };
        }
        let first = rows.first();
        let (key, row) = (first.map(key), first.map(row));
        context! { key, row }
    }
}

fn position(map: &Map, name: &str) -> Option<usize> {
    map.fields.iter().position(|field| field.column == *name)
}

fn shape(kind: RequestKind, request: &HttpRequest) -> RequestShape {
    let body = match (&request.body, kind) {
        (Some(_), _) => Body::Template,
        (None, RequestKind::Upsert) => Body::Rows,
        // Unless its path turns out not to say which record it means.
        (None, RequestKind::Delete) => Body::None,
    };
    RequestShape {
        method: request.method.clone(),
        at_once: 1,
        fixed: false,
        body,
    }
}
