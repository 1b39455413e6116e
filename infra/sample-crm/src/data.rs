//! Made-up rows that look like real ones.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::{Set, Size, store::Store};

const FIRST: &[&str] = &[
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana", "Kai", "Lea", "Max",
    "Nora", "Otto", "Pia", "Quin", "Rosa", "Sven", "Tara", "Udo", "Vera", "Wim", "Xena", "Yara",
    "Zoë",
];
const LAST: &[&str] = &[
    "Abbott", "Baker", "Castro", "Dvořák", "Evans", "Fischer", "García", "Hansen", "Ito", "Jensen",
    "Kováč", "Lopez", "Meyer", "Novak", "O'Hara", "Petrov", "Quist", "Rossi", "Silva", "Tanaka",
    "Ueda", "Vogel", "Weber", "Xu", "Young", "Zhang",
];
const TRADES: &[&str] = &[
    "Trading",
    "Foods",
    "Logistics",
    "Instruments",
    "Textiles",
    "Energy",
    "Papers",
    "Optics",
];
const FORMS: &[&str] = &["Ltd", "GmbH", "AG", "Inc", "S.A.", "B.V."];
const COUNTRIES: &[&str] = &[
    "Germany",
    "France",
    "Netherlands",
    "Denmark",
    "Spain",
    "Italy",
    "Poland",
    "Austria",
    "Switzerland",
    "Japan",
    "Canada",
    "Brazil",
];
const CURRENCIES: &[&str] = &["EUR", "USD", "GBP", "CHF", "JPY"];
const STATES: &[&str] = &["open", "shipped", "invoiced", "paid"];

struct Maker {
    random: fastrand::Rng,
    start: Timestamp,
}

impl Maker {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.random.choice(from).copied().unwrap_or_default()
    }

    fn id(&mut self) -> Uuid {
        Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid()
    }

    /// A time within 300 days, to the millisecond.
    fn time(&mut self) -> Timestamp {
        let later = SignedDuration::from_millis(self.random.i64(0..300 * 86_400_000));
        self.start.saturating_add(later).unwrap_or(self.start)
    }

    fn money(&mut self, most: i64) -> Value {
        let cents = self.random.i64(100..most * 100);
        serde_json::from_str(&format!("{}.{:02}", cents / 100, cents % 100)).unwrap_or_default()
    }
}

/// Makes all rows. `size.bad` of them break a rule: a name that is missing, an e-mail address
/// that is too long, a currency nobody knows, an amount with a tenth of a cent.
pub(crate) fn make(size: Size) -> Store {
    let mut maker = Maker {
        random: fastrand::Rng::with_seed(7),
        start: Timestamp::from_second(1_735_689_600).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    let mut store = Store::new();
    let mut bad = Bad::new(size);
    let mut accounts: Vec<Uuid> = Vec::with_capacity(size.accounts);
    for number in 0..size.accounts {
        let id = maker.id();
        let mut row = account(&mut maker, id, number, &accounts);
        bad.spoil(Set::Accounts, number, &mut row);
        store.fill(Set::Accounts, row);
        accounts.push(id);
    }
    let mut contacts: Vec<Uuid> = Vec::with_capacity(size.contacts);
    for number in 0..size.contacts {
        let id = maker.id();
        let mut row = contact(&mut maker, id, number, &accounts);
        bad.spoil(Set::Contacts, number, &mut row);
        store.fill(Set::Contacts, row);
        contacts.push(id);
    }
    for number in 0..size.orders {
        let mut row = order(&mut maker, number, &accounts, &contacts);
        bad.spoil(Set::Orders, number, &mut row);
        store.fill(Set::Orders, row);
    }
    store
}

fn account(maker: &mut Maker, id: Uuid, number: usize, others: &[Uuid]) -> Value {
    let (last, trade, form) = (maker.pick(LAST), maker.pick(TRADES), maker.pick(FORMS));
    let parent = if maker.random.u8(..5) == 0 {
        maker.random.choice(others).map(Uuid::to_string)
    } else {
        None
    };
    let created = maker.time();
    json!({
        "AccountId": id.to_string(),
        "AccountNumber": format!("A-{number:07}"),
        "Name": format!("{last} {trade} {} {form}", number % 997),
        "ParentAccountId": parent,
        "Country": maker.pick(COUNTRIES),
        "CreditLimit": maker.money(100_000),
        "Address": { "City": maker.pick(LAST), "PostalCode": format!("{:05}", maker.random.u32(..99_999)) },
        "CreatedAt": created.to_string(),
        "ModifiedAt": created.saturating_add(SignedDuration::from_hours(maker.random.i64(0..1_000))).unwrap_or(created).to_string(),
    })
}

fn contact(maker: &mut Maker, id: Uuid, number: usize, accounts: &[Uuid]) -> Value {
    let (first, last) = (maker.pick(FIRST), maker.pick(LAST));
    let plain: String = format!("{first}.{last}")
        .to_lowercase()
        .chars()
        .filter(char::is_ascii)
        .collect();
    let created = maker.time();
    json!({
        "ContactId": id.to_string(),
        "AccountId": maker.random.choice(accounts).map(Uuid::to_string),
        "FirstName": first,
        "LastName": last,
        "Email": format!("{plain}{number}@example.com"),
        "Phone": if maker.random.u8(..3) == 0 { Value::Null } else { json!(format!("+49 30 {:07}", maker.random.u32(..9_999_999))) },
        "Birthday": format!("{}-{:02}-{:02}", maker.random.u16(1950..2005), maker.random.u8(1..=12), maker.random.u8(1..=28)),
        "CreatedAt": created.to_string(),
        "ModifiedAt": created.to_string(),
    })
}

fn order(maker: &mut Maker, number: usize, accounts: &[Uuid], contacts: &[Uuid]) -> Value {
    let created = maker.time();
    json!({
        "OrderNo": 100_000 + number,
        "AccountId": maker.random.choice(accounts).map(Uuid::to_string),
        "ContactId": maker.random.choice(contacts).map(Uuid::to_string),
        "OrderDate": created.strftime("%Y-%m-%d").to_string(),
        "Currency": maker.pick(CURRENCIES),
        "Total": maker.money(20_000),
        "Status": maker.pick(STATES),
        "CreatedAt": created.to_string(),
        "ModifiedAt": created.saturating_add(SignedDuration::from_mins(maker.random.i64(0..10_000))).unwrap_or(created).to_string(),
    })
}

/// Spoils evenly spread rows, a fair share of each set.
struct Bad {
    every: [usize; 3],
    left: [usize; 3],
}

impl Bad {
    fn new(size: Size) -> Self {
        let rows = [size.accounts, size.contacts, size.orders];
        let all: usize = rows.iter().sum::<usize>().max(1);
        let mut left = rows.map(|n| size.bad * n / all);
        left[2] += size.bad - left.iter().sum::<usize>();
        let every = [0, 1, 2].map(|at| rows[at].checked_div(left[at].max(1)).unwrap_or(1).max(1));
        Self { every, left }
    }

    fn spoil(&mut self, set: Set, number: usize, row: &mut Value) {
        let at = set as usize;
        if self.left[at] == 0 || number % self.every[at] != self.every[at] / 2 {
            return;
        }
        self.left[at] -= 1;
        match set {
            Set::Accounts => row["Name"] = Value::Null,
            Set::Contacts => {
                row["Email"] = json!(format!("{}@example.com", "very.long.".repeat(12)));
            }
            Set::Orders if self.left[at].is_multiple_of(2) => row["Currency"] = json!("Taler"),
            Set::Orders => {
                row["Total"] = serde_json::from_str("1234.567").unwrap_or_default();
            }
        }
    }
}
