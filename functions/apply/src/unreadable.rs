//! Messages that cannot be read.

use std::time::Duration;

use model::{
    Attempt, Cause, Counts, DecodeError, ErrorClass, Failure, FailureId, FailureReport, Lane,
    MapName, PackId, PackRef, QueueName, RunId, Settlement,
};
use runtime::Tally;

use crate::{handler::Apply, stop::Stop};

impl Apply {
    /// Sends a message to the failure store as it is.
    pub(crate) async fn report_unreadable(
        &self,
        body: &str,
        lane: Lane,
        error: &DecodeError,
    ) -> Result<(), Stop> {
        let failure = unreadable(body, lane, error, self.clock.now());
        let (id, map, weight) = (failure.id, failure.map.clone(), failure.weight);
        // What is wrong with it is kept with the failure: it may quote the message.
        tracing::error!(failure.id = %id, map.name = %map, "a message of {} bytes cannot be read and goes to the failure store as failure {id}", body.len());
        let name = format!("unreadable/{id}");
        let report = FailureReport::Failed {
            failures: vec![failure],
            settles: Vec::new(),
        };
        self.outbox
            .send(
                QueueName::Failures,
                Some(&map),
                &name,
                &report,
                Duration::ZERO,
            )
            .await?;
        if let Some(pack) = pack_of(body).filter(|_| lane != Lane::Retry) {
            let counts = Counts {
                failed: weight.into(),
                ..Counts::default()
            };
            // Whoever tries comes to the same.
            let attempt = Attempt::default();
            let settlement = Settlement {
                pack,
                counts,
                attempt,
            };
            self.ledger.settle(vec![settlement]).await?;
        }
        let mut tally = Tally::default();
        tally.outcomes.failed = weight.into();
        if lane != Lane::Retry {
            tally.settled = weight.into();
        }
        self.metrics.record(self.clock.now(), &map, &tally);
        Ok(())
    }
}

/// As much of a pack's envelope as may still be readable.
#[derive(serde::Deserialize)]
struct Remains {
    id: Option<PackId>,
    map: Option<MapName>,
    run: Option<RunId>,
    count: Option<u32>,
}

fn remains(body: &str) -> Remains {
    serde_json::from_str(body).unwrap_or(Remains {
        id: None,
        map: None,
        run: None,
        count: None,
    })
}

fn pack_of(body: &str) -> Option<PackRef> {
    let remains = remains(body);
    Some(PackRef {
        id: remains.id?,
        map: remains.map?,
        run: remains.run?,
    })
}

fn unreadable(body: &str, lane: Lane, error: &DecodeError, now: jiff::Timestamp) -> Failure {
    let remains = remains(body);
    let map = remains.map.unwrap_or_else(MapName::unknown);
    let cause = Cause::new(
        ErrorClass::Invalid,
        Failure::UNREADABLE,
        format!(
            "a message on the {lane} lane cannot be read: {error}. If it comes from a newer version of syncline, update and retry it"
        ),
    );
    let run = remains.run.unwrap_or_else(|| RunId::live(&map));
    Failure {
        // Changes that were failures before are in the books already.
        weight: if lane == Lane::Retry {
            0
        } else {
            remains.count.unwrap_or(1)
        },
        run,
        raw: body.to_owned(),
        ..Failure::new(FailureId::of_message(body), map, cause, now)
    }
}
