//! What everything that tells people has to do.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use model::{Alert, AlertKind, ConnectionName};

use super::map_name;
use crate::{Alerts, QUIET};

/// Somebody who has been told nothing yet, and a way to let time pass.
#[async_trait]
pub trait AlertsFixture: Debug + Send + Sync {
    /// What tells them.
    fn alerts(&self) -> &dyn Alerts;
    /// The time as it sees it.
    fn now(&self) -> jiff::Timestamp;
    /// Lets time pass.
    async fn pass(&self, time: Duration);
    /// The incidents they have been told of since this was last asked, in any order.
    async fn told(&self) -> Vec<String>;
}

fn connection() -> AlertKind {
    AlertKind::BreakerOpen(ConnectionName::new("warehouse").expect("a valid name"))
}

async fn raise(fixture: &dyn AlertsFixture, kind: AlertKind) -> String {
    let alert = Alert {
        kind,
        at: fixture.now(),
    };
    let raised = fixture.alerts().raise(&alert).await;
    raised.expect("raised");
    alert.incident()
}

/// Who raises an incident that people know of is told so.
pub async fn says_what_people_know(fixture: &dyn AlertsFixture) {
    let alert = Alert {
        kind: connection(),
        at: fixture.now(),
    };
    for _ in 0..2 {
        let told = fixture.alerts().raise(&alert).await;
        assert!(told.expect("raised"));
    }
}

/// People are told of an incident once, however long it lasts, and of the next one again.
pub async fn an_incident_is_told_once(fixture: &dyn AlertsFixture) {
    let incident = raise(fixture, connection()).await;
    assert_eq!(fixture.told().await, [incident.as_str()]);
    for _ in 0..4 {
        fixture
            .pass(QUIET.saturating_sub(Duration::from_secs(1)))
            .await;
        raise(fixture, connection()).await;
    }
    assert_eq!(fixture.told().await, [""; 0], "it never was quiet");
    fixture.pass(QUIET).await;
    raise(fixture, connection()).await;
    assert_eq!(fixture.told().await, [incident]);
}

/// Of one incident nothing follows for another.
pub async fn incidents_are_told_apart(fixture: &dyn AlertsFixture) {
    let mut raised = Vec::new();
    for kind in [
        connection(),
        AlertKind::MapBroken(map_name("warehouse")),
        AlertKind::MapBroken(map_name("warehouse-2")),
    ] {
        raised.push(raise(fixture, kind).await);
    }
    fixture.pass(Duration::from_secs(1)).await;
    raised.push(raise(fixture, AlertKind::MapBroken(map_name("warehouse"))).await);
    let mut told = fixture.told().await;
    raised.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, raised);
}

/// Of many workers that see the same at once, one tells.
pub async fn of_many_one_tells(fixture: &dyn AlertsFixture) {
    let raised = join_all((0..8).map(|_| raise(fixture, connection()))).await;
    assert_eq!(fixture.told().await, raised[..1]);
}

/// Tests of the contract of [`Alerts`].
#[macro_export]
macro_rules! alerts_contract {
    ($make:expr) => {
        $crate::contract!(
            alerts,
            $make,
            [
                an_incident_is_told_once,
                says_what_people_know,
                incidents_are_told_apart,
                of_many_one_tells,
            ]
        );
    };
}
