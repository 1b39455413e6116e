//! How it all has to end.

use std::{collections::BTreeSet, time::Duration};

use sample_crm::Set;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{audit, records::correction, story::Scene};
use crate::support::server_differences;

/// How long it may take until everything is in its place. An attempt whose worker died counts as
/// lost after a quarter of an hour.
const PATIENCE: Duration = Duration::from_mins(25);
const LOOK: Duration = Duration::from_secs(1);

/// Failures of a record that workers died over again and again, of whatever they died.
const POISON: &str = "poison";

const MAPS: [(&str, Set); 3] = [
    ("accounts", Set::Accounts),
    ("contacts", Set::Contacts),
    ("orders", Set::Orders),
];

impl Scene<'_> {
    /// Waits for the end, mends what was planned to fail, and asserts that all is as it should be.
    pub(super) async fn come_to_rest(&self) {
        let resumed = self.stack.run(&["resume", "--json"]).await;
        println!("resumed: {}", resumed.out.trim());
        self.source.heal().await;
        let until = Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(LOOK);
        while !self.is_equal().await {
            self.retry_innocent().await;
            pace.tick().await;
            self.assert_time_left(until).await;
        }
        self.assert_planned().await;
        while !self.failures().await.is_empty() {
            self.repair().await;
            pace.tick().await;
            self.assert_time_left(until).await;
        }
        while !self.is_settled().await {
            pace.tick().await;
            self.assert_time_left(until).await;
        }
        self.assert_end().await;
    }

    async fn is_equal(&self) -> bool {
        self.all_run().await && server_differences(self.crm, self.database).await.is_empty()
    }

    async fn is_settled(&self) -> bool {
        let balances = self.stack.run(&["balance", "--json"]).await.json();
        let mut all = balances.as_array().expect("the books").iter();
        all.all(|one| one["books"]["in_flight"] == 0 && one["books"]["failing"] == 0)
    }

    async fn failures(&self) -> Vec<Value> {
        let list = ["failures", "list", "--limit", "10000", "--json"];
        let listed = self.stack.run(&list).await.json();
        listed.as_array().expect("failures").clone()
    }

    /// Sends records round again that were thought to kill their workers.
    async fn retry_innocent(&self) {
        let failures = self.failures().await;
        let innocent = failures.iter().filter(|one| one["code"] == POISON);
        let groups: BTreeSet<&str> = innocent.filter_map(|one| one["group"].as_str()).collect();
        for group in groups {
            let retry = ["failures", "retry", "--group", group, "--json"];
            println!("innocent: {}", self.stack.run(&retry).await.out.trim());
        }
    }

    /// Only records failed that broke a rule at some time.
    async fn assert_planned(&self) {
        let failures = self.failures().await;
        println!("{} failures", failures.len());
        for failure in failures.iter().filter(|one| one["code"] != POISON) {
            let set = MAPS.into_iter().find(|(map, _)| failure["map"] == *map);
            let planned = set.zip(failure["key"].as_str());
            let planned = planned.is_some_and(|((_, set), key)| self.source.was_bad(set, key));
            assert!(planned, "nobody planned {failure:#}");
        }
    }

    async fn repair(&self) {
        for (map, set) in MAPS {
            let merge = correction(set).to_string();
            let edit = ["failures", "edit", "--map", map, "--merge", &merge];
            self.stack.run(&edit).await;
        }
        let retry = ["failures", "retry", "--all", "--json"];
        let retried = self.stack.run(&retry).await.json();
        if retried["count"] != 0 {
            println!("repaired: {retried}");
        }
    }

    async fn assert_end(&self) {
        let differences = server_differences(self.crm, self.database).await;
        assert_eq!(differences, [""; 0], "equal once, and no more");
        let balance = ["balance", "--runs", "100", "--json"];
        let balance = self.stack.run(&balance).await;
        assert_eq!(balance.code, Some(0), "the books: {}", balance.out);
        let status = self.status().await;
        assert_eq!(status["broken"], json!([]), "{status:#}");
        let books = balance.json();
        let contacts = books.as_array().expect("the books").iter();
        let contacts = contacts.filter(|one| one["map"] == "contacts");
        let read: u64 = contacts
            .filter_map(|one| one["books"]["read"].as_u64())
            .sum();
        let accepted = self.source.accepted();
        assert!(read >= accepted, "{accepted} accepted, {read} in the books");
        let writes = audit::assert_never_back(self.database).await;
        println!(
            "{} changes, {writes} writes, {read} contacts in the books",
            self.source.changes()
        );
        assert!(writes > 0, "nobody saw a write");
    }

    async fn assert_time_left(&self, until: Instant) {
        if Instant::now() < until {
            return;
        }
        let differences = server_differences(self.crm, self.database).await;
        let balance = self.stack.run(&["balance", "--json"]).await.out;
        panic!(
            "it never comes to rest: {} differences: {:#?}\n{:#}\n{balance}\n{:#?}\n{}",
            differences.len(),
            &differences[..differences.len().min(10)],
            self.status().await,
            self.failures().await,
            self.tally
        );
    }
}
