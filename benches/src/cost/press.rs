//! More webhooks a second than an emulator takes.

use std::{io, time::Duration};

use serde_json::Value;

/// Presses the times in the names of packs together, as if webhooks came so many times as fast since
/// a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Press {
    /// In milliseconds of Unix time.
    since: u64,
    times: f64,
}

impl Press {
    pub(crate) fn from_now(times: f64) -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let since = u64::try_from(now.as_millis()).unwrap_or(0);
        Self { since, times }
    }

    /// Gives the pack of a message the name it would have.
    pub(super) fn message(self, message: &mut Value) -> io::Result<()> {
        let body = message["Body"].as_str().unwrap_or_default();
        let pack: Value = serde_json::from_str(body)?;
        let name = pack["id"].as_str().unwrap_or_default();
        let id: uuid::Uuid = name.parse().map_err(io::Error::other)?;
        message["Body"] = body.replacen(name, &self.id(id).to_string(), 1).into();
        Ok(())
    }

    fn id(self, id: uuid::Uuid) -> uuid::Uuid {
        let (high, low) = id.as_u64_pair();
        let passed = Duration::from_millis((high >> 16).saturating_sub(self.since));
        let passed = u64::try_from(passed.div_f64(self.times).as_millis()).unwrap_or(0);
        uuid::Uuid::from_u64_pair((self.since + passed) << 16 | high & 0xffff, low)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_keeps_all_but_its_time() {
        let press = Press {
            since: 1_000_000,
            times: 12.5,
        };
        let id = |millis: u64| uuid::Uuid::from_u64_pair(millis << 16 | 0x7abc, 0x8123);
        for (made, pressed) in [
            (1_000_000, 1_000_000),
            (1_025_000, 1_002_000),
            (999_999, 1_000_000),
        ] {
            let body = json!({ "type": "pack.v1", "id": id(made), "count": 1 });
            let mut message = json!({ "Body": body.to_string() });
            press.message(&mut message).unwrap();
            let told: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
            assert_eq!(
                told,
                json!({ "type": "pack.v1", "id": id(pressed), "count": 1 })
            );
        }
        assert!(press.message(&mut json!({ "Body": "{}" })).is_err());
    }
}
