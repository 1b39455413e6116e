//! Targets that are files of SQLite. A Lambda function has no place for them and is built without.

#[cfg(feature = "sqlite")]
pub(crate) use with::target;
#[cfg(not(feature = "sqlite"))]
pub(crate) use without::target;

#[cfg(feature = "sqlite")]
mod with {
    use std::{path::Path, sync::Arc, time::Duration};

    use connector_sqlite::SqliteTarget;
    use definition::Connection;
    use ports::Target;
    use runtime::Pace;

    /// How long a target may wait for a lock on its file: it blocks its thread meanwhile.
    const LONGEST_LOCK: Duration = Duration::from_secs(10);

    /// The target in a file, if this program can have any.
    #[expect(clippy::unnecessary_wraps, reason = "others are built without")]
    pub(crate) fn target(
        file: &Path,
        connection: &Connection,
        pace: Pace,
    ) -> Option<Arc<dyn Target>> {
        let patience = connection.limits.timeout.min(LONGEST_LOCK);
        let target = SqliteTarget::new(file).with_patience(patience);
        Some(Arc::new(target.paced(pace)))
    }
}

#[cfg(not(feature = "sqlite"))]
mod without {
    use std::{path::Path, sync::Arc};

    use definition::Connection;
    use ports::Target;
    use runtime::Pace;

    /// No target.
    pub(crate) fn target(_: &Path, _: &Connection, _: Pace) -> Option<Arc<dyn Target>> {
        None
    }
}
