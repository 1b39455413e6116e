//! What a function reads of its environment is set, and nothing else is.

use std::{collections::BTreeMap, fs};

use model::QueueName;

use crate::{
    functions::{FUNCTIONS, Function, queue_id},
    none,
    sources::{Files, quoted_after},
    template::{Template, root},
};

/// A variable that is read elsewhere than by [`runtime::Needs`].
struct Other {
    name: &'static str,
    /// The file that reads it.
    file: &'static str,
    /// Whether the template sets it.
    set: bool,
    why: &'static str,
}

const CLIENT: &str = "shared/aws/src/client.rs";
const CRASH: &str = "shared/ports/src/crash.rs";

const OTHERS: [Other; 11] = [
    Other {
        name: "AWS_LAMBDA_FUNCTION_NAME",
        file: CLIENT,
        set: false,
        why: "Lambda sets it",
    },
    Other {
        name: "SYNCLINE_METRICS_PER_MAP",
        file: "shared/runtime/src/metrics.rs",
        set: true,
        why: "whether each map has metrics of its own is a parameter of the stack",
    },
    Other {
        name: "SYNCLINE_TRACE_PERCENT",
        file: "shared/runtime/src/traces.rs",
        set: true,
        why: "how many traces are logged is a parameter of the stack",
    },
    Other {
        name: "SYNCLINE_LOG",
        file: "shared/runtime/src/telemetry.rs",
        set: true,
        why: "how much is logged is a parameter of the stack",
    },
    Other {
        name: "AWS_REGION",
        file: CLIENT,
        set: false,
        why: "AWS sets it for every function",
    },
    Other {
        name: "AWS_ENDPOINT_URL",
        file: CLIENT,
        set: false,
        why: "emulators set it",
    },
    Other {
        name: "AWS_USE_FIPS_ENDPOINT",
        file: CLIENT,
        set: false,
        why: "it is for those who have to, and set it for the function",
    },
    Other {
        name: "AWS_USE_DUALSTACK_ENDPOINT",
        file: CLIENT,
        set: false,
        why: "the same",
    },
    Other {
        name: "NO_COLOR",
        file: "shared/runtime/src/telemetry.rs",
        set: false,
        why: "it is for terminals; the logs of a function are JSON",
    },
    Other {
        name: "SYNCLINE_CRASH_AT",
        file: CRASH,
        set: false,
        why: "a feature that only the tests have",
    },
    Other {
        name: "SYNCLINE_CRASH_ON",
        file: CRASH,
        set: false,
        why: "a feature that only the tests have",
    },
];

/// Where what is compiled into functions is.
const COMPILED: [&str; 9] = [
    "functions",
    "shared/aws/src",
    "shared/connectors",
    "shared/definition/src",
    "shared/mapping/src",
    "shared/model/src",
    "shared/ports/src",
    "shared/runtime/src",
    "shared/systems/src",
];

/// What the template sets for a function.
fn set(template: &Template, function: Function) -> BTreeMap<String, String> {
    let path = "Environment.Variables";
    let globals = template.find("Globals.Function").unwrap();
    let own = function.resource(template).properties();
    let all = globals.entries(path).iter().chain(own.entries(path));
    all.map(|(name, value)| (name.clone(), value.to_string()))
        .collect()
}

#[test]
fn a_function_has_the_variables_that_it_reads_and_no_others() {
    let template = Template::read();
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        let name = function.name;
        let mut set = set(&template, function);
        for wanted in function.needs.variables() {
            if set.remove(&wanted).is_none() {
                problems.push(format!(
                    "{name}: `{wanted}` is not set; functions/{name}/src/config.rs says that it is read"
                ));
            }
        }
        for other in OTHERS.iter().filter(|other| other.set) {
            if set.remove(other.name).is_none() {
                let Other {
                    name: read,
                    file,
                    why,
                    ..
                } = other;
                problems.push(format!(
                    "{name}: `{read}` is not set; {file} reads it: {why}"
                ));
            }
        }
        for unread in set.keys() {
            problems.push(format!(
                "{name}: `{unread}` is set and nobody reads it: take it from the template, or add it to \
                 functions/{name}/src/config.rs"
            ));
        }
    }
    none(&problems);
}

#[test]
fn a_variable_tells_of_the_right_resource() {
    let template = Template::read();
    let mut right: BTreeMap<String, String> = [
        ("SYNCLINE_STACK", "${AWS::StackName}"),
        ("SYNCLINE_STATE_TABLE", "${StateTable}"),
        ("SYNCLINE_FAILURES_TABLE", "${FailuresTable}"),
        ("SYNCLINE_BUCKET", "${BlobBucket}"),
        ("SYNCLINE_SECRETS_PREFIX", "${AWS::StackName}/"),
        ("SYNCLINE_ALERT_TOPIC", "${AlertTopic}"),
        ("SYNCLINE_LOG", "${LogLevel}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for queue in QueueName::ALL {
        let name = format!("SYNCLINE_QUEUE_{}", queue.as_str().to_uppercase());
        let id = queue_id(&template, queue).unwrap_or("?");
        right.insert(name, format!("${{{id}}}"));
    }
    let mut problems = Vec::new();
    for function in FUNCTIONS {
        for (name, value) in set(&template, function) {
            if right.get(&name).is_some_and(|right| *right != value) {
                problems.push(format!(
                    "{}: `{name}` is `{value}`, and has to be `{}`",
                    function.name, right[&name]
                ));
            }
        }
    }
    none(&problems);
}

#[test]
fn every_variable_that_is_read_is_known_here() {
    let mut problems = Vec::new();
    for folder in COMPILED {
        for (file, text) in Files::below(folder).0 {
            let read = ["optional(", "required(", "env::var(", "env::var_os("]
                .iter()
                .flat_map(|call| quoted_after(&text, call))
                .filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            for name in read {
                if !OTHERS
                    .iter()
                    .any(|other| other.name == name && other.file == file)
                {
                    problems.push(format!(
                        "{file} reads `{name}`, of which `Needs` does not know: add it there, or here \
                         to the others with a reason"
                    ));
                }
            }
        }
    }
    for Other { name, file, .. } in OTHERS {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        if !text.contains(&format!("\"{name}\"")) {
            problems.push(format!(
                "{file} does not read `{name}` any more: take it from the others"
            ));
        }
    }
    none(&problems);
}
