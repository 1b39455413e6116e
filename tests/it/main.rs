//! Tests of the whole.
#![cfg(test)]

mod crash;
mod flows;
mod order;
mod support;
