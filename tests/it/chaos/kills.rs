//! The death of processes.

use std::{fs, time::Duration};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use super::tally::{Kind, Tally};

/// The longest time between two deaths; half of it on average.
const LONGEST: Duration = Duration::from_millis(1_600);
/// One time in so many all processes die at once, as by a loss of power.
const ALL_AT_ONCE: u32 = 20;

/// A process of a function.
#[derive(Debug)]
struct Process {
    id: Pid,
    function: String,
}

impl Process {
    /// The process at a number, if it is one of this stack.
    fn of(stack: &str, number: i32) -> Option<Self> {
        let id = Pid::from_raw(number)?;
        let folder = format!("/proc/{number}");
        if fs::read_to_string(format!("{folder}/comm")).ok()?.trim() != "bootstrap" {
            return None;
        }
        let environment = fs::read(format!("{folder}/environ")).ok()?;
        let value = |name: &str| {
            let mut all = environment.split(|byte| *byte == 0);
            let value = all.find_map(|pair| pair.strip_prefix(name.as_bytes()))?;
            String::from_utf8(value.to_vec()).ok()
        };
        let function = value("AWS_LAMBDA_FUNCTION_NAME=")?;
        let function = function.strip_prefix(stack)?.trim_start_matches('-');
        (value("SYNCLINE_STACK=")? == stack).then(|| Self {
            id,
            function: function.to_owned(),
        })
    }

    fn all_of(stack: &str) -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("a system with /proc");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let numbers = names.filter_map(|name| name.parse().ok());
        numbers
            .filter_map(|number| Self::of(stack, number))
            .collect()
    }
}

/// Kills processes of the functions of a stack, one now and then, until this future is dropped.
pub(super) async fn kill_some(stack: &str, mut random: Rng, tally: &Tally) {
    loop {
        let wait = LONGEST.mul_f64(random.f64());
        // There is nothing to wait for but the time.
        tokio::time::sleep(wait).await;
        let all = Process::all_of(stack);
        let chosen = if random.u32(..ALL_AT_ONCE) == 0 {
            all
        } else {
            random.choice(all).into_iter().collect()
        };
        for process in chosen {
            // One that has ended by itself meanwhile is no kill.
            if kill_process(process.id, Signal::KILL).is_ok() {
                tally.add(Kind::Killed, &process.function);
            }
        }
    }
}
