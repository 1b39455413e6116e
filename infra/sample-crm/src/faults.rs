//! Answers no client should have to see.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::Set;

/// An answer that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500 with a text.
    ServerError,
    /// 503 with Retry-After of so many seconds.
    Busy(u64),
    /// 429 with Retry-After of so many seconds.
    Throttled(u64),
    /// 401.
    Unauthorized,
    /// 200 with a sign-in page.
    Html,
    /// 200 with a page that ends in the middle.
    Truncated,
    /// 200 with an OData error.
    ErrorInBody,
    /// 410: the skip token or the delta token is too old.
    Gone,
    /// A page whose nextLink leads to itself.
    Loop,
    /// A page whose nextLink leads to another host: this port of `localhost`.
    ForeignLink(u16),
    /// 302 to another host: this port of `localhost`.
    Redirect(u16),
    /// A page whose records lack their key.
    NoKeys,
    /// A page whose records call their name otherwise.
    NewSchema,
}

/// A fault that waits for requests.
#[derive(Debug, Clone, Copy)]
struct Armed {
    fault: Fault,
    /// The entity set it is for; `None` is any.
    set: Option<Set>,
    /// Good answers before it.
    after: usize,
    times: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
    served: [AtomicUsize; 3],
}

impl Faults {
    pub(crate) fn arm(&self, fault: Fault, set: Option<Set>, after: usize, times: usize) {
        self.armed().push(Armed {
            fault,
            set,
            after,
            times,
        });
    }

    pub(crate) fn heal(&self) {
        self.armed().clear();
    }

    fn armed(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request for a page of `set`, and says what is wrong with the answer.
    pub(crate) fn next(&self, set: Set) -> Option<Fault> {
        self.served[set as usize].fetch_add(1, Ordering::SeqCst);
        let mut armed = self.armed();
        let first = armed
            .iter()
            .position(|one| one.set.is_none_or(|of| of == set))?;
        let one = &mut armed[first];
        if one.after > 0 {
            one.after -= 1;
            return None;
        }
        let fault = one.fault;
        one.times = one.times.saturating_sub(1);
        if one.times == 0 {
            armed.remove(first);
        }
        Some(fault)
    }

    pub(crate) fn served(&self, set: Set) -> usize {
        self.served[set as usize].load(Ordering::SeqCst)
    }
}
