//! Incidents that people have been told of.

use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use ports::StoreError;

use super::{
    StateTable,
    item::{get_number, key, number, revision, unavailable},
    new_revision,
};

impl StateTable {
    /// Remembers an incident until then, and says whether it was remembered before.
    ///
    /// Where the answer to an attempt that succeeded was lost, what was before is not known: then
    /// it says no, so that people are told twice rather than never.
    pub(crate) async fn remember_incident(
        &self,
        incident: &str,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mine = new_revision();
        let mut item = key(format!("A#{incident}"), "A");
        item.insert("rev".into(), number(mine));
        item.insert("until".into(), number(until.as_microsecond()));
        item.insert("ttl".into(), number(until.as_second()));
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(unavailable("remembering an incident"))?;
        let now = self.clock.now().as_microsecond();
        Ok(put.attributes.is_some_and(|before| {
            revision(&before).0 != mine && get_number::<i64>(&before, "until") > now
        }))
    }
}
