//! Exact numbers in a database that has none.
//!
//! A column whose declared type is that of a number makes a 64-bit integer of a decimal if it
//! can, else a double, and cuts off without an error what a double does not hold: then keys
//! that differ in their last digits are one. So in tables of Syncline's own a decimal is a
//! number only where its type says that every value of it is kept whole, and text elsewhere;
//! text adds up in sums like a number, but sorts like text. A table that was there before
//! keeps its types, and a value that its column would cut off is refused.

use std::borrow::Cow;

use model::{Cause, DataType, ErrorClass, Value};
use ports::{Ownership, RowOp, TableSpec};
use rusqlite::Connection;

/// Digits that every double keeps.
const EXACT_DIGITS: usize = 15;
/// Digits before the point beyond which a double may know no number at all.
const LARGEST: usize = 300;
/// Digits that every 64-bit integer keeps.
const WHOLE_DIGITS: u8 = 18;

/// Whether a column of numbers keeps every value of a decimal type whole.
pub(crate) fn is_number(precision: u8, scale: u8) -> bool {
    usize::from(precision) <= EXACT_DIGITS || (scale == 0 && precision <= WHOLE_DIGITS)
}

/// A decimal number in the one form in which it is stored and compared: no zeros that say
/// nothing. Any other text stays as it is.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return text.into();
    }
    let most = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    match fraction.trim_end_matches('0') {
        "" if most == "0" => "0".into(),
        "" if most.len() == digits.len() => text.into(),
        "" => format!("{sign}{most}").into(),
        some if (most.len(), some.len()) == (whole.len(), fraction.len()) => text.into(),
        some => format!("{sign}{most}.{some}").into(),
    }
}

/// What SQLite makes of values that are written to a column, by the column's declared type.
///
/// Source: "Datatypes In SQLite", section "Determination Of Column Affinity".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    pub(crate) fn of(declared: &str) -> Self {
        let name = declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if has(&["BLOB"]) || name.is_empty() {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// The plainest type that has it.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        }
    }

    fn keeps(self, number: &str) -> bool {
        let integers = match self {
            Self::Text | Self::Blob => return true,
            Self::Integer | Self::Numeric => true,
            Self::Real => false,
        };
        if integers && number.parse::<i64>().is_ok() {
            return true;
        }
        let point = number.find('.').unwrap_or(number.len());
        let mut digits = number.trim_start_matches(['-', '0', '.']);
        if point == number.len() {
            digits = digits.trim_end_matches('0');
        }
        let count = digits.bytes().filter(u8::is_ascii_digit).count();
        count <= EXACT_DIGITS && point <= LARGEST
    }
}

/// The affinities that the columns of a table have.
pub(crate) fn affinities(
    db: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<(String, Affinity)>> {
    let mut columns = db.prepare_cached("SELECT name, type FROM pragma_table_xinfo(?1)")?;
    let columns = columns.query_map([table], |row| {
        let declared: String = row.get(1)?;
        Ok((row.get(0)?, Affinity::of(&declared)))
    })?;
    columns.collect()
}

/// Why a table that was there before cannot be written by its key: a number has many forms as
/// text, and a row that another program wrote in another one would not be found.
pub(crate) fn unfit_key(db: &Connection, spec: &TableSpec) -> rusqlite::Result<Option<String>> {
    if spec.ownership == Ownership::Own {
        return Ok(None);
    }
    let real = affinities(db, &spec.name)?;
    let holds_text = |name: &str| {
        let mut known = real.iter();
        known.any(|(known, affinity)| {
            known.eq_ignore_ascii_case(name) && matches!(affinity, Affinity::Text | Affinity::Blob)
        })
    };
    let unfit = spec
        .key_columns()
        .find(|column| matches!(column.ty, DataType::Decimal { .. }) && holds_text(&column.name));
    Ok(unfit.map(|column| {
        format!(
            "the key column `{}` of table `{}` holds texts, and the map makes decimals of it, whose text can be written in several ways: give the field `type: text`, in the form that the table has",
            column.name, spec.name
        )
    }))
}

/// Columns of a table that do not keep every number that the map may write.
pub(crate) struct Narrow {
    columns: Vec<(usize, Affinity)>,
}

impl Narrow {
    pub(crate) fn of(db: &Connection, spec: &TableSpec) -> rusqlite::Result<Self> {
        let exact = |ty| matches!(ty, DataType::Decimal { .. } | DataType::Int64);
        let mut columns = Vec::new();
        if spec.columns.iter().any(|column| exact(column.ty)) {
            let real = affinities(db, &spec.name)?;
            for (at, column) in spec.columns.iter().enumerate().filter(|(_, c)| exact(c.ty)) {
                let found = real
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
                let affinity = found.map_or(Affinity::Blob, |(_, affinity)| *affinity);
                if !matches!(affinity, Affinity::Text | Affinity::Blob) {
                    columns.push((at, affinity));
                }
            }
        }
        Ok(Self { columns })
    }

    /// Why a row cannot be kept as it is, if it cannot. Of a delete only the key counts.
    pub(crate) fn refuse(&self, spec: &TableSpec, row: &[Value<'_>], op: &RowOp) -> Option<Cause> {
        match op {
            RowOp::Upsert { .. } | RowOp::SettleUpsert { .. } => {
                self.refuse_some(spec, row, |_| true)
            }
            RowOp::Delete { .. } | RowOp::SettleDelete { .. } => self.refuse_key(spec, row),
        }
    }

    /// The same for its key alone.
    pub(crate) fn refuse_key(&self, spec: &TableSpec, row: &[Value<'_>]) -> Option<Cause> {
        self.refuse_some(spec, row, |at| spec.key.contains(&at))
    }

    fn refuse_some(
        &self,
        spec: &TableSpec,
        row: &[Value<'_>],
        which: impl Fn(usize) -> bool,
    ) -> Option<Cause> {
        let lost = |(at, affinity): &&(usize, Affinity)| match row.get(*at) {
            Some(Value::Decimal(text)) => !affinity.keeps(&plain(text)),
            Some(Value::Int(number)) if *affinity == Affinity::Real => {
                !affinity.keeps(&number.to_string())
            }
            _ => false,
        };
        let mut columns = self.columns.iter().filter(|(at, _)| which(*at));
        let (at, _) = columns.find(lost)?;
        let name = &spec.columns.get(*at)?.name;
        let message = format!(
            "the target refuses the row: `{name}` is a column of numbers that keeps {EXACT_DIGITS} digits, and the value has more: make it a TEXT column, which keeps all of them, or let the map round (`type` with fewer digits, and `round`)"
        );
        let cause = Cause::new(ErrorClass::Invalid, "precision-loss", message);
        Some(cause.at_field(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for (text, expected) in [
            ("12.50", "12.5"),
            ("007", "7"),
            ("-0.0", "0"),
            (".5", "0.5"),
            ("-.50", "-0.5"),
            ("100", "100"),
            ("100.", "100"),
            ("", ""),
            ("-", "-"),
            ("1e3", "1e3"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_column_keeps_comes_back_as_it_was() {
        let keeps = |number: &str| {
            (
                Affinity::Numeric.keeps(number),
                Affinity::Real.keeps(number),
            )
        };
        assert_eq!(keeps("123456789012345"), (true, true));
        assert_eq!(keeps("-0.000123456789012345"), (true, true));
        assert_eq!(keeps("1234567890123456"), (true, false));
        assert_eq!(keeps("9223372036854775808"), (false, false));
        assert_eq!(keeps("12300000000000000000"), (true, true));
        assert_eq!(keeps("100000000000000.01"), (false, false));
        assert_eq!(keeps("10.0000000000001"), (true, true));
        assert_eq!(keeps(&format!("1{}", "0".repeat(310))), (false, false));
        assert!(Affinity::of("varchar(9)").keeps("100000000000000.01"));
    }
}
