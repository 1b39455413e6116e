//! The demo: a made-up CRM, its way into SQLite, trouble, and repair.

mod project;
mod story;

use std::{path::PathBuf, sync::Arc, time::Duration};

use embedded::DataLock;
use ports::SystemClock;
use sample_crm::{SampleCrm, Size};

use crate::{
    Home, Host, HostOptions, Paths,
    cli::{CliError, DemoArgs, code, typed},
    interrupts::Interrupts,
    output::line,
    server::Server,
};

/// Says what is done, and which command a person would type for it.
#[derive(Debug)]
struct Narrator {
    paths: Paths,
    pause: Duration,
    chapter: usize,
}

impl Narrator {
    /// Begins a step.
    async fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        tokio::time::sleep(self.pause).await;
        line(format!("\n{}. {title}", self.chapter));
    }

    #[expect(clippy::unused_self, reason = "it is the narrator who says it")]
    fn say(&self, text: impl AsRef<str>) {
        line(format!("   {}", text.as_ref()));
    }

    /// Goes on after a command.
    fn then(&self, text: impl AsRef<str>) {
        line("");
        self.say(text);
    }

    /// Types a command, which shows what it prints. Failures may be left after it where the
    /// story has not mended them yet.
    async fn command(&self, words: &[&str]) -> Result<(), CliError> {
        let folder = self.paths.project.display().to_string();
        let all: Vec<&str> = ["syncline", "--project", &folder]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        let shown: Vec<String> = all.iter().map(|word| quoted(word)).collect();
        line(format!("\n$ {}", shown.join(" ")));
        match typed(&all, &self.paths.data).await {
            Err(CliError::Said(code::FAILURES)) => Ok(()),
            Err(CliError::Said(code)) => Err(CliError::Other(format!(
                "`syncline {}` has ended with {code}",
                words.join(" ")
            ))),
            other => other,
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Rows in the CRM.
fn size(fast: bool) -> Size {
    if fast {
        Size {
            accounts: 2_000,
            contacts: 3_000,
            orders: 5_000,
            bad: 37,
        }
    } else {
        Size {
            accounts: 20_000,
            contacts: 30_000,
            orders: 50_000,
            bad: 37,
        }
    }
}

pub(crate) async fn run(args: &DemoArgs) -> Result<(), CliError> {
    let folder = args.folder.clone();
    let folder = folder.unwrap_or_else(|| PathBuf::from("syncline-demo"));
    let io = |error| CliError::Other(format!("{}: {error}", folder.display()));
    if !project::may_be_written(&folder).map_err(io)? {
        return Err(CliError::Other(format!(
            "{} has something in it that is not of a former demo, which the demo would write over: name a new or empty folder with --folder",
            folder.display()
        )));
    }
    let interrupts = Interrupts::listen();
    let paths = Paths::of_project(&folder);
    let lock = DataLock::take(&paths.data, "demo")?;
    let crm = SampleCrm::start(size(args.fast))
        .await
        .map_err(CliError::other)?;
    project::write(&folder, &paths.data, &crm).map_err(io)?;
    play(args.fast, lock, paths, &crm, interrupts).await
}

async fn play(
    fast: bool,
    lock: DataLock,
    paths: Paths,
    crm: &SampleCrm,
    mut interrupts: Interrupts,
) -> Result<(), CliError> {
    let home = Home::open(&paths, Arc::new(SystemClock))?;
    let folder = paths.project.clone();
    let nowhere = ([127, 0, 0, 1], 0).into();
    let server = Server::start(nowhere, Arc::clone(&home.functions.intake))
        .await
        .map_err(CliError::other)?;
    // Pulls happen when the story says so.
    let options = HostOptions {
        pulls: false,
        ..HostOptions::default()
    };
    let host = Host::on(lock, &home, options).await;
    let pause = if fast {
        Duration::ZERO
    } else {
        Duration::from_millis(700)
    };
    let narrator = Narrator {
        paths,
        pause,
        chapter: 0,
    };
    let stopped = || Err(CliError::Interrupted("nothing is left running"));
    let told = tokio::select! {
        biased;
        () = interrupts.next() => stopped(),
        told = story::tell(narrator, &home, crm, &server, &folder) => told,
    };
    tokio::select! {
        () = async { server.stop().await; host.stop().await; } => told,
        () = interrupts.next() => stopped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_as_a_shell_takes_them() {
        assert_eq!(quoted("syncline-demo/a.b"), "syncline-demo/a.b");
        assert_eq!(quoted(r#"[{"op":"x"}]"#), r#"'[{"op":"x"}]'"#);
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
