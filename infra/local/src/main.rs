//! The `syncline` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    share_arenas();
    local::main()
}

/// Starts this program again, in the same process, so that its threads share few arenas.
///
/// glibc gives threads arenas of their own, up to eight for each core, and each keeps most of
/// what was freed in it: a load then holds half as much memory again as it uses. Only the
/// environment at the start of a process can bound their number without unsafe code.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn share_arenas() {
    use std::{env, os::unix::process::CommandExt as _, process::Command};

    const LIMIT: &str = "MALLOC_ARENA_MAX";
    const ARENAS: &str = "6";

    if runtime::env::optional(LIMIT).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut given = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = given.next() {
        again.arg0(name);
    }
    // Returns only if it fails, and then more memory is all that it costs.
    let _failed = again.args(given).env(LIMIT, ARENAS).exec();
}
