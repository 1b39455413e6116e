//! What the demo tells.

use std::{path::Path, time::Duration};

use model::{FailureStatus, MapName, VersionKind};
use operations::{OperationError, Operations};
use ports::FailureFilter;
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use super::{Narrator, project::HOOK_SECRET};
use crate::{
    Home,
    cli::CliError,
    output::{count, number},
    server::Server,
};

/// How long a step may take before the demo says that something is wrong.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);

struct Story<'s> {
    narrator: Narrator,
    home: &'s Home,
    crm: &'s SampleCrm,
    folder: &'s Path,
    maps: Vec<MapName>,
}

pub(super) async fn tell(
    narrator: Narrator,
    home: &Home,
    crm: &SampleCrm,
    server: &Server,
    folder: &Path,
) -> Result<(), CliError> {
    let maps = home.definition.maps.keys().cloned().collect();
    let mut story = Story {
        narrator,
        home,
        crm,
        folder,
        maps,
    };
    story.introduce().await;
    story.load().await?;
    let hook = format!("http://{}/hooks/crm", server.address);
    story.live(&hook).await?;
    story.see_failures().await?;
    story.repair().await?;
    story.balance().await
}

impl Story<'_> {
    fn operations(&self) -> &Operations {
        &self.home.operations
    }

    async fn introduce(&mut self) {
        self.narrator.chapter("A CRM and a warehouse").await;
        let sets = Set::ALL.map(|set| {
            format!(
                "{} {}",
                number(self.crm.keys(set).len() as u64),
                set.name().to_lowercase()
            )
        });
        self.narrator.say(format!(
            "A made-up CRM serves {} as OData v4 at {}.",
            sets.join(", "),
            self.crm.url()
        ));
        self.narrator.say(format!(
            "{}/syncline.yaml maps them to tables of warehouse.db, an SQLite file.",
            self.folder.display()
        ));
        self.narrator.say(
            "37 of the records break a rule: a missing name, an e-mail address of 132 characters,",
        );
        self.narrator
            .say("a currency nobody has heard of, an amount with a tenth of a cent.");
    }

    async fn load(&mut self) -> Result<(), CliError> {
        self.narrator.chapter("The initial load").await;
        self.narrator.say("Each map asks the CRM for a place in its stream first, then reads all of it in slices.");
        self.narrator.command(&["load", "--all"]).await?;
        self.settle().await?;
        self.narrator.command(&["status"]).await
    }

    async fn live(&mut self, hook: &str) -> Result<(), CliError> {
        self.narrator.chapter("Live changes").await;
        self.narrator.say(
            "`syncline up` takes webhooks and pulls on schedule. The CRM signs its webhooks after",
        );
        self.narrator
            .say(format!("Standard Webhooks and sends them to {hook}."));
        self.crm
            .subscribe(hook, HOOK_SECRET)
            .map_err(CliError::Other)?;
        let key = self.crm.keys(Set::Accounts)[0].clone();
        self.crm.write(
            Set::Accounts,
            &key,
            &json!({ "Name": "Renamed by webhook Ltd" }),
        );
        let changed = tokio::time::Instant::now();
        let status = self
            .crm
            .notify(Set::Accounts, &key)
            .await
            .map_err(CliError::Other)?;
        self.wait_for_row("accounts", &key, "Renamed by webhook Ltd")
            .await?;
        let took = changed.elapsed().as_secs_f64() * 1_000.0;
        self.narrator.say(format!(
            "An account is renamed: the webhook is answered with {status} once it is on disk,"
        ));
        self.narrator.say(format!(
            "and {took:.1} ms after the change the warehouse has the new name."
        ));

        let gone = self.crm.keys(Set::Contacts)[0].clone();
        if !self.crm.delete(Set::Contacts, &gone) {
            return Err(CliError::Other(format!("the CRM has no contact {gone}")));
        }
        let other = self.crm.keys(Set::Orders)[0].clone();
        self.crm
            .write(Set::Orders, &other, &json!({ "Status": "paid" }));
        self.crm.write(Set::Orders, "999999", &json!({ "Currency": "EUR", "Total": 12.5, "Status": "open", "AccountId": null, "ContactId": null, "OrderDate": "2026-01-02" }));
        self.narrator.say(
            "A contact is deleted, an order paid, another one made, and no webhook tells of it.",
        );
        self.narrator.command(&["pull"]).await?;
        self.narrator
            .then("Webhooks make it fast, pulls make it right. Where is the new order?");
        self.narrator.command(&["trace", "orders", "999999"]).await
    }

    async fn see_failures(&mut self) -> Result<(), CliError> {
        self.narrator.chapter("What could not be applied").await;
        self.narrator.say("The 37 bad records are in no table, and not lost: each is kept whole, with the reason.");
        self.narrator.command(&["failures", "groups"]).await?;
        let count = self
            .operations()
            .count_failures(&FailureFilter::unresolved())
            .await?;
        if count == 37 {
            return Ok(());
        }
        Err(CliError::Other(format!(
            "37 failures were expected, {count} are there"
        )))
    }

    async fn repair(&mut self) -> Result<(), CliError> {
        self.narrator.chapter("Repair").await;
        self.mend_at_the_source().await?;
        self.narrator.then("Where the source will not change, the kept record can be corrected, one or a whole group:");
        let filter = FailureFilter::unresolved();
        for group in self.operations().failure_groups(&filter, 10).await? {
            let patch = match group.code.as_str() {
                "unmapped-value" => r#"[{"op":"replace","path":"/Currency","value":"EUR"}]"#,
                "too-long" => r#"[{"op":"replace","path":"/Email","value":null}]"#,
                _ => continue,
            };
            let group = group.group.to_string();
            self.narrator
                .command(&["failures", "edit", "--group", &group, "--patch", patch])
                .await?;
        }
        self.narrator
            .command(&["failures", "retry", "--all"])
            .await?;
        self.narrator.command(&["failures", "list"]).await?;
        let left = self.operations().count_failures(&filter).await?;
        if left > 0 {
            return Err(CliError::Other(format!(
                "{} are left",
                count(left, "failure")
            )));
        }
        self.narrator.then(
            "Only those were sent again; nothing was read a second time. Every correction is in",
        );
        self.narrator
            .say("`syncline audit`, and the records as they were are kept with the failures.");
        Ok(())
    }

    async fn mend_at_the_source(&self) -> Result<(), CliError> {
        self.narrator.say(
            "A fault in the data is best mended where it is. The CRM corrects names and amounts,",
        );
        self.narrator.say(
            "the next pull brings them, and a retry finds that those failures are superseded:",
        );
        for failure in self
            .operations()
            .failures(&FailureFilter::unresolved(), 100)
            .await?
        {
            let key = failure.key.unwrap_or_default();
            let (set, better) = match failure.code.as_str() {
                "required-null" => (Set::Accounts, json!({ "Name": "Corrected Ltd" })),
                "precision-loss" => (Set::Orders, json!({ "Total": 1234.57 })),
                _ => continue,
            };
            self.crm.write(set, &key, &better);
        }
        self.narrator.command(&["pull"]).await
    }

    async fn balance(&mut self) -> Result<(), CliError> {
        self.narrator.chapter("The balance").await;
        self.settle().await?;
        self.narrator.command(&["balance"]).await?;
        for (map, set) in [
            ("accounts", Set::Accounts),
            ("contacts", Set::Contacts),
            ("orders", Set::Orders),
        ] {
            self.compare(map, set).await?;
        }
        self.narrator
            .then("Every record of the CRM is in the warehouse, compared by key and version.");
        self.narrator.say(format!(
            "Look for yourself: sqlite3 {}/warehouse.db 'select * from orders limit 5'",
            self.folder.display()
        ));
        self.narrator.say(
            "The CRM ends with the demo. What it has left can be looked at with the same commands.",
        );
        Ok(())
    }

    /// Looks each record of the CRM up in a map's table: whether it is there, in its version.
    async fn compare(&self, map: &str, set: Set) -> Result<(), CliError> {
        let map = self.operations().map(map)?.name.clone();
        let plans = &self.home.plans;
        let plan = mapping::Plans::plan(plans.as_ref(), &map)
            .await
            .map_err(CliError::other)?;
        let target = self
            .operations()
            .systems
            .target(&map)
            .await
            .map_err(CliError::other)?;
        let records = self.crm.rows(set);
        let mut rows = model::Rows::new(plan.table().columns.len());
        let mut wanted = Vec::with_capacity(records.len());
        for record in &records {
            let key = record[set.key()]
                .as_str()
                .map_or_else(|| record[set.key()].to_string(), str::to_owned);
            let cells = plan.parse_key(&key).map_err(CliError::Other)?;
            let row = rows.push_empty();
            for (at, cell) in plan.table().key.iter().zip(cells) {
                row[*at] = cell;
            }
            let version = VersionKind::Timestamp
                .read(record["ModifiedAt"].as_str().unwrap_or_default())
                .map_err(CliError::other)?;
            wanted.push((key, version));
        }
        let found = target
            .look(plan.table(), &rows)
            .await
            .map_err(CliError::other)?;
        let different: Vec<&String> = wanted
            .iter()
            .zip(&found)
            .filter(|((_, version), row)| !row.exists || row.version != Some(*version))
            .map(|((key, _), _)| key)
            .collect();
        if let Some(first) = different.first() {
            return Err(CliError::Other(format!(
                "{} rows of {map} are not in the warehouse in the CRM's version, {first} among them",
                different.len()
            )));
        }
        Ok(())
    }

    /// Waits until nothing is on its way.
    async fn settle(&self) -> Result<(), CliError> {
        self.wait("all changes to arrive", async || {
            let mut moving = 0;
            for map in &self.maps {
                let books = self.operations().balance(map, 0).await?.books;
                moving += books.in_flight + books.failing;
            }
            let tried = FailureFilter {
                status: vec![FailureStatus::Retrying],
                ..FailureFilter::default()
            };
            Ok(moving + self.operations().count_failures(&tried).await? == 0)
        })
        .await
    }

    async fn wait_for_row(&self, map: &str, key: &str, text: &str) -> Result<(), CliError> {
        let map = self.operations().map(map)?.name.clone();
        self.wait("the row", async || {
            let trace = self.operations().trace(&map, key).await?;
            Ok(trace
                .target
                .record
                .is_some_and(|record| record.get().contains(text)))
        })
        .await
    }

    async fn wait(
        &self,
        what: &str,
        done: impl AsyncFn() -> Result<bool, OperationError>,
    ) -> Result<(), CliError> {
        let started = tokio::time::Instant::now();
        while !done().await? {
            if started.elapsed() > PATIENCE {
                return Err(CliError::Other(format!(
                    "waited too long for {what}: see `syncline status`"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
