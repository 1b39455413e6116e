//! The template, with the calls of its own language (`!Ref`, `!Sub`) kept as what they are.

use std::{fmt, fs, path::PathBuf};

use saphyr::{Yaml, YamlLoader};
use saphyr_parser::{Parser, Tag};

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A value of the template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// `!Name argument`.
    Call(String, Box<Value>),
}

/// A resource of the template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'t> {
    /// What the template calls it.
    pub(crate) id: &'t str,
    value: &'t Value,
}

/// The template.
#[derive(Debug)]
pub(crate) struct Template(Value);

fn called(tag: Option<&Tag>, argument: Value) -> Value {
    match tag {
        Some(tag) => Value::Call(tag.suffix.clone(), argument.into()),
        None => argument,
    }
}

fn value(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Representation(text, _, tag) => {
            called(tag.as_deref(), Value::Text(text.clone().into_owned()))
        }
        Yaml::Tagged(tag, inner) => called(Some(tag), value(inner)),
        Yaml::Sequence(items) => Value::List(items.iter().map(value).collect()),
        Yaml::Mapping(entries) => {
            let entry = |(key, one): (&Yaml<'_>, &Yaml<'_>)| (value(key).to_string(), value(one));
            Value::Map(entries.iter().map(entry).collect())
        }
        other => panic!("the template has something that is not understood here: {other:?}"),
    }
}

/// As a template of `!Sub` would have it, so that one thing that is said in several ways is one
/// text: `!GetAtt Table.Arn`, `!Sub '${Table.Arn}'`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let entry = |(key, one): &(String, Self)| format!("{key}: {one}");
                let entries: Vec<String> = entries.iter().map(entry).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
            Self::Call(name, argument) => match name.as_str() {
                "Ref" | "GetAtt" => write!(f, "${{{argument}}}"),
                "Sub" => write!(f, "{argument}"),
                _ => write!(f, "!{name} {argument}"),
            },
        }
    }
}

impl Value {
    /// What is at a path of keys, if it is there.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |at, key| match at {
            Self::Map(entries) => entries
                .iter()
                .find_map(|(name, one)| (name == key).then_some(one)),
            _ => None,
        })
    }

    /// The same as text; empty if it is not there.
    pub(crate) fn text(&self, path: &str) -> String {
        self.find(path).map(Self::to_string).unwrap_or_default()
    }

    /// The same as a number; 0, which is the default of all numbers that are asked for, if it is
    /// not there.
    pub(crate) fn number(&self, path: &str) -> u64 {
        let Some(found) = self.find(path) else {
            return 0;
        };
        let text = found.to_string();
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("`{path}` has to be a number, it is `{text}`"))
    }

    /// What is in a list. AWS takes one thing for a list of one in most places.
    pub(crate) fn items(&self, path: &str) -> Vec<&Self> {
        match self.find(path) {
            Some(Self::List(items)) => items.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        }
    }

    /// The same as texts.
    pub(crate) fn texts(&self, path: &str) -> Vec<String> {
        self.items(path).into_iter().map(Self::to_string).collect()
    }

    /// The entries of a mapping; none if it is not there.
    pub(crate) fn entries(&self, path: &str) -> &[(String, Self)] {
        match self.find(path) {
            Some(Self::Map(entries)) => entries,
            _ => &[],
        }
    }
}

impl<'t> Resource<'t> {
    /// Its properties.
    pub(crate) fn properties(self) -> &'t Value {
        let properties = self.value.find("Properties");
        properties.unwrap_or_else(|| panic!("{} has no properties", self.id))
    }
}

impl Template {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let file = root().join("infra/aws/template.yaml");
        let text = fs::read_to_string(file).unwrap();
        let mut loader = YamlLoader::<Yaml<'_>>::default();
        loader.early_parse(false);
        loader.allow_duplicate_keys(false);
        Parser::new_from_str(&text).load(&mut loader, true).unwrap();
        assert!(loader.error().is_none(), "{:?}", loader.error());
        Self(value(loader.into_documents().first().unwrap()))
    }

    /// What is at a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Value> {
        self.0.find(path)
    }

    /// The resources of a type, in the order of the file.
    pub(crate) fn of_type(&self, wanted: &str) -> Vec<Resource<'_>> {
        let all = self.0.entries("Resources").iter();
        let all = all.map(|(id, value)| Resource { id, value });
        all.filter(|one| one.value.text("Type") == wanted).collect()
    }

    /// The resource that the template calls so.
    pub(crate) fn resource(&self, id: &str) -> Resource<'_> {
        let all = self.0.entries("Resources").iter();
        let mut all = all.map(|(id, value)| Resource { id, value });
        all.find(|one| one.id == id)
            .unwrap_or_else(|| panic!("the template has no resource `{id}`"))
    }
}

#[test]
fn one_thing_said_in_several_ways_is_one_text() {
    let text = "{a: !GetAtt T.Arn, b: !Sub '${T.Arn}', c: [!Ref T, 1], d: !If [x, !Ref y, z]}";
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    loader.early_parse(false);
    Parser::new_from_str(text).load(&mut loader, true).unwrap();
    let read = value(loader.into_documents().first().unwrap());
    assert_eq!(read.text("a"), "${T.Arn}");
    assert_eq!(read.text("a"), read.text("b"));
    assert_eq!(read.texts("c"), ["${T}", "1"]);
    assert_eq!(read.text("d"), "!If [x, ${y}, z]");
}
