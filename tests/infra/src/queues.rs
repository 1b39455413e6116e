//! Queues, and what they set off.

use std::collections::{BTreeMap, BTreeSet};

use model::{MAX_MESSAGE_BYTES, MAX_RECEIVES, QueueName};

use crate::{
    functions::{FUNCTIONS, Mapping, queue_id, resource_of},
    none,
    template::{Resource, Template},
};

/// What SQS takes at most, in bytes, receives and seconds.
const LARGEST_MESSAGE: u64 = 1024 * 1024;
const MOST_RECEIVES: u64 = 1000;
const LONGEST_VISIBILITY: u64 = 12 * 3600;
/// Batches that are larger need a window.
const BATCH_WITHOUT_WINDOW: u64 = 10;
/// The queue that nobody works off.
const LOST: &str = "LostQueue";
const KEY: &str = "!If [OwnKey, ${EncryptionKey.Arn}, ${KmsKeyArn}]";

/// The longest batch window of a mapping that the parameters allow.
fn window(template: &Template, mapping: &Mapping<'_>) -> u64 {
    const WINDOW: &str = "MaximumBatchingWindowInSeconds";
    let said = mapping.properties.text(WINDOW);
    let parameter = said
        .strip_prefix("${")
        .and_then(|name| name.strip_suffix('}'));
    match parameter {
        Some(name) => {
            let most = format!("Parameters.{name}.MaxValue");
            let most = template.find(&most).map(ToString::to_string);
            let most = most.and_then(|most| most.parse().ok());
            most.unwrap_or_else(|| panic!("the parameter {name} needs a MaxValue"))
        }
        None => mapping.properties.number(WINDOW),
    }
}

/// What the template calls the queue of dead letters.
fn dead(template: &Template) -> &str {
    queue_id(template, QueueName::Dead).expect("there is a queue of dead letters")
}

#[test]
fn every_queue_of_the_code_is_there_and_no_other() {
    let template = Template::read();
    let mut problems = Vec::new();
    let mut known = BTreeSet::from([LOST]);
    for queue in QueueName::ALL {
        match queue_id(&template, queue) {
            Some(id) => drop(known.insert(id)),
            None => problems.push(format!(
                "no queue has the QueueName `${{AWS::StackName}}-{queue}`, which functions and the \
                 command line look for"
            )),
        }
    }
    for Resource { id, .. } in template.of_type("AWS::SQS::Queue") {
        if !known.contains(id) {
            problems.push(format!("{id} is no queue of the code"));
        }
    }
    none(&problems);
}

#[test]
fn a_message_is_given_up_after_as_many_receives_as_the_code_says() {
    let template = Template::read();
    let dead = dead(&template);
    let mut problems = Vec::new();
    for queue in template.of_type("AWS::SQS::Queue") {
        let (id, properties) = (queue.id, queue.properties());
        let to = resource_of(&properties.text("RedrivePolicy.deadLetterTargetArn"));
        let count = properties.number("RedrivePolicy.maxReceiveCount");
        let wanted = match id {
            LOST => ("", 0),
            // A dead letter is the last copy of a change: it is not given up before it must be.
            id if id == dead => (LOST, MOST_RECEIVES),
            _ => (dead, MAX_RECEIVES.into()),
        };
        if (to.as_str(), count) != wanted {
            problems.push(format!(
                "{id}: its RedrivePolicy is {count} receives to `{to}`, and has to be {} to `{}` \
                 (model::MAX_RECEIVES is {MAX_RECEIVES})",
                wanted.1, wanted.0
            ));
        }
    }
    none(&problems);
}

#[test]
fn dead_letters_are_taken_from_those_queues_that_send_them() {
    let template = Template::read();
    let mut sources: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for queue in template.of_type("AWS::SQS::Queue") {
        let properties = queue.properties();
        let to = resource_of(&properties.text("RedrivePolicy.deadLetterTargetArn"));
        let arn = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:";
        let arn = format!("{arn}{}", properties.text("QueueName"));
        sources.entry(to).or_default().insert(arn);
    }
    let mut problems = Vec::new();
    for queue in template.of_type("AWS::SQS::Queue") {
        let policy = queue.properties();
        let allowed: BTreeSet<String> = policy
            .texts("RedriveAllowPolicy.sourceQueueArns")
            .into_iter()
            .collect();
        let sending = sources.remove(queue.id).unwrap_or_default();
        if allowed != sending {
            problems.push(format!(
                "{}: its RedriveAllowPolicy allows {allowed:?}, and dead letters come from {sending:?}",
                queue.id
            ));
        }
    }
    none(&problems);
}

#[test]
fn queues_are_encrypted_and_take_the_largest_message() {
    let template = Template::read();
    let mut problems = Vec::new();
    for queue in template.of_type("AWS::SQS::Queue") {
        let (id, properties) = (queue.id, queue.properties());
        let largest = properties.number("MaximumMessageSize");
        if largest < MAX_MESSAGE_BYTES as u64 || largest > LARGEST_MESSAGE {
            problems.push(format!(
                "{id}: MaximumMessageSize is {largest}, and has to be between \
                 model::MAX_MESSAGE_BYTES, {MAX_MESSAGE_BYTES}, and {LARGEST_MESSAGE}"
            ));
        }
        let key = properties.text("KmsMasterKeyId");
        if key != KEY {
            problems.push(format!(
                "{id}: KmsMasterKeyId is `{key}`, and has to be `{KEY}`"
            ));
        }
    }
    none(&problems);
}

#[test]
fn what_is_dead_is_kept_longer_than_what_is_not() {
    let template = Template::read();
    let kept = |id: &str| {
        let queue = template.resource(id).properties();
        queue.number("MessageRetentionPeriod")
    };
    let dead = dead(&template);
    let mut problems = Vec::new();
    for Resource { id, .. } in template.of_type("AWS::SQS::Queue") {
        let after = if [dead, LOST].contains(&id) {
            LOST
        } else {
            dead
        };
        // The age goes on counting in the queue of dead letters.
        if kept(id) == 0 || kept(id) > kept(after) {
            problems.push(format!(
                "{id}: messages are kept for {} s, and in {after}, where they go next, for {} s",
                kept(id),
                kept(after)
            ));
        }
    }
    // A message that stands for a blob must not outlive it, wherever it has gone.
    let bucket = template.resource("BlobBucket").properties();
    let rules = bucket.items("LifecycleConfiguration.Rules");
    for rule in rules
        .iter()
        .filter(|rule| rule.find("ExpirationInDays").is_some())
    {
        let (prefix, days) = (rule.text("Prefix"), rule.number("ExpirationInDays"));
        if prefix != "message/" || days * 86_400 <= kept(dead) + kept(LOST) {
            problems.push(format!(
                "BlobBucket: `{prefix}` is forgotten after {days} days; only `message/` may be, and \
                 later than all queues forget"
            ));
        }
    }
    none(&problems);
}

#[test]
fn a_message_stays_invisible_for_as_long_as_a_function_may_have_it() {
    let template = Template::read();
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        let timeout = function.resource(&template).properties().number("Timeout");
        for mapping in function.mappings(&template) {
            let queue = template.resource(&mapping.queue).properties();
            let visibility = queue.number("VisibilityTimeout");
            let window = window(&template, &mapping);
            let least = 6 * timeout + window;
            if !(least..=LONGEST_VISIBILITY).contains(&visibility) {
                problems.push(format!(
                    "{}: VisibilityTimeout is {visibility}, and has to be {least} at least: 6 times \
                     the timeout of {}, {timeout} s, and its batch window, {window} s",
                    mapping.queue, function.name
                ));
            }
        }
    }
    none(&problems);
}

#[test]
fn apply_has_time_to_say_that_a_target_does_not_answer() {
    let template = Template::read();
    let apply = FUNCTIONS.into_iter().find(|one| one.name == "apply");
    let timeout = apply.map(|apply| apply.resource(&template).properties().number("Timeout"));
    // The deadline of a function is a quarter of its time before its end.
    let deadline = timeout.unwrap_or_default() * 3 / 4;
    let end = deadline + apply::GRACE.as_secs();
    assert!(end + 5 <= timeout.unwrap_or_default());
    // What is tried three times, with pauses between, has to have failed by then.
    assert!(3 * apply::LONGEST_CALL.as_secs() + 5 <= end);
}

#[test]
fn every_mapping_answers_for_single_messages() {
    let template = Template::read();
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        for mapping in function.mappings(&template) {
            let place = format!("{}, event {}", function.name, mapping.name);
            let kinds = mapping.properties.texts("FunctionResponseTypes");
            if kinds != ["ReportBatchItemFailures"] {
                problems.push(format!(
                    "{place}: FunctionResponseTypes has to be [ReportBatchItemFailures]: without it \
                     the failures that a function reports are deleted"
                ));
            }
            let size = mapping.properties.number("BatchSize");
            let window = window(&template, &mapping);
            if size == 0 || (size > BATCH_WITHOUT_WINDOW && window == 0) {
                problems.push(format!(
                    "{place}: BatchSize is {size}; above {BATCH_WITHOUT_WINDOW} it needs a \
                     MaximumBatchingWindowInSeconds"
                ));
            }
            let enabled = mapping.properties.text("Enabled");
            if enabled != "!If [Delivers, true, false]" {
                problems.push(format!(
                    "{place}: the parameter Deliveries does not stop it"
                ));
            }
        }
    }
    none(&problems);
}

#[test]
fn every_queue_is_worked_off_by_one_function() {
    let template = Template::read();
    let mut workers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for function in FUNCTIONS {
        for mapping in function.mappings(&template) {
            workers
                .entry(mapping.queue)
                .or_default()
                .push(function.name);
        }
    }
    let mut problems = Vec::new();
    for Resource { id, .. } in template.of_type("AWS::SQS::Queue") {
        let by = workers.remove(id).unwrap_or_default();
        if by.len() != usize::from(id != LOST) {
            problems.push(format!("{id} is worked off by {by:?}"));
        }
    }
    none(&problems);
}
