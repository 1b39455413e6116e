//! What the adapters on DynamoDB have in common.

mod calls;
mod merge;

use std::{collections::HashMap, error::Error, str::FromStr};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::AttributeValue,
};
use jiff::Timestamp;
use ports::StoreError;

use crate::said::said;

pub(crate) use self::{
    calls::{Table, Transacted, after_transactions, by_key},
    merge::{Bound, Merge, Range},
};

/// An item, or the part of one that was asked for.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number<N: Copy + ToString>(value: N) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn binary(value: Vec<u8>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

pub(crate) fn text_of<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(crate) fn number_of<T: FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(crate) fn binary_of<'i>(item: &'i Item, name: &str) -> Option<&'i [u8]> {
    item.get(name)?.as_b().ok().map(AsRef::as_ref)
}

/// A primary key.
pub(crate) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    HashMap::from([("pk".into(), text(pk)), ("sk".into(), text(sk))])
}

/// A moment as text that sorts by time, those before 1970 included.
pub(crate) fn sortable(at: Timestamp) -> String {
    format!("{:016x}", at.as_microsecond().cast_unsigned() ^ (1 << 63))
}

/// The moment that [`sortable`] made a text of.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let micros = u64::from_str_radix(text.get(..16)?, 16).ok()? ^ (1 << 63);
    Timestamp::from_microsecond(micros.cast_signed()).ok()
}

/// Conditions that all have to hold, written so that no name can be a reserved word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    parts: Vec<String>,
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
}

impl Conditions {
    /// `name <sign> value`.
    pub(crate) fn compare(mut self, name: &str, sign: &str, value: AttributeValue) -> Self {
        self.names.insert(format!("#{name}"), name.into());
        self.values.insert(format!(":{name}"), value);
        self.parts.push(format!("#{name} {sign} :{name}"));
        self
    }

    /// `name` is between two values or one of them.
    pub(crate) fn between(mut self, name: &str, from: AttributeValue, to: AttributeValue) -> Self {
        self.names.insert(format!("#{name}"), name.into());
        self.values.insert(format!(":{name}_from"), from);
        self.values.insert(format!(":{name}_to"), to);
        self.parts
            .push(format!("#{name} BETWEEN :{name}_from AND :{name}_to"));
        self
    }

    /// `name` is one of `values`, of which there is one at least.
    pub(crate) fn one_of(mut self, name: &str, values: Vec<AttributeValue>) -> Self {
        let marks: Vec<String> = (0..values.len())
            .map(|at| format!(":{name}_{at}"))
            .collect();
        self.parts
            .push(format!("#{name} IN ({})", marks.join(", ")));
        self.names.insert(format!("#{name}"), name.into());
        self.values.extend(marks.into_iter().zip(values));
        self
    }

    /// The expression; `None` when everything goes.
    pub(crate) fn expression(&self) -> Option<String> {
        (!self.parts.is_empty()).then(|| self.parts.join(" AND "))
    }
}

/// What a failed call becomes. The SDK's own text of an error is "service error".
pub(crate) fn unavailable<E>(what: &'static str) -> impl FnOnce(SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    move |error| StoreError::Unavailable {
        what,
        source: said(&error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_sort_as_text() {
        let micros = [i64::from(i32::MIN) * 1000, -1, 0, 1, 1_700_000_000_000_000];
        let texts: Vec<String> = micros
            .map(|at| sortable(Timestamp::from_microsecond(at).unwrap()))
            .into();
        assert!(texts.is_sorted());
        for (text, at) in texts.iter().zip(micros) {
            assert_eq!(moment(text).unwrap().as_microsecond(), at);
        }
        assert_eq!(moment("nothing"), None);
    }

    #[test]
    fn conditions_name_what_they_use() {
        let conditions = Conditions::default()
            .compare("map", "=", text("a"))
            .one_of("status", vec![text("open"), text("waiting")]);
        assert_eq!(
            conditions.expression().unwrap(),
            "#map = :map AND #status IN (:status_0, :status_1)"
        );
        assert_eq!((conditions.names.len(), conditions.values.len()), (2, 3));
        assert_eq!(Conditions::default().expression(), None);
    }
}
