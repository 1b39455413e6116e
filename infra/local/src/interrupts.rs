//! Ctrl-C and requests to end.

/// Listens for Ctrl-C and for requests to end. None that comes while it exists is lost, however
/// busy the listener is.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    signals: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Interrupts {
    /// Listens from now on.
    #[cfg(unix)]
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let signals = match both {
            [Ok(interrupt), Ok(terminate)] => Some([interrupt, terminate]),
            // Without them the operating system ends the process, as if nobody listened.
            _ => None,
        };
        Self { signals }
    }

    /// Listens from now on.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Self {
        Self {}
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let Some([interrupt, terminate]) = &mut self.signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        // An error means that there is no console to press it on.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
