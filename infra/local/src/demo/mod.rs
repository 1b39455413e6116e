//! The demo: a made-up CRM, its way into SQLite, trouble, and repair.

mod project;
mod story;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ports::SystemClock;
use sample_crm::{SampleCrm, Size};

use crate::{
    Home, Host, HostOptions, Paths,
    cli::{CliError, DemoArgs},
    host::interrupted,
    output::{line, note},
    server::Server,
};

/// Says what is done, and which command a person would type for it.
#[derive(Debug)]
struct Narrator {
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

    /// Shows a command and what it prints.
    #[expect(clippy::unused_self, reason = "it is the narrator who shows it")]
    fn command(&self, command: &str, output: &str) {
        line(format!("\n   $ {command}"));
        for text in output.lines() {
            line(format!("   {text}"));
        }
        line("");
    }
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
    tokio::select! {
        result = play(args) => result,
        () = interrupted() => {
            note("\nstopped; nothing is left running");
            Err(CliError::Said(130))
        }
    }
}

async fn play(args: &DemoArgs) -> Result<(), CliError> {
    let folder = args
        .folder
        .clone()
        .unwrap_or_else(|| PathBuf::from("syncline-demo"));
    let crm = SampleCrm::start(size(args.fast))
        .await
        .map_err(CliError::other)?;
    project::write(&folder, &crm)
        .map_err(|error| CliError::Other(format!("{}: {error}", folder.display())))?;
    let paths = Paths::of_project(&folder);
    let home = Home::open(&paths, Arc::new(SystemClock))?;
    // Pulls happen when the story says so.
    let options = HostOptions {
        pulls: false,
        ..HostOptions::default()
    };
    let host = Host::start(&home, &paths, options).await?;
    let listening = Server::start(
        ([127, 0, 0, 1], 0).into(),
        Arc::clone(&home.functions.intake),
    )
    .await;
    let server = listening.map_err(CliError::other)?;
    let pause = if args.fast {
        Duration::ZERO
    } else {
        Duration::from_millis(700)
    };
    let narrator = Narrator { pause, chapter: 0 };
    let told = story::tell(narrator, &home, &crm, &server, &folder).await;
    server.stop().await;
    host.stop().await;
    told
}
