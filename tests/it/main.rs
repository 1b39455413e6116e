//! Tests of the whole.
#![cfg(test)]

mod flows;
mod support;
