//! Incidents that people have been told of.

use jiff::Timestamp;
use ports::{Revision, StoreError};

use super::{
    StateTable,
    item::{Item, get_number, key, number, revision},
};

/// What an incident is to who raises it.
#[derive(Debug)]
pub(crate) enum Incident {
    /// People have been told, and it goes on.
    Told,
    /// Another worker is about to tell them.
    Claimed,
    /// Nobody tells them: this one has to.
    News(Revision),
}

fn partition(incident: &str) -> String {
    format!("A#{incident}")
}

const WHAT: &str = "remembering an incident";

impl StateTable {
    /// Keeps an incident going until `over` if people have been told of it. One that is news is
    /// claimed until `claimed`, so that others do not tell as well; whoever has died over that has
    /// told nobody.
    pub(crate) async fn raise_incident(
        &self,
        incident: &str,
        claimed: Timestamp,
        over: Timestamp,
    ) -> Result<Incident, StoreError> {
        let now = self.clock.now().as_microsecond();
        let known = self.item(WHAT, &partition(incident), "A").await?;
        let expected = known.as_ref().map(revision);
        match known.filter(|known| get_number::<i64>(known, "until") > now) {
            Some(known) if known.contains_key("claimed") => Ok(Incident::Claimed),
            Some(_) => {
                // Refused, it was raised by another one just now.
                self.keep(incident, expected, over, false).await?;
                Ok(Incident::Told)
            }
            None => {
                let mine = self.keep(incident, expected, claimed, true).await?;
                Ok(mine.map_or(Incident::Claimed, Incident::News))
            }
        }
    }

    /// Remembers until `over` an incident that this worker has claimed, and told people of; or
    /// forgets it, if that is now.
    pub(crate) async fn end_claim(
        &self,
        incident: &str,
        claim: Revision,
        over: Timestamp,
    ) -> Result<(), StoreError> {
        // Refused, the claim has ended, and another worker has told people as well.
        self.keep(incident, Some(claim), over, false)
            .await
            .map(drop)
    }

    async fn keep(
        &self,
        incident: &str,
        expected: Option<Revision>,
        until: Timestamp,
        claim: bool,
    ) -> Result<Option<Revision>, StoreError> {
        let mut item: Item = key(partition(incident), "A");
        item.insert("until".into(), number(until.as_microsecond()));
        item.insert("ttl".into(), number(until.as_second()));
        if claim {
            item.insert("claimed".into(), number(1));
        }
        self.put_if(WHAT, item, expected).await
    }
}
