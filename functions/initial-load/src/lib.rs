//! initial-load
