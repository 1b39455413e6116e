//! The functions: what the code says of each, and what the template does.

use std::{collections::BTreeSet, fs};

use model::QueueName;
use runtime::Needs;

use crate::template::{Resource, Template, Value, root};

/// A function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function {
    /// Its name, which is that of its folder and the end of its name on AWS.
    pub(crate) name: &'static str,
    pub(crate) needs: &'static Needs,
}

/// All of them.
pub(crate) const FUNCTIONS: [Function; 5] = [
    Function {
        name: "webhook-intake",
        needs: &webhook_intake::NEEDS,
    },
    Function {
        name: "recurring-pull",
        needs: &recurring_pull::NEEDS,
    },
    Function {
        name: "initial-load",
        needs: &initial_load::NEEDS,
    },
    Function {
        name: "apply",
        needs: &apply::NEEDS,
    },
    Function {
        name: "retry",
        needs: &retry::NEEDS,
    },
];

/// A statement of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Statement<'t> {
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) value: &'t Value,
}

/// A queue that sets a function off.
#[derive(Debug)]
pub(crate) struct Mapping<'t> {
    /// What the function's events call it.
    pub(crate) name: &'t str,
    /// The queue, by what the template calls it.
    pub(crate) queue: String,
    pub(crate) properties: &'t Value,
}

impl Function {
    /// What the template has under its name.
    pub(crate) fn resource(self, template: &Template) -> Resource<'_> {
        let name = format!("${{AWS::StackName}}-{}", self.name);
        let mut all = template.of_type("AWS::Serverless::Function").into_iter();
        all.find(|one| one.properties().text("FunctionName") == name)
            .unwrap_or_else(|| panic!("the template has no function `{name}`"))
    }

    /// What its role allows.
    pub(crate) fn statements(self, template: &Template) -> Vec<Statement<'_>> {
        let role = self.resource(template).properties().text("Role");
        let role = role.trim_start_matches("${").trim_end_matches(".Arn}");
        let policies = template.resource(role).properties().items("Policies");
        let documents = policies.into_iter();
        documents
            .flat_map(|policy| statements(policy.find("PolicyDocument").unwrap()))
            .collect()
    }

    /// The queues that set it off.
    pub(crate) fn mappings<'t>(self, template: &'t Template) -> Vec<Mapping<'t>> {
        let events = self.resource(template).properties().entries("Events");
        let of_queues = events
            .iter()
            .map(|(name, event)| (name.as_str(), event))
            .filter(|(_, event)| event.text("Type") == "SQS");
        let mapping = |(name, event): (&'t str, &'t Value)| Mapping {
            name,
            queue: resource_of(&event.text("Properties.Queue")),
            properties: event.find("Properties").unwrap(),
        };
        of_queues.map(mapping).collect()
    }
}

/// `${LiveQueue.Arn}` without what is around the name of the resource.
pub(crate) fn resource_of(reference: &str) -> String {
    let inner = reference.strip_prefix("${").unwrap_or(reference);
    let end = inner.find(['.', '}']).unwrap_or(inner.len());
    inner[..end].to_owned()
}

/// What a policy allows.
pub(crate) fn statements(document: &Value) -> Vec<Statement<'_>> {
    let all = document.items("Statement").into_iter();
    all.map(|value| Statement {
        name: value.text("Sid"),
        actions: value.texts("Action"),
        resources: value.texts("Resource"),
        value,
    })
    .collect()
}

/// What the template calls the queue of this name.
pub(crate) fn queue_id(template: &Template, queue: QueueName) -> Option<&str> {
    let name = format!("${{AWS::StackName}}-{queue}");
    let mut all = template.of_type("AWS::SQS::Queue").into_iter();
    all.find(|one| one.properties().text("QueueName") == name)
        .map(|one| one.id)
}

#[test]
fn the_functions_are_those_of_the_workspace_and_of_the_template() {
    let known: BTreeSet<String> = FUNCTIONS.iter().map(|one| one.name.to_owned()).collect();
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(known, folders, "tests/infra has to know every function");
    let template = Template::read();
    let deployed = template.of_type("AWS::Serverless::Function");
    assert_eq!(deployed.len(), FUNCTIONS.len(), "{deployed:?}");
    for function in FUNCTIONS {
        let code = function.resource(&template).properties().text("CodeUri");
        assert_eq!(code, format!("build/{}/", function.name));
    }
}
