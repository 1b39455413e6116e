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
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}
