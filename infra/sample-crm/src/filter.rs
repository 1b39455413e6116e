//! `$filter` and `$orderby`.

use std::cmp::Ordering;

use odata_params::filters::{CompareOperator, Expr, Value as Literal};
use serde_json::{Map, Value};

/// Whether a row meets a condition; `None` where the condition is one this service does not know.
pub(crate) fn holds(expr: &Expr, row: &Map<String, Value>) -> Option<bool> {
    match expr {
        Expr::Or(a, b) => Some(holds(a, row)? || holds(b, row)?),
        Expr::And(a, b) => Some(holds(a, row)? && holds(b, row)?),
        Expr::Not(a) => Some(!holds(a, row)?),
        Expr::Compare(field, operator, value) => {
            let (Expr::Identifier(field), Expr::Value(literal)) = (&**field, &**value) else {
                return None;
            };
            let found = row.get(field).unwrap_or(&Value::Null);
            compare(found, operator, literal)
        }
        _ => None,
    }
}

fn compare(found: &Value, operator: &CompareOperator, literal: &Literal) -> Option<bool> {
    let order = match (found, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        (Value::Null, _) | (_, Literal::Null) => None,
        (Value::String(text), Literal::String(wanted)) => Some(text.as_str().cmp(wanted)),
        (Value::String(text), Literal::Uuid(wanted)) => {
            Some(text.to_lowercase().cmp(&wanted.to_string()))
        }
        (Value::String(text), Literal::DateTime(wanted)) => {
            let time: jiff::Timestamp = text.parse().ok()?;
            let wanted: jiff::Timestamp = wanted.to_rfc3339().parse().ok()?;
            Some(time.cmp(&wanted))
        }
        (Value::String(text), Literal::Date(wanted)) => {
            Some(text.as_str().cmp(&wanted.to_string()))
        }
        (Value::Number(number), Literal::Number(wanted)) => number
            .as_f64()?
            .partial_cmp(&wanted.to_string().parse().ok()?),
        (Value::Bool(value), Literal::Bool(wanted)) => Some(value.cmp(wanted)),
        _ => return None,
    };
    Some(match operator {
        CompareOperator::Equal => order == Some(Ordering::Equal),
        CompareOperator::NotEqual => order != Some(Ordering::Equal),
        CompareOperator::GreaterThan => order == Some(Ordering::Greater),
        CompareOperator::GreaterOrEqual => {
            matches!(order, Some(Ordering::Greater | Ordering::Equal))
        }
        CompareOperator::LessThan => order == Some(Ordering::Less),
        CompareOperator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
    })
}

/// Sorts rows by `a asc,b desc`.
pub(crate) fn sort(rows: &mut [&Map<String, Value>], order: &str) {
    let keys: Vec<(&str, bool)> = order
        .split(',')
        .filter_map(|part| {
            let mut words = part.split_whitespace();
            Some((words.next()?, words.next() == Some("desc")))
        })
        .collect();
    rows.sort_by(|a, b| {
        let by = |(field, descending): &(&str, bool)| {
            let order = order_of(a.get(*field), b.get(*field));
            if *descending { order.reverse() } else { order }
        };
        keys.iter()
            .map(by)
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
}

fn order_of(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a
            .as_f64()
            .partial_cmp(&b.as_f64())
            .unwrap_or(Ordering::Equal),
        (Some(Value::String(a)), Some(Value::String(b))) => {
            match (a.parse::<jiff::Timestamp>(), b.parse::<jiff::Timestamp>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => a.cmp(b),
            }
        }
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
