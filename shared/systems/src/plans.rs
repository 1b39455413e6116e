//! Compiled maps.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use definition::{Definition, Map, Severity};
use mapping::{Plan, PlanProblem, Plans, PlansError, Schemas};
use model::{ErrorClass, MapName};
use ports::{Checkpoints, CheckpointsExt, StreamSchema, Systems, SystemsError, TableSchema};
use serde::{Deserialize, Serialize};

/// Plans compiled against what the systems looked like when a map was first used.
///
/// What they looked like is kept in the checkpoint table, so that a worker that starts needs
/// not ask them, and all workers map alike. It is asked again when the map has changed, or
/// when a target turned out to look otherwise.
pub struct DefinedPlans {
    definition: Arc<Definition>,
    pub(crate) systems: Arc<dyn Systems>,
    pub(crate) checkpoints: Arc<dyn Checkpoints>,
    plans: Mutex<HashMap<MapName, Arc<Plan>>>,
}

impl fmt::Debug for DefinedPlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinedPlans").finish_non_exhaustive()
    }
}

/// What the systems of a map looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Digest of the map for which they were asked.
    pub(crate) digest: String,
    pub(crate) source: StreamSchema,
    pub(crate) target: Option<TableSchema>,
}

pub(crate) fn key(map: &MapName) -> String {
    format!("schema/{map}")
}

fn system(what: impl fmt::Display, class: ErrorClass) -> PlansError {
    PlansError::System {
        what: what.to_string(),
        class,
    }
}

fn unusable(error: SystemsError) -> PlansError {
    let class = if error.passes() {
        ErrorClass::Transient
    } else {
        ErrorClass::Auth
    };
    system(error, class)
}

impl DefinedPlans {
    /// Plans for the maps of `definition`.
    #[must_use]
    pub fn new(
        definition: Arc<Definition>,
        systems: Arc<dyn Systems>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Self {
        Self {
            definition,
            systems,
            checkpoints,
            plans: Mutex::default(),
        }
    }

    fn known(&self, map: &MapName) -> Option<Arc<Plan>> {
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(map)
            .cloned()
    }

    async fn ask(&self, map: &Map) -> Result<Snapshot, PlansError> {
        let source = self.systems.source(&map.name).await.map_err(unusable)?;
        let target = self.systems.target(&map.name).await.map_err(unusable)?;
        let source = source
            .describe()
            .await
            .map_err(|error| system(&error, error.class()))?;
        let target = target
            .describe(&map.to.table)
            .await
            .map_err(PlansError::Target)?;
        Ok(Snapshot {
            digest: map.digest(),
            source,
            target,
        })
    }

    async fn make(&self, map: &Map) -> Result<Plan, PlansError> {
        let store = |error: ports::StoreError| system(error, ErrorClass::Transient);
        let stored = self
            .checkpoints
            .load::<Snapshot>(&key(&map.name))
            .await
            .map_err(store)?;
        let revision = stored.as_ref().map(|stored| stored.revision);
        let kept = stored
            .map(|stored| stored.value)
            .filter(|snapshot| snapshot.digest == map.digest());
        let fresh = kept.is_none();
        let snapshot = match kept {
            Some(snapshot) => snapshot,
            None => self.ask(map).await?,
        };
        let (plan, problems) = compile(map, &snapshot);
        let Some(plan) = plan else {
            let all: Vec<String> = problems
                .into_iter()
                .filter(|problem| problem.severity == Severity::Error)
                .map(|problem| format!("{}: {}", problem.at, problem.message))
                .collect();
            return Err(PlansError::Problems {
                map: map.name.clone(),
                what: all.join("; "),
            });
        };
        if fresh {
            // A conflict means that another worker has asked meanwhile, and knows as much.
            let _ = self
                .checkpoints
                .store(&key(&map.name), revision, &snapshot)
                .await;
        }
        Ok(plan)
    }
}

pub(crate) fn compile(map: &Map, snapshot: &Snapshot) -> (Option<Plan>, Vec<PlanProblem>) {
    let schemas = Schemas {
        source: Some(&snapshot.source),
        target: snapshot.target.as_ref(),
        target_known: true,
    };
    Plan::compile(map, schemas)
}

#[async_trait]
impl Plans for DefinedPlans {
    async fn plan(&self, map: &MapName) -> Result<Arc<Plan>, PlansError> {
        if let Some(plan) = self.known(map) {
            return Ok(plan);
        }
        let defined = self
            .definition
            .maps
            .get(map)
            .ok_or_else(|| PlansError::Unknown(map.clone()))?;
        let plan = Arc::new(self.make(defined).await?);
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(map.clone(), Arc::clone(&plan));
        Ok(plan)
    }

    async fn forget(&self, map: &MapName) {
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(map);
        if let Ok(Some(stored)) = self.checkpoints.get(&key(map)).await {
            // If it is not forgotten now, the next failure will try again.
            let _ = self.checkpoints.delete(&key(map), stored.revision).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::ConnectionName;
    use ports::SecretError;

    use super::*;

    #[test]
    fn a_secret_that_cannot_be_read_now_breaks_no_map() {
        let error = |source| SystemsError::Secret {
            connection: ConnectionName::new("crm").unwrap(),
            source,
        };
        let name = String::from("crm");
        let now = SecretError::Unavailable {
            name: name.clone(),
            source: "throttled".into(),
        };
        assert!(unusable(error(now)).passes());
        let remedy = String::from("set it");
        assert!(!unusable(error(SecretError::NotFound { name, remedy })).passes());
    }
}
