//! Made-up customers: the same for the same seed, some 250 bytes of JSON each.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

const FIRST: &[&str] = &[
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana", "Kai", "Lea", "Max",
    "Nora", "Otto", "Pia", "Quin", "Rosa", "Sven", "Tara", "Udo", "Vera", "Wim", "Xena", "Yara",
    "Zoe",
];
const LAST: &[&str] = &[
    "Abbott", "Baker", "Castro", "Dvorak", "Evans", "Fischer", "Garcia", "Hansen", "Ito", "Jensen",
    "Kovac", "Lopez", "Meyer", "Novak", "Olsen", "Petrov", "Quist", "Rossi", "Silva", "Tanaka",
    "Ueda", "Vogel", "Weber", "Xu", "Young", "Zhang",
];
const COUNTRIES: &[&str] = &[
    "US", "DE", "FR", "GB", "NL", "BE", "DK", "SE", "NO", "FI", "PL", "CZ", "AT", "CH", "IT", "ES",
    "PT", "IE", "CA", "MX", "BR", "JP", "KR", "AU", "NZ", "IN", "ZA",
];
const AREAS: &[&str] = &["usmf", "demf", "frrt", "gbsi"];

/// One customer.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) id: uuid::Uuid,
    number: usize,
    first: &'static str,
    last: &'static str,
    /// Hundredths.
    pub(crate) limit: i64,
    country: &'static str,
    pub(crate) modified: Timestamp,
}

/// Makes customers one after the other.
#[derive(Debug)]
pub(crate) struct Customers {
    random: fastrand::Rng,
    next: usize,
}

fn start(text: &str) -> Timestamp {
    text.parse().unwrap_or_default()
}

fn pick(random: &mut fastrand::Rng, from: &[&'static str]) -> &'static str {
    random.choice(from).copied().unwrap_or_default()
}

impl Customers {
    pub(crate) fn new(first: usize, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            next: first,
        }
    }
}

impl Iterator for Customers {
    type Item = Customer;

    fn next(&mut self) -> Option<Customer> {
        let random = &mut self.random;
        let later = SignedDuration::from_millis(random.i64(0..300 * 86_400_000));
        let customer = Customer {
            id: uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid(),
            number: self.next,
            first: pick(random, FIRST),
            last: pick(random, LAST),
            limit: random.i64(0..10_000_000),
            country: pick(random, COUNTRIES),
            modified: start("2025-01-01T00:00:00Z") + later,
        };
        self.next += 1;
        Some(customer)
    }
}

impl Customer {
    fn name(&self) -> String {
        let Self {
            first,
            last,
            number,
            ..
        } = self;
        format!("{first} {last} Trading {} Ltd", number % 997)
    }

    fn email(&self) -> String {
        let (first, last) = (self.first.to_lowercase(), self.last.to_lowercase());
        format!("{first}.{last}{}@example.com", self.number)
    }

    fn area(&self) -> &'static str {
        AREAS[self.number % AREAS.len()]
    }

    fn amount(&self) -> String {
        format!("{}.{:02}", self.limit / 100, self.limit % 100)
    }

    /// The customer as the service shows it.
    pub(crate) fn write_json(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"{{"id":"{}","accountNumber":"CUST-{:08}","name":"{}","email":"{}","creditLimit":{},"country":"{}","modifiedAt":"{:.3}","dataAreaId":"{}"}}"#,
            self.id,
            self.number,
            self.name(),
            self.email(),
            self.amount(),
            self.country,
            self.modified,
            self.area()
        );
    }

    /// The customer as a line for COPY, columns in the order of the JSON fields.
    pub(crate) fn write_copy(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{}\tCUST-{:08}\t{}\t{}\t{}\t{}\t{}\t{}",
            self.id,
            self.number,
            self.name(),
            self.email(),
            self.amount(),
            self.country,
            self.modified,
            self.area()
        );
    }

    /// The cells of the customer as text.
    pub(crate) fn cells(&self) -> [String; 8] {
        [
            self.id.to_string(),
            format!("CUST-{:08}", self.number),
            self.name(),
            self.email(),
            self.amount(),
            self.country.to_owned(),
            self.modified.to_string(),
            self.area().to_owned(),
        ]
    }
}

/// The first `rows` customers.
pub(crate) fn all(rows: usize) -> impl Iterator<Item = Customer> {
    Customers::new(0, 7).take(rows)
}

/// What changes in them: one row in a hundred, a hundredth of those new, oldest change first.
pub(crate) fn changes(rows: usize) -> Vec<Customer> {
    let mut random = fastrand::Rng::with_seed(11);
    let some = all(rows).enumerate().filter(|(at, _)| at % 100 == 50);
    let mut changes: Vec<Customer> = some
        .map(|(_, customer)| Customer {
            limit: random.i64(0..10_000_000),
            ..customer
        })
        .collect();
    let new = Customers::new(5_000_000, 13).take(changes.len() / 100);
    changes.extend(new);
    let begin = start("2026-02-01T00:00:00Z");
    for (at, customer) in (0..).zip(&mut changes) {
        customer.modified = begin + SignedDuration::from_millis(at * 7);
    }
    changes
}

/// What a table of the customers holds: rows and the sum of all limits, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) rows: i64,
    pub(crate) cents: i64,
}

impl Content {
    /// Before any change.
    pub(crate) fn first(rows: usize) -> Self {
        all(rows).fold(Self { rows: 0, cents: 0 }, |sum, customer| Self {
            rows: sum.rows + 1,
            cents: sum.cents + customer.limit,
        })
    }

    /// After all changes.
    pub(crate) fn changed(rows: usize) -> Self {
        let first = Self::first(rows);
        let some = all(rows).enumerate().filter(|(at, _)| at % 100 == 50);
        let (old, before) = some.fold((0, 0), |(count, sum), (_, customer)| {
            (count + 1, sum + customer.limit)
        });
        let changes = changes(rows);
        let new = changes.len() - old;
        let after: i64 = changes.iter().map(|customer| customer.limit).sum();
        Self {
            rows: first.rows + i64::try_from(new).unwrap_or(0),
            cents: first.cents - before + after,
        }
    }
}
