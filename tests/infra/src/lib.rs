//! Tests that the template for AWS agrees with the code.
//!
//! They read `infra/aws/template.yaml` and the sources, and run in a moment: neither an emulator
//! nor the AWS SDK is needed. What only a deployment can show is tested by deploying.
#![cfg(test)]

mod calls;
mod environment;
mod functions;
mod permissions;
mod queues;
mod sources;
mod tables;
mod template;
mod uses;

/// Fails with all that was found, one a line: whoever changes the template wants to see all of it.
#[track_caller]
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n\n  {}\n", problems.join("\n  "));
}
