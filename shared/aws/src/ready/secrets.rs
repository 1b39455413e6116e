//! Looking at secrets: they are kept for a while, and the first event finds them.

use std::collections::{BTreeMap, BTreeSet};

use definition::{Connection, Definition, Map};
use runtime::SecretsOf;

use super::{Found, PATIENCE, in_one_line};
use crate::{Stack, StackError};

/// The most secrets that are looked at. Each is a call, and whoever needs a hundred secrets does not
/// need all of them for the first event.
const MOST: usize = 8;

/// What a map needs of secrets.
enum Needed<'d> {
    /// All of these.
    All(BTreeSet<&'d str>),
    /// One of these: the others are of a rotation.
    Any(BTreeSet<&'d str>),
}

impl<'d> Needed<'d> {
    fn names(&self) -> &BTreeSet<&'d str> {
        let (Self::All(names) | Self::Any(names)) = self;
        names
    }

    /// Whether the map can work without these.
    fn works_without(&self, gone: &BTreeMap<&str, String>) -> bool {
        let mut names = self.names().iter();
        match self {
            Self::All(_) => !names.any(|name| gone.contains_key(name)),
            Self::Any(names) if names.is_empty() => true,
            Self::Any(_) => names.any(|name| !gone.contains_key(name)),
        }
    }
}

impl Stack {
    /// A function none of whose maps can work does not begin. With one that can it does: whoever
    /// deletes a secret of one map must not stop all others.
    pub(super) async fn look_at_secrets(
        &self,
        of: SecretsOf,
        definition: &Definition,
    ) -> Result<(), StackError> {
        let maps = needed(of, definition);
        let gone = self.gone(&maps).await;
        if !maps.is_empty() && maps.iter().all(|map| !map.works_without(&gone)) {
            return Err(StackError::NoSecrets(gone.into_values().collect()));
        }
        for (name, why) in gone {
            tracing::error!(
                secret.name = name,
                "a secret that syncline.yaml names cannot be had: {why}"
            );
        }
        Ok(())
    }

    /// Of the first secrets those that will not be had by themselves, and why.
    async fn gone<'d>(&self, maps: &[Needed<'d>]) -> BTreeMap<&'d str, String> {
        let names: BTreeSet<&str> = maps.iter().flat_map(Needed::names).copied().collect();
        let (kept, mut gone) = (&self.secrets, BTreeMap::new());
        let looking = async {
            for name in names.into_iter().take(MOST) {
                match kept.look(name).await {
                    Found::Ready => {}
                    Found::Unusable(why) => drop(gone.insert(name, in_one_line(&why))),
                    Found::Unanswered(why) => tracing::warn!(
                        secret.name = name,
                        "a secret of syncline.yaml cannot be had yet; it is asked for again when it is used: {why}"
                    ),
                }
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            tracing::warn!(
                "Secrets Manager does not answer yet; it is asked again when it is used"
            );
        }
        gone
    }
}

/// What each map that the function works for needs.
fn needed(of: SecretsOf, definition: &Definition) -> Vec<Needed<'_>> {
    let maps = definition.maps.values();
    let connections = |names: &[&model::ConnectionName]| {
        let known = names.iter().filter_map(|name| definition.connection(name));
        let all = known.flat_map(Connection::secrets);
        Needed::All(all.map(|(_, name)| name).collect())
    };
    match of {
        SecretsOf::Nobody => Vec::new(),
        SecretsOf::Webhooks => {
            let webhooks = maps.filter_map(|map| map.webhook.as_ref());
            let all = webhooks.map(|webhook| &webhook.secrets);
            all.map(|names| Needed::Any(names.iter().map(String::as_str).collect()))
                .collect()
        }
        SecretsOf::Sources => maps
            .map(|map| connections(&[&map.from.connection]))
            .collect(),
        SecretsOf::Connections => maps.map(|map| connections(&both(map))).collect(),
    }
}

fn both(map: &Map) -> [&model::ConnectionName; 2] {
    [&map.from.connection, &map.to.connection]
}
