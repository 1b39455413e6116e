//! Answers no client should have to see.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
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
    /// A page whose nextLink leads to itself.
    Loop,
    /// A page whose records lack their key.
    NoKeys,
    /// A page whose records call their name otherwise.
    NewSchema,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<VecDeque<Fault>>,
    served: [AtomicUsize; 3],
}

impl Faults {
    pub(crate) fn arm(&self, fault: Fault, times: usize) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.extend(std::iter::repeat_n(fault, times));
    }

    pub(crate) fn next(&self, set: Set) -> Option<Fault> {
        self.served[set as usize].fetch_add(1, Ordering::SeqCst);
        self.armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    pub(crate) fn served(&self, set: Set) -> usize {
        self.served[set as usize].load(Ordering::SeqCst)
    }
}
