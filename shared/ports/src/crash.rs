//! Places at which a test can kill the process.

/// Marks a step between two durable writes.
///
/// With the feature `crash-points` and `SYNCLINE_CRASH_AT=name:n` in the environment, the
/// process kills itself with SIGKILL when it passes this name for the `n`-th time. Otherwise
/// this does nothing and compiles to nothing.
#[inline]
pub fn crash_point(name: &str) {
    #[cfg(feature = "crash-points")]
    armed::pass(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

/// Marks a record that is about to be worked on.
///
/// With the feature `crash-points` and `SYNCLINE_CRASH_ON=text` in the environment, the
/// process kills itself when the record contains the text: a record that breaks the worker.
#[inline]
pub fn crash_on(record: &[u8]) {
    #[cfg(feature = "crash-points")]
    armed::pass_record(record);
    #[cfg(not(feature = "crash-points"))]
    let _ = record;
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for tests, which must not depend on the configuration it tests"
    )]
    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let text = std::env::var("SYNCLINE_CRASH_AT").ok()?;
                let (name, times) = text.rsplit_once(':')?;
                let left = AtomicU64::new(times.parse().ok()?);
                Some(Armed {
                    name: name.to_owned(),
                    left,
                })
            })
            .as_ref()
    }

    pub(super) fn pass(name: &str) {
        let Some(armed) = armed() else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            die();
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for tests, which must not depend on the configuration it tests"
    )]
    pub(super) fn pass_record(record: &[u8]) {
        static FATAL: OnceLock<Option<String>> = OnceLock::new();
        let fatal = FATAL.get_or_init(|| std::env::var("SYNCLINE_CRASH_ON").ok());
        if let Some(fatal) = fatal
            && record
                .windows(fatal.len())
                .any(|window| window == fatal.as_bytes())
        {
            die();
        }
    }

    fn die() {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
