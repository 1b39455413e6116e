//! What can be known to be wrong with templates before a record comes.

use model::{DataType, Value};
use serde::de::IgnoredAny;

use super::{Body, RequestKind, Requests, name};
use crate::plan::PlanProblem;

/// The variables of a request for one record, and of one for many.
const ONE: [&str; 2] = ["key", "row"];
const MANY: [&str; 2] = ["keys", "rows"];

impl Requests {
    /// Looks at the variables that the templates of a request use.
    pub(super) fn check_names(&mut self, kind: RequestKind, batch: usize) -> Vec<PlanProblem> {
        let (path, body) = (
            self.variables_of(kind, "path"),
            self.variables_of(kind, "body"),
        );
        let uses = |names: &[&str]| {
            let mut all = path.iter().chain(&body);
            all.any(|used| names.contains(&used.split('.').next().unwrap_or_default()))
        };
        let (one, many) = (uses(&ONE), uses(&MANY));
        let at_once = if one { 1 } else { batch };
        let known = if at_once > 1 { MANY } else { ONE };
        let mut problems = Vec::new();
        for (part, used) in [("path", &path), ("body", &body)] {
            let at = format!("to.http.{}", name(kind, part));
            for variable in used {
                let wrong = self.check_variable(kind, variable, known, part);
                let wrong = wrong.map(|message| PlanProblem::error("bad-template", &at, message));
                problems.extend(wrong);
            }
        }
        let at = format!("to.http.{}", name(kind, "path"));
        if one && batch > 1 && kind == RequestKind::Upsert && !many {
            let message = format!(
                "the request names `key` or `row`, so it is made for each record alone and `batch: {batch}` does nothing: use `keys` and `rows`, or leave `batch` out"
            );
            problems.push(PlanProblem::warning("useless-key", &at, message));
        }
        let Some(shape) = self.shape_mut(kind) else {
            return problems;
        };
        shape.at_once = at_once;
        shape.fixed = path.is_empty();
        match shape.body {
            Body::None if path.is_empty() => shape.body = Body::Rows,
            Body::Template if path.is_empty() && body.is_empty() => {
                let message = format!(
                    "neither the path nor the body says which record is meant: use `{}` or `{}` in one of them",
                    known[0], known[1]
                );
                problems.push(PlanProblem::error("no-record", &at, message));
            }
            _ => {}
        }
        problems
    }

    /// The variables of a template that it does not make itself, in order.
    fn variables_of(&self, kind: RequestKind, part: &str) -> Vec<String> {
        let Ok(template) = self.env.get_template(&name(kind, part)) else {
            return Vec::new();
        };
        let builtin = |used: &String| self.env.globals().any(|(known, _)| known == used);
        let mut used: Vec<String> = template.undeclared_variables(true).into_iter().collect();
        used.retain(|used| !builtin(used));
        used.sort();
        used
    }

    fn check_variable(
        &self,
        kind: RequestKind,
        variable: &str,
        known: [&str; 2],
        part: &str,
    ) -> Option<String> {
        let mut names = variable.split('.');
        let (head, field) = (names.next()?, names.next());
        if !known.contains(&head) {
            let about = if known == MANY {
                "a request for many records"
            } else {
                "a request for one record"
            };
            let [key, row] = known;
            return Some(format!(
                "there is no `{head}`: {about} knows `{key}` and `{row}`"
            ));
        }
        let keys: Vec<&str> = self
            .key
            .iter()
            .filter_map(|at| Some(self.columns.get(*at)?.as_str()))
            .collect();
        match (head, field) {
            ("key", None) if keys.len() > 1 && part == "path" => Some(format!(
                "the key has {} parts: name one of them, as in `key.{}`",
                keys.len(),
                keys[0]
            )),
            ("key", Some(field)) if keys.len() == 1 => Some(format!(
                "`key` is the value of `{}` itself, it has no `{field}`",
                keys[0]
            )),
            ("key", Some(field)) if !keys.contains(&field) => Some(format!(
                "the key has no `{field}`: it is {}",
                keys.join(", ")
            )),
            ("row", Some(field)) if !self.columns.iter().any(|known| known == field) => {
                Some(format!(
                    "the map has no column `{field}`: it has {}",
                    self.columns.join(", ")
                ))
            }
            ("row", Some(field)) if kind == RequestKind::Delete && !keys.contains(&field) => Some(
                format!("of a record that was deleted only the key is known, not `{field}`"),
            ),
            _ => None,
        }
    }

    /// Fills the templates in for made-up rows. What goes wrong then may go right for others,
    /// so all of it are warnings.
    pub(super) fn try_out(&self, types: &[DataType]) -> Vec<PlanProblem> {
        if types.contains(&DataType::Json) {
            // Whatever a template expects inside is not in a made-up row.
            return Vec::new();
        }
        let row: Vec<Value<'_>> = types.iter().map(|ty| example(*ty)).collect();
        let kinds = [RequestKind::Upsert, RequestKind::Delete];
        let mut problems = Vec::new();
        for kind in kinds.into_iter().filter(|kind| self.shape(*kind).is_some()) {
            let many = self.shape(kind).is_some_and(|shape| shape.at_once > 1);
            let rows = [&row[..], &row[..]];
            let rendered = self.render(kind, if many { &rows } else { &rows[..1] });
            let trouble = match rendered {
                Err(cause) => Some(("path", cause.message)),
                Ok(rendered) => rendered
                    .body
                    .and_then(|body| no_json(&body))
                    .map(|message| ("body", message)),
            };
            problems.extend(trouble.map(|(part, message)| {
                let at = format!("to.http.{}", name(kind, part));
                let message = format!("for a made-up record {message}");
                PlanProblem::warning("doubtful-template", &at, message)
            }));
        }
        problems
    }
}

/// Why a body is no JSON, if it is none.
fn no_json(body: &str) -> Option<String> {
    let error = serde_json::from_str::<IgnoredAny>(body).err()?;
    let shown: String = body.chars().take(80).collect();
    Some(format!(
        "the body is no JSON ({error}): `{shown}`. Text brings its own quotes: write {{{{ row.name }}}}, not \"{{{{ row.name }}}}\""
    ))
}

fn example(ty: DataType) -> Value<'static> {
    match ty {
        DataType::Boolean => Value::Bool(true),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Value::Int(1),
        DataType::Decimal { .. } => Value::Decimal("1.5".into()),
        DataType::Float64 => Value::Float(1.5),
        DataType::Text { .. } => Value::Text("text".into()),
        DataType::Uuid => Value::Uuid([1; 16]),
        DataType::Date => Value::Date(1),
        DataType::Time => Value::Time(1),
        DataType::Timestamp => Value::Timestamp(1),
        DataType::Bytes => Value::Bytes(vec![1].into()),
        DataType::Json => Value::Json("{}".into()),
    }
}
