//! recurring-pull
