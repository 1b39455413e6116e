//! A deployment that commands work on, wherever it is.

use std::sync::Arc;

use operations::Operations;
use ports::{Clock, Secrets};
use systems::DefinedPlans;

use crate::Home;

/// What a command works on: a deployment on this machine, or one on AWS.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) operations: Operations,
    pub(crate) clock: Arc<dyn Clock>,
    /// Its maps, held against their systems.
    pub(super) plans: Arc<DefinedPlans>,
    pub(super) secrets: Arc<dyn Secrets>,
    /// Its functions, where a command may have to run them itself.
    pub(super) home: Option<Home>,
}

impl From<Home> for Deployment {
    fn from(home: Home) -> Self {
        Self {
            operations: home.operations.clone(),
            clock: Arc::clone(&home.clock),
            plans: Arc::clone(&home.plans),
            secrets: Arc::clone(&home.functions.intake.secrets),
            home: Some(home),
        }
    }
}

#[cfg(feature = "aws")]
pub(super) mod stack {
    //! Deployments on AWS.

    use ::definition::Definition;
    use aws::Stack;
    use ports::Systems;
    use systems::{DefinedSystems, Surroundings};

    use super::{Arc, DefinedPlans, Deployment, Operations};
    use crate::cli::CliError;

    impl Deployment {
        /// The deployment that is called `name`, in the account and region that the AWS tools
        /// would use.
        pub(in crate::cli) async fn of_stack(
            name: &str,
            definition: Definition,
        ) -> Result<Self, CliError> {
            let stack = Stack::named(name).await.map_err(CliError::other)?;
            let definition = Arc::new(definition);
            let around = Surroundings {
                secrets: stack.secrets(),
                checkpoints: stack.checkpoints(),
                links: stack.links(),
                clock: stack.clock(),
                folder: None,
            };
            let systems: Arc<dyn Systems> =
                Arc::new(DefinedSystems::new(Arc::clone(&definition), around));
            let plans = Arc::new(DefinedPlans::new(
                Arc::clone(&definition),
                Arc::clone(&systems),
                stack.checkpoints(),
            ));
            let outbox = stack.outbox(&definition);
            let operations = Operations {
                definition,
                plans: Arc::clone(&plans) as _,
                systems,
                outbox,
                parking: stack.parking(),
                checkpoints: stack.checkpoints(),
                ledger: stack.ledger(),
                failures: stack.failures(),
                states: stack.states(),
                breakers: stack.breakers(),
                clock: stack.clock(),
                who: crate::home::who(),
            };
            Ok(Self {
                operations,
                clock: stack.clock(),
                plans,
                secrets: stack.secrets(),
                home: None,
            })
        }
    }
}
