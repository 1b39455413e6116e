//! Alerts: people read them in the log, and later in the store.

use async_trait::async_trait;
use model::Alert;
use ports::{Alerts, QUIET, StoreError};
use rusqlite::Connection;

use crate::Store;

/// Keeps an incident going that is not over yet; whether there is one.
fn goes_on(db: &Connection, incident: &str, now: i64, over: i64) -> rusqlite::Result<bool> {
    let raised = db
        .prepare_cached("UPDATE alerts SET raised = ?1 WHERE incident = ?2 AND raised > ?3")?
        .execute((now, incident, over))?;
    Ok(raised > 0)
}

impl Store {
    /// What people were told within the last 30 days: the newest `limit`, newest first.
    pub async fn alerts(&self, limit: usize) -> Result<Vec<Alert>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let alerts: Vec<String> = self
            .db
            .read("reading alerts", move |db| {
                let mut query =
                    db.prepare_cached("SELECT alert FROM alerts ORDER BY id DESC LIMIT ?1")?;
                let rows = query.query_map([limit], |row| row.get(0))?;
                rows.collect()
            })
            .await?;
        let parse = |text: &String| serde_json::from_str(text);
        let parsed: Result<_, _> = alerts.iter().map(parse).collect();
        parsed.map_err(StoreError::corrupt("an alert"))
    }
}

#[async_trait]
impl Alerts for Store {
    async fn raise(&self, alert: &Alert) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let over = now.saturating_sub(QUIET).unwrap_or(now).as_microsecond();
        let incident = alert.incident();
        let text = serde_json::to_string(alert).map_err(StoreError::corrupt("an alert"))?;
        let news = self
            .db
            .write("storing an alert", move |db| {
                let now = now.as_microsecond();
                if goes_on(db, &incident, now, over)? {
                    return Ok(false);
                }
                db.prepare_cached(
                    "INSERT INTO alerts (incident, raised, alert) VALUES (?1, ?2, ?3)",
                )?
                .execute((incident, now, text))?;
                Ok(true)
            })
            .await?;
        if news {
            tracing::warn!(
                alert.kind = alert.kind.as_str(),
                alert.incident = alert.incident(),
                "{}: {}",
                alert.subject(),
                alert.remedy()
            );
        }
        // It is kept, and whoever looks is told.
        Ok(true)
    }
}
