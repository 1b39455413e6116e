//! Dead letters: messages that were received again and again and never finished.

use aws_lambda_events::sqs::SqsMessage;
use model::{
    Attempt, Cause, Counts, ErrorClass, Failure, FailureId, Fingerprint, MapName, Pack, Settlement,
    decode_pack,
};

use crate::{Retry, RetryError};

fn dead_cause() -> Cause {
    let message =
        "the change was tried too often without an end: look at the logs of apply, then retry it";
    Cause::new(ErrorClass::Transient, "dead-letter", message)
}

impl Retry {
    /// Takes a dead letter in: each change of a pack as a failure, anything else as it is.
    pub(crate) async fn bury(&self, message: SqsMessage) -> Result<(), RetryError> {
        let body = message.body.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(body).await? else {
            return Ok(());
        };
        if let Ok(pack) = decode_pack(&body) {
            self.bury_pack(&pack).await?;
        } else if let Ok(report) = serde_json::from_str(&body) {
            // The store did not work for very long; now that this message has come, it does.
            self.take(report).await?;
        } else {
            let failure = self.dead_message(&body);
            let (id, length) = (failure.id, body.len());
            tracing::error!(failure.id = %id, "a message of {length} bytes was never finished and goes to the failure store as failure {id}");
            self.failures.put_new(&[failure]).await?;
        }
        Ok(self.outbox.close(blob.as_slice()).await?)
    }

    /// Takes in each change of a pack that was never finished, unless it was after all.
    async fn bury_pack(&self, pack: &Pack) -> Result<(), RetryError> {
        let (map, id) = (&pack.head.map, pack.head.id);
        let failures: Vec<Failure> = (0..pack.changes.len())
            .map(|index| self.of_pack(pack, index, &dead_cause()))
            .collect();
        // Changes that were failures before are in the books already.
        if pack.changes.iter().all(|change| change.failure.is_none()) {
            let settlement = Settlement {
                pack: (&pack.head).into(),
                counts: Counts {
                    failed: failures.len() as u64,
                    ..Counts::default()
                },
                // However often it is buried, it is by the same.
                attempt: Attempt::default(),
            };
            if self.ledger.settle(vec![settlement]).await?.contains(&id) {
                tracing::info!(map.name = %map, pack.id = %id, "pack {id} of map `{map}` is a dead letter, but was finished");
                return Ok(());
            }
        }
        tracing::error!(map.name = %map, pack.id = %id, "pack {id} of map `{map}` was never finished and goes to the failure store");
        self.failures.put_new(&failures).await?;
        Ok(())
    }

    /// A change of a pack as a failure.
    pub(crate) fn of_pack(&self, pack: &Pack, index: usize, cause: &Cause) -> Failure {
        let change = &pack.changes[index];
        let head = &pack.head;
        let base = self.dead_message("");
        Failure {
            id: change
                .failure
                .unwrap_or_else(|| FailureId::of(head.id, index)),
            map: head.map.clone(),
            op: change.op,
            origin: head.origin,
            fingerprint: Fingerprint::of(&head.map, cause),
            cause: cause.clone(),
            run: head.run,
            generation: head.generation,
            trace: head.trace,
            observed: change.observed,
            raw: change.raw_text().into_owned(),
            ..base
        }
    }

    fn dead_message(&self, body: &str) -> Failure {
        let message =
            "the message was tried too often without an end: look at the logs, then retry it";
        let cause = Cause::new(ErrorClass::Invalid, Failure::UNREADABLE, message);
        let (id, now) = (FailureId::of_message(body), self.clock.now());
        Failure {
            attempts: model::MAX_RECEIVES,
            raw: body.to_owned(),
            ..Failure::new(id, MapName::unknown(), cause, now)
        }
    }
}
