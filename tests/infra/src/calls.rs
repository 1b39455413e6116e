//! Which calls of AWS the adapters make, and which permissions these take.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    sources::{Call, Files, On, Routine, routines},
    uses::{Never, Use},
};

pub(crate) const ADAPTERS: &str = "shared/aws/src/";

/// Methods of the SDK and of our client of S3, and the actions that AWS wants allowed for them.
const METHODS: [(&str, &[&str]); 18] = [
    ("batch_get_item", &["dynamodb:BatchGetItem"]),
    ("batch_write_item", &["dynamodb:BatchWriteItem"]),
    ("delete_item", &["dynamodb:DeleteItem"]),
    ("get_item", &["dynamodb:GetItem"]),
    ("put_item", &["dynamodb:PutItem"]),
    ("query", &["dynamodb:Query"]),
    // A transaction takes the permissions of what is in it, and none of its own.
    ("transact_write_items", &[]),
    ("update_item", &["dynamodb:UpdateItem"]),
    ("delete_objects", &["s3:DeleteObject"]),
    // Without the second S3 answers "access denied" for an object that does not exist.
    ("get_object", &["s3:GetObject", "s3:ListBucket"]),
    ("list_objects_v2", &["s3:ListBucket"]),
    ("put_object", &["s3:PutObject"]),
    ("put_object_in_vain", &["s3:PutObject"]),
    ("get_secret_value", &["secretsmanager:GetSecretValue"]),
    (
        "change_message_visibility",
        &["sqs:ChangeMessageVisibility"],
    ),
    ("get_queue_attributes", &["sqs:GetQueueAttributes"]),
    ("get_queue_url", &["sqs:GetQueueUrl"]),
    ("publish", &["sns:Publish"]),
];

/// The same of calls that are permitted under the name of the call of one message.
const BATCHES: [(&str, &[&str]); 3] = [
    ("delete_message_batch", &["sqs:DeleteMessage"]),
    ("receive_message", &["sqs:ReceiveMessage"]),
    ("send_message_batch", &["sqs:SendMessage"]),
];

/// What a transaction can have in it.
const PARTS: [(&str, &[&str]); 4] = [
    ("ConditionCheck", &["dynamodb:ConditionCheckItem"]),
    ("Delete", &["dynamodb:DeleteItem"]),
    ("Put", &["dynamodb:PutItem"]),
    ("Update", &["dynamodb:UpdateItem"]),
];

/// Methods of clients that call nobody.
const SILENT: [&str; 2] = ["clone", "config"];

/// What clients of the SDK are called in the sources.
const CLIENTS: [&str; 6] = ["client", "sqs", "dynamodb", "s3", "secrets", "sns"];

/// What values are called in the sources whose methods make calls, and what they are.
const VALUES: [(&str, &str); 12] = [
    ("as_table()", "Table"),
    ("blobs", "S3Blobs"),
    ("books", "StateTable"),
    ("ended", "Merge"),
    ("entries", "Merge"),
    ("failures", "DynamoFailures"),
    ("moves", "Moves"),
    ("range", "Range"),
    ("reports", "Queues"),
    ("state", "StateTable"),
    ("stream", "Stream"),
    ("table", "Table"),
];

/// An action on a resource as the template names it, and one way that leads to its call.
pub(crate) type Wanted = BTreeMap<(String, String), String>;

/// The adapters.
#[derive(Debug)]
pub(crate) struct Adapters {
    all: Vec<Routine>,
    /// Files with items of transactions.
    dynamo: BTreeSet<String>,
}

/// What `Adapters::reached` comes to.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) wanted: Wanted,
    /// Whether an index is asked.
    pub(crate) indexes: bool,
    /// All that is gone through.
    pub(crate) routines: BTreeSet<String>,
    /// What would have been, if it were not excepted.
    pub(crate) left_out: BTreeSet<&'static str>,
    /// What is said to be used and is not there.
    pub(crate) unknown: Vec<&'static str>,
}

/// Where a routine works: it is the same for all that it calls, unless that says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    table: &'static str,
    blobs: &'static str,
}

impl Adapters {
    /// Reads the sources.
    pub(crate) fn read() -> Self {
        let files = Files::below(ADAPTERS.trim_end_matches('/')).0;
        let short = |file: &str| file.trim_start_matches(ADAPTERS).to_owned();
        let of_dynamo = files
            .iter()
            .filter(|(_, text)| text.contains("aws_sdk_dynamodb"));
        let dynamo = of_dynamo.map(|(file, _)| short(file)).collect();
        let all = files
            .iter()
            .flat_map(|(file, text)| routines(&short(file), text));
        let all = all.collect();
        Self { all, dynamo }
    }

    /// The actions that a call takes; `None` if it is no call of AWS. An error names a method of
    /// a client that is not known here.
    fn actions(
        &self,
        routine: &Routine,
        call: &Call,
    ) -> Result<Option<&'static [&'static str]>, String> {
        let known = |list: &[(&str, &'static [&'static str])], name: &str| {
            let mut list = list.iter();
            list.find_map(|(one, actions)| (*one == name).then_some(*actions))
        };
        let of_method = known(&METHODS, &call.name).or(known(&BATCHES, &call.name));
        match &call.on {
            On::Value(of) if CLIENTS.contains(&of.as_str()) => {
                if of_method.is_none() && !SILENT.contains(&call.name.as_str()) {
                    return Err(format!(
                        "{ADAPTERS}{} calls `{of}.{}()`, of which tests/infra does not know what \
                         permission it takes: add it to METHODS",
                        routine.label(),
                        call.name
                    ));
                }
                Ok(of_method)
            }
            On::Type(of) if call.name == "builder" && self.dynamo.contains(&routine.file) => {
                Ok(known(&PARTS, of))
            }
            _ => Ok(None),
        }
    }

    /// Calls that are not understood.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for routine in &self.all {
            let results = routine.calls.iter().map(|call| self.actions(routine, call));
            problems.extend(results.filter_map(Result::err));
            for call in &routine.calls {
                let known = METHODS
                    .iter()
                    .chain(&BATCHES)
                    .any(|(name, _)| *name == call.name);
                let elsewhere =
                    matches!(&call.on, On::Value(of) if !CLIENTS.contains(&of.as_str()));
                // `query` is the name of a port's method as well.
                if known && elsewhere && call.name != "query" {
                    problems.push(format!(
                        "{ADAPTERS}{} calls `{}` on something that is not called one of {CLIENTS:?}: \
                         call it so, or the permission that it takes is not seen",
                        routine.label(),
                        call.name
                    ));
                }
            }
        }
        problems
    }

    /// All that make calls themselves.
    pub(crate) fn callers(&self) -> BTreeSet<String> {
        let calls = |routine: &&Routine| {
            let mut calls = routine.calls.iter();
            calls.any(|call| matches!(self.actions(routine, call), Ok(Some(_))))
        };
        self.all.iter().filter(calls).map(Routine::label).collect()
    }

    /// What a call inside of the adapters leads to.
    fn targets(&self, routine: &Routine, call: &Call) -> Vec<&Routine> {
        let of = match &call.on {
            On::Nothing => None,
            On::Type(of) if of == "Self" => routine.of.as_deref(),
            On::Value(of) if of == "self" => routine.of.as_deref(),
            On::Type(of) => Some(of.as_str()),
            On::Value(of) => match VALUES.iter().find(|(name, _)| name == of) {
                Some((_, of)) => Some(*of),
                None => return Vec::new(),
            },
        };
        let named = |one: &&Routine| one.name == call.name && one.of.as_deref() == of;
        let all: Vec<&Routine> = self.all.iter().filter(named).collect();
        let (near, far): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.file == routine.file);
        // A method of a port that only hands on has the name of what it hands to.
        let others: Vec<_> = near
            .into_iter()
            .filter(|one| one.label() != routine.label())
            .collect();
        if others.is_empty() { far } else { others }
    }

    /// What is called when something is used so.
    pub(crate) fn reached(&self, uses: &[Use], never: &[Never]) -> Reached {
        let mut reached = Reached::default();
        let mut seen = BTreeSet::new();
        let mut left: Vec<(&Routine, Place, String)> = Vec::new();
        for Use { calls, blobs, .. } in uses {
            for label in *calls {
                let found = self.all.iter().find(|one| one.label() == *label);
                let place = Place { table: "?", blobs };
                left.extend(found.map(|found| (found, place, String::new())));
                reached.unknown.extend(found.is_none().then_some(*label));
            }
        }
        while let Some((routine, place, way)) = left.pop() {
            let label = routine.label();
            if let Some(never) = never.iter().find(|never| never.call == label) {
                reached.left_out.insert(never.call);
                continue;
            }
            let place = place.of(routine);
            let way = match way.as_str() {
                "" => format!("{ADAPTERS}{label}"),
                way => format!("{way} > {label}"),
            };
            if !seen.insert((label.clone(), place)) {
                continue;
            }
            for call in &routine.calls {
                if let Ok(Some(actions)) = self.actions(routine, call) {
                    for action in actions {
                        let wanted = (action.to_string(), place.resource(action));
                        reached.wanted.entry(wanted).or_insert(way.clone());
                    }
                }
                let targets = self.targets(routine, call);
                left.extend(
                    targets
                        .into_iter()
                        .map(|target| (target, place, way.clone())),
                );
            }
            reached.indexes |= routine.file == "failures/find.rs"
                && ["ranges", "by_due"].contains(&routine.name.as_str());
            reached.routines.insert(label);
        }
        reached
    }
}

impl Place {
    fn of(self, routine: &Routine) -> Self {
        let table = match routine.file.split('/').next() {
            Some("state") => "StateTable",
            Some("failures") => "FailuresTable",
            _ => self.table,
        };
        Self { table, ..self }
    }

    /// What an action is about, as in the template.
    fn resource(self, action: &str) -> String {
        match action.split(':').next() {
            Some("dynamodb") => format!("${{{}.Arn}}", self.table),
            Some("s3") if action == "s3:ListBucket" => "${BlobBucket.Arn}".into(),
            Some("s3") => format!("${{BlobBucket.Arn}}/{}*", self.blobs),
            Some("secretsmanager") => SECRETS.into(),
            Some("sns") => "${AlertTopic}".into(),
            _ => QUEUES.into(),
        }
    }
}

/// The secrets of a stack.
pub(crate) const SECRETS: &str = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/*";
/// Queues; which of them is looked at elsewhere.
pub(crate) const QUEUES: &str = "queues";
