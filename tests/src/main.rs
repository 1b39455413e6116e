//! The `syncline` command with places at which tests can kill it.

use std::process::ExitCode;

fn main() -> ExitCode {
    local::main()
}
