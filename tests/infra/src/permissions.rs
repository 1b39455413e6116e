//! Who may do what, and does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use model::QueueName;

use crate::{
    calls::{Adapters, QUEUES, Wanted},
    functions::{FUNCTIONS, Statement, queue_id, resource_of, statements},
    none,
    template::{Template, root},
    uses::{NOBODY, OPERATOR, USERS, User},
};

/// What AWS does with the role of a function to bring it the messages of a queue.
const DELIVERING: [&str; 3] = [
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
];
/// What Lambda does with it for the logs of a function.
const LOGGING: [&str; 2] = ["logs:CreateLogStream", "logs:PutLogEvents"];
/// What a service does with the key on behalf of its caller.
const KEYS: [(&str, &[&str]); 5] = [
    (
        "dynamodb",
        &[
            "Decrypt",
            "DescribeKey",
            "Encrypt",
            "GenerateDataKey",
            "ReEncryptFrom",
            "ReEncryptTo",
        ],
    ),
    ("s3", &["Decrypt", "GenerateDataKey"]),
    ("secretsmanager", &["Decrypt"]),
    ("sns", &["Decrypt", "GenerateDataKey"]),
    ("sqs", &["Decrypt", "GenerateDataKey"]),
];
const KEY: &str = "!If [OwnKey, ${EncryptionKey.Arn}, ${KmsKeyArn}]";

/// What a user is allowed, by what the template calls it.
fn allowed<'t>(template: &'t Template, user: &User) -> Vec<Statement<'t>> {
    if let Some(function) = FUNCTIONS.iter().find(|one| one.name == user.name) {
        return function.statements(template);
    }
    let policy = template.resource(user.name).properties();
    statements(policy.find("PolicyDocument").unwrap())
}

fn service(action: &str) -> &str {
    action.split(':').next().unwrap_or_default()
}

/// Queues by the template's names of those whose action is allowed.
fn queues_of(statements: &[Statement<'_>], action: &str) -> BTreeSet<String> {
    let mut queues = BTreeSet::new();
    for statement in statements {
        if statement.actions.iter().any(|one| one == action) {
            queues.extend(statement.resources.iter().map(|one| resource_of(one)));
        }
    }
    queues
}

/// Action by action and resource by resource, with the statement that allows it. Indexes go with
/// their table.
fn taken_apart(statements: &[Statement<'_>]) -> BTreeMap<(String, String), String> {
    let mut all = BTreeMap::new();
    for Statement {
        name,
        actions,
        resources,
        ..
    } in statements
    {
        for action in actions {
            for resource in resources.iter().filter(|one| !one.contains("/index/")) {
                let resource = match service(action) {
                    "logs" | "kms" => continue,
                    "sqs" => QUEUES.to_owned(),
                    _ => resource.clone(),
                };
                all.insert((action.clone(), resource), name.clone());
            }
        }
    }
    all
}

fn ids(template: &Template, queues: impl IntoIterator<Item = QueueName>) -> BTreeSet<String> {
    let ids = queues
        .into_iter()
        .filter_map(|queue| queue_id(template, queue));
    ids.map(str::to_owned).collect()
}

#[test]
fn every_call_of_the_adapters_is_known() {
    none(&Adapters::read().problems());
}

#[test]
fn every_call_is_allowed_and_every_permission_is_used() {
    let (template, adapters) = (Template::read(), Adapters::read());
    let mut problems = Vec::new();
    for user in &USERS {
        let mut reached = adapters.reached(user.uses, user.never);
        let delivered = FUNCTIONS.iter().any(|one| {
            let mappings = one.mappings(&template);
            one.name == user.name && !mappings.is_empty()
        });
        for action in DELIVERING.iter().filter(|_| delivered) {
            let wanted = ((*action).to_owned(), QUEUES.to_owned());
            let by = "the event-source mappings of the template".to_owned();
            reached.wanted.entry(wanted).or_insert(by);
        }
        let allowed = allowed(&template, user);
        compare(user, &reached.wanted, &taken_apart(&allowed), &mut problems);
        let unknown = reached.unknown.iter();
        problems
            .extend(unknown.map(|call| format!("{}: there is no `{call}` any more", user.name)));
        for never in user
            .never
            .iter()
            .filter(|never| !reached.left_out.contains(never.call))
        {
            problems.push(format!(
                "{}: nothing that it uses comes to `{}`, so it needs no exception ({})",
                user.name, never.call, never.why
            ));
        }
    }
    none(&problems);
}

fn compare(
    user: &User,
    wanted: &Wanted,
    allowed: &BTreeMap<(String, String), String>,
    problems: &mut Vec<String>,
) {
    for ((action, resource), by) in wanted {
        if !allowed.contains_key(&(action.clone(), resource.clone())) {
            problems.push(format!(
                "{}: {action} on {resource} is not allowed; called by {by}",
                user.name
            ));
        }
    }
    for ((action, resource), statement) in allowed {
        if !wanted.contains_key(&(action.clone(), resource.clone())) {
            problems.push(format!(
                "{}: {action} on {resource} is allowed by the statement {statement}, and nothing that \
                 it uses of shared/aws/src (see tests/infra/src/uses.rs) calls it",
                user.name
            ));
        }
    }
}

#[test]
fn indexes_are_allowed_to_those_that_ask_them() {
    let (template, adapters) = (Template::read(), Adapters::read());
    let table = template.resource("FailuresTable").properties();
    let indexes = table.items("GlobalSecondaryIndexes");
    let all: BTreeSet<String> = indexes
        .iter()
        .map(|index| format!("${{FailuresTable.Arn}}/index/{}", index.text("IndexName")))
        .collect();
    let mut problems = Vec::new();
    for user in &USERS {
        let asks = adapters.reached(user.uses, user.never).indexes;
        let wanted = if asks { all.clone() } else { BTreeSet::new() };
        let statements = allowed(&template, user);
        let given = statements.iter().flat_map(|one| &one.resources);
        let given: BTreeSet<String> = given
            .filter(|one| one.contains("/index/"))
            .cloned()
            .collect();
        if given != wanted {
            problems.push(format!(
                "{}: may ask the indexes {given:?}, and asks {wanted:?}",
                user.name
            ));
        }
    }
    none(&problems);
}

#[test]
fn what_is_used_is_what_is_wired() {
    let mut problems = Vec::new();
    for user in &USERS {
        let text = fs::read_to_string(root().join(user.wired)).unwrap();
        let given = text
            .match_indices("stack.")
            .map(|(at, found)| &text[at + found.len()..]);
        let given = given.filter_map(|after| {
            let (name, _) = after.split_once('(')?;
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_')
                .then_some(name)
        });
        // These call nobody.
        let given: BTreeSet<&str> = given
            .filter(|name| !["clock", "definition", "metrics", "traces"].contains(name))
            .collect();
        let used = user
            .uses
            .iter()
            .map(|one| one.handle)
            .filter(|handle| !handle.is_empty());
        let used: BTreeSet<&str> = used.collect();
        if given != used {
            problems.push(format!(
                "{} takes {given:?} from its stack, and tests/infra/src/uses.rs has {used:?} for {}",
                user.wired, user.name
            ));
        }
    }
    none(&problems);
}

#[test]
fn every_caller_of_the_adapters_is_used_by_somebody() {
    let adapters = Adapters::read();
    let mut left = adapters.callers();
    for user in &USERS {
        for routine in adapters.reached(user.uses, user.never).routines {
            left.remove(&routine);
        }
    }
    let mut problems = Vec::new();
    for never in NOBODY {
        if !left.remove(never.call) {
            let call = never.call;
            problems.push(format!(
                "`{call}` is used, or is no more: take it from NOBODY"
            ));
        }
    }
    let unused = left.iter().map(|routine| {
        format!("shared/aws/src/{routine} calls AWS, and nobody in tests/infra/src/uses.rs uses it")
    });
    problems.extend(unused);
    none(&problems);
}

#[test]
fn functions_send_to_and_receive_from_the_queues_they_say() {
    let template = Template::read();
    let dead = ids(&template, [QueueName::Dead]);
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        let name = function.name;
        let statements = function.statements(&template);
        let needed = ids(&template, function.needs.queues.iter().copied());
        // Dead letters come by redrive alone.
        let wanted: BTreeSet<String> = needed.difference(&dead).cloned().collect();
        let sending = queues_of(&statements, "sqs:SendMessage");
        if sending != wanted {
            problems.push(format!(
                "{name}: may send to {sending:?}, and functions/{name}/src/config.rs needs {wanted:?}"
            ));
        }
        let mapped = function.mappings(&template).into_iter();
        let mapped: BTreeSet<String> = mapped.map(|mapping| mapping.queue).collect();
        for action in DELIVERING.iter().chain(&["sqs:ChangeMessageVisibility"]) {
            let given = queues_of(&statements, action);
            if given != mapped {
                problems.push(format!(
                    "{name}: {action} is allowed on {given:?}, and it works off {mapped:?}"
                ));
            }
        }
        // Whoever works a queue off puts messages off, and has to know the address.
        for queue in mapped.difference(&needed) {
            problems.push(format!(
                "{name}: works off {queue}, which functions/{name}/src/config.rs does not need"
            ));
        }
    }
    none(&problems);
}

#[test]
fn the_command_line_reaches_the_queues_it_uses() {
    let template = Template::read();
    let statements = allowed(&template, &OPERATOR);
    let jobs = [QueueName::Pulls, QueueName::Loads, QueueName::Retries];
    let uses = [
        ("sqs:SendMessage", ids(&template, jobs)),
        // Whether reports are on their way: `DynamoLedger` asks.
        (
            "sqs:GetQueueAttributes",
            ids(&template, [QueueName::Failures, QueueName::Dead]),
        ),
        // `Stack::named` looks for all.
        ("sqs:GetQueueUrl", ids(&template, QueueName::ALL)),
    ];
    let mut problems = Vec::new();
    for (action, wanted) in uses {
        let given = queues_of(&statements, action);
        if given != wanted {
            problems.push(format!(
                "OperatorPolicy: {action} is allowed on {given:?}, and used on {wanted:?}"
            ));
        }
    }
    none(&problems);
}

#[test]
fn a_role_may_write_its_own_logs() {
    let template = Template::read();
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        let own = function
            .resource(&template)
            .properties()
            .text("LoggingConfig.LogGroup");
        let own = format!("${{{}.Arn}}", resource_of(&own));
        let statements = function.statements(&template);
        let of_logs = |one: &&Statement<'_>| one.actions.iter().any(|one| service(one) == "logs");
        let given: Vec<_> = statements.iter().filter(of_logs).collect();
        let right =
            given.len() == 1 && given[0].actions == LOGGING && given[0].resources == [own.as_str()];
        if !right {
            problems.push(format!(
                "{}: has to have one statement for {LOGGING:?} on {own}",
                function.name
            ));
        }
    }
    none(&problems);
}

#[test]
fn the_key_is_used_through_the_services_that_are_used() {
    let template = Template::read();
    let mut problems = Vec::new();
    for user in &USERS {
        let statements = allowed(&template, user);
        let (keys, rest): (Vec<_>, Vec<_>) = statements
            .into_iter()
            .partition(|one| one.actions.iter().any(|action| service(action) == "kms"));
        let actions = rest.iter().flat_map(|one| &one.actions);
        let services: BTreeSet<&str> = actions.map(|action| service(action)).collect();
        let used: Vec<_> = KEYS
            .iter()
            .filter(|(name, _)| services.contains(name))
            .collect();
        let wanted = used.iter().flat_map(|(_, actions)| *actions);
        let wanted: BTreeSet<String> = wanted.map(|action| format!("kms:{action}")).collect();
        let through = used
            .iter()
            .map(|(name, _)| format!("{name}.${{AWS::Region}}.amazonaws.com"));
        let through: BTreeSet<String> = through.collect();
        for key in &keys {
            let given: BTreeSet<String> = key.actions.iter().cloned().collect();
            let via = key.value.texts("Condition.StringEquals.kms:ViaService");
            let via: BTreeSet<String> = via.into_iter().collect();
            if (&given, &via) != (&wanted, &through) || key.resources != [KEY] {
                problems.push(format!(
                    "{}: the statement {} has to allow {wanted:?} through {through:?} on {KEY}",
                    user.name, key.name
                ));
            }
        }
        if keys.len() != 1 {
            problems.push(format!(
                "{}: {} statements are about the key",
                user.name,
                keys.len()
            ));
        }
    }
    none(&problems);
}

#[test]
fn no_statement_is_about_everything() {
    let template = Template::read();
    let roles = template.of_type("AWS::IAM::Role").into_iter();
    let inline = roles.flat_map(|role| {
        let policies = role.properties().items("Policies").into_iter();
        policies.map(move |policy| (role.id, policy))
    });
    let managed = template.of_type("AWS::IAM::ManagedPolicy").into_iter();
    let managed = managed.map(|policy| (policy.id, policy.properties()));
    let mut problems = Vec::new();
    for (id, policy) in inline.chain(managed) {
        for statement in statements(policy.find("PolicyDocument").unwrap()) {
            let Statement {
                name,
                actions,
                resources,
                value,
            } = statement;
            let wide = |one: &&String| one.as_str() == "*" || one.contains(":*") || one.is_empty();
            let wide_action = actions.iter().find(|action| action.contains('*'));
            for one in wide_action.iter().chain(&resources.iter().find(wide)) {
                problems.push(format!("{id}: the statement {name} is about `{one}`"));
            }
            let negative = ["NotAction", "NotResource"]
                .iter()
                .any(|key| value.find(key).is_some());
            if value.text("Effect") != "Allow"
                || negative
                || actions.is_empty()
                || resources.is_empty()
            {
                problems.push(format!(
                    "{id}: the statement {name} has to allow actions on resources"
                ));
            }
        }
    }
    for role in template.of_type("AWS::IAM::Role") {
        if role.properties().find("ManagedPolicyArns").is_some() {
            problems.push(format!(
                "{}: managed policies are wider than what is used",
                role.id
            ));
        }
    }
    none(&problems);
}

#[test]
fn schedules_set_off_what_their_role_may() {
    let template = Template::read();
    let schedules = template.of_type("AWS::Scheduler::Schedule").into_iter();
    let targets = schedules.map(|schedule| schedule.properties().text("Target.Arn"));
    let targets: BTreeSet<String> = targets.collect();
    let role = template.resource("SchedulerRole").properties();
    let policy = role.items("Policies")[0].find("PolicyDocument").unwrap();
    let statement = &statements(policy)[0];
    let given: BTreeSet<String> = statement.resources.iter().cloned().collect();
    assert_eq!(statement.actions, ["lambda:InvokeFunction"]);
    assert_eq!(
        given, targets,
        "SchedulerRole, statement {}",
        statement.name
    );
}
