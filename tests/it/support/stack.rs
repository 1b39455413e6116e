//! A deployment on an emulator of AWS: the real template with the real functions.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use sample_crm::{SampleCrm, Set};
use serde_json::Value;
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::process::Command;

use super::{HOOK_SECRET, Project, package, process::Said, run_with};

const FUNCTIONS: [&str; 5] = [
    "webhook-intake",
    "recurring-pull",
    "initial-load",
    "apply",
    "retry",
];

/// How and where to deploy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting<'a> {
    /// Secrets of the stack.
    pub(crate) secrets: &'a [(&'a str, &'a str)],
    /// Parameters of the template.
    pub(crate) parameters: &'a [(&'a str, &'a str)],
    /// Variables of all functions that the template does not set.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// People by name, each with the output of the template that says what they may do; empty for
    /// one who may do nothing.
    pub(crate) users: &'a [(&'a str, &'a str)],
    /// Seconds after which messages of a killed worker come back; 20 if it is 0.
    pub(crate) visibility: u32,
    /// The emulator.
    pub(crate) endpoint: &'a str,
}

/// A deployed project. What it has goes with the emulator.
#[derive(Debug)]
pub(crate) struct Stack {
    name: String,
    endpoint: String,
    /// Where webhooks come in.
    hooks: String,
    /// Keys to sign with, by the names of people.
    users: HashMap<String, (String, String)>,
    project: Project,
    sender: reqwest::Client,
    /// The functions as they were packaged.
    _build: TempDir,
}

/// What `tests/run` has made ready.
pub(crate) fn ready(variable: &str) -> String {
    runtime::env::optional(variable)
        .unwrap_or_else(|| panic!("this test needs {variable}: run tests/run"))
}

impl Stack {
    /// Packages the functions with the project's definition and deploys them.
    pub(crate) async fn deploy(project: Project, setting: Setting<'_>) -> Self {
        let name = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let build = build(&project.file("syncline.yaml"));
        let mut deploy = Command::new(ready("SYNCLINE_TEST_PYTHON"));
        deploy.arg(package().join("aws/deploy.py"));
        deploy.args(["--endpoint", setting.endpoint, "--stack", &name]);
        let visibility = match setting.visibility {
            0 => "20".to_owned(),
            seconds => seconds.to_string(),
        };
        deploy.args(["--visibility", &visibility]);
        deploy.arg("--build").arg(build.path());
        let usual = [("Architecture", "x86_64"), ("LogLevel", "info")];
        let given = [
            ("--parameter", &usual[..]),
            ("--parameter", setting.parameters),
            ("--variable", setting.variables),
            ("--secret", setting.secrets),
            ("--user", setting.users),
        ];
        for (option, pairs) in given {
            for (name, text) in pairs {
                deploy.arg(option).arg(format!("{name}={text}"));
            }
        }
        let done = deploy.kill_on_drop(true).output().await.expect("python");
        let out = String::from_utf8_lossy(&done.stdout);
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{out}\n{err}");
        let outputs: Value = serde_json::from_str(&out).expect("the outputs of the stack");
        let hooks = outputs["WebhookUrl"]
            .as_str()
            .expect("an address for webhooks");
        Self {
            name,
            endpoint: setting.endpoint.to_owned(),
            hooks: hooks.to_owned(),
            users: serde_json::from_value(outputs["Users"].clone()).expect("their keys"),
            project,
            sender: super::client(),
            _build: build,
        }
    }

    /// Runs a command on this deployment, as whoever may do everything.
    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        self.run_with_keys(("test", "test"), args).await
    }

    /// Runs a command as one of its people.
    pub(crate) async fn run_as(&self, name: &str, args: &[&str]) -> Said {
        let (key, secret) = &self.users[name];
        self.run_with_keys((key, secret), args).await
    }

    async fn run_with_keys(&self, (key, secret): (&str, &str), args: &[&str]) -> Said {
        let mut words = vec!["--stack", self.name.as_str()];
        words.extend(args);
        let env = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        run_with(&self.project, &words, &env).await
    }

    /// What its resources are named after.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its services are.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends the signed webhook of a row as it is now; returns the status of the answer.
    pub(crate) async fn notify(&self, crm: &SampleCrm, set: Set, key: &str) -> u16 {
        let id = format!("msg_{}", uuid::Uuid::new_v4());
        let answer = self.post(&id, &crm.event(set, key)).await;
        answer.expect("an answer").0
    }

    /// Sends an event, signed, under a delivery id; returns the status and the body of the answer.
    pub(crate) async fn post(&self, id: &str, event: &Value) -> reqwest::Result<(u16, Value)> {
        let event = event.to_string();
        let now = ports::Clock::now(&ports::SystemClock).as_second();
        let webhook = Webhook::new(HOOK_SECRET).unwrap();
        let signature = webhook.sign(id, now, event.as_bytes()).unwrap();
        let answer = self
            .sender
            .post(format!("{}/hooks/crm", self.endpoint))
            .header("host", self.door())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
            .body(event)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let said = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&said).unwrap_or_default()))
    }

    /// The name by which the emulator knows where a request is meant to go.
    fn door(&self) -> String {
        let host = |url: &str| {
            url.split_once("://")
                .map_or("", |(_, rest)| rest)
                .to_owned()
        };
        let hooks = host(&self.hooks);
        let hooks = hooks.split(['/', ':']).next().unwrap_or_default();
        match hooks.split_once(".execute-api.") {
            // An HTTP API has no name of AWS's there.
            Some((api, _)) => format!("{api}.execute-api.{}", host(&self.endpoint)),
            None => hooks.to_owned(),
        }
    }

    /// Looks until no change is on its way.
    pub(crate) async fn settled(&self) {
        loop {
            let balances = self.run(&["balance", "--json"]).await.json();
            let all = balances.as_array().expect("the books");
            let mut books = all.iter().map(|balance| &balance["books"]);
            if books.all(|books| books["in_flight"] == 0 && books["failing"] == 0) {
                return;
            }
        }
    }
}

/// A folder for each function with its program and the definition.
fn build(definition: &Path) -> TempDir {
    let programs = PathBuf::from(ready("SYNCLINE_TEST_FUNCTIONS"));
    let build = TempDir::new().expect("a temporary folder");
    for name in FUNCTIONS {
        let folder = build.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        std::os::unix::fs::symlink(programs.join(name), folder.join("bootstrap")).expect("a link");
        std::fs::copy(definition, folder.join("syncline.yaml")).expect("a copy");
    }
    build
}
