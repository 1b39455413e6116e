//! Reading YAML with its places.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use jiff::SignedDuration;
use saphyr::{MarkedYaml, YamlData, YamlLoader};
use saphyr_parser::{Marker, Parser, ScalarStyle};

use crate::{
    problem::{Log, Place, Severity},
    value::Scalar,
};

/// Parses the text; its first document is the file.
pub(crate) fn load<'t>(text: &'t str, log: &Log) -> Option<MarkedYaml<'t>> {
    let mut loader = YamlLoader::<MarkedYaml<'t>>::default();
    loader.early_parse(false);
    loader.allow_duplicate_keys(false);
    let parsed = Parser::new_from_str(text).load(&mut loader, true);
    if let Some(error) = parsed.as_ref().err().or(loader.error()) {
        log.report_at("yaml", place(error.marker()), error.info().to_owned());
        return None;
    }
    let document = loader.into_documents().into_iter().next();
    if document.is_none() {
        let message = "the file is empty: `syncline init` writes one to begin with";
        log.report_at(
            "empty-file",
            Place { line: 1, column: 1 },
            message.to_owned(),
        );
    }
    document
}

fn place(marker: &Marker) -> Place {
    Place {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

/// A value in the file and the path that leads to it.
#[derive(Clone)]
pub(crate) struct Node<'d> {
    yaml: &'d MarkedYaml<'d>,
    log: &'d Log,
    pub(crate) path: String,
}

/// A mapping whose keys are known.
#[derive(Clone)]
pub(crate) struct Section<'d> {
    node: Node<'d>,
    values: BTreeMap<String, Node<'d>>,
}

impl<'d> Node<'d> {
    pub(crate) fn root(yaml: &'d MarkedYaml<'d>, log: &'d Log) -> Self {
        log.locate("", place(&yaml.span.start));
        Self {
            yaml,
            log,
            path: String::new(),
        }
    }

    fn child(&self, key: &str, yaml: &'d MarkedYaml<'d>, at: &Marker) -> Self {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        self.log.locate(&path, place(at));
        Self {
            yaml,
            log: self.log,
            path,
        }
    }

    pub(crate) fn error(&self, code: &'static str, message: impl Into<String>) {
        self.log
            .report(Severity::Error, code, &self.path, message, None);
    }

    pub(crate) fn error_help(
        &self,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.log.report(
            Severity::Error,
            code,
            &self.path,
            message,
            Some(help.into()),
        );
    }

    fn wrong_type(&self, wanted: &str) {
        self.error(
            "wrong-type",
            format!("{} is {}, {wanted} is expected", self.what(), self.kind()),
        );
    }

    fn what(&self) -> String {
        match self.path.rsplit('.').next() {
            Some(key) if !key.is_empty() => format!("`{key}`"),
            _ => "the file".into(),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.yaml.data {
            YamlData::Sequence(_) => "a list",
            YamlData::Mapping(_) => "a set of keys",
            _ => match self.scalar_silent() {
                Some(Scalar::Null) => "empty",
                Some(Scalar::Bool(_)) => "true or false",
                Some(Scalar::Number(_)) => "a number",
                Some(Scalar::Text(_)) => "text",
                None => "something else",
            },
        }
    }

    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.yaml.data, YamlData::Mapping(_))
    }

    /// All keys of a mapping in the order of the file.
    pub(crate) fn entries(&self, what: &str) -> Option<Vec<(String, Self)>> {
        let YamlData::Mapping(mapping) = &self.yaml.data else {
            self.wrong_type(&format!("a set of {what}"));
            return None;
        };
        let mut entries = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            let Some(name) = scalar_text(key) else {
                self.error("wrong-type", "a key has to be text");
                continue;
            };
            let child = self.child(&name, value, &key.span.start);
            entries.push((name, child));
        }
        Some(entries)
    }

    /// A mapping with known keys; others are errors with a suggestion.
    pub(crate) fn map(&self, what: &str, keys: &[&str]) -> Option<Section<'d>> {
        let mut values = BTreeMap::new();
        for (key, node) in self.entries(&format!("keys for {what}"))? {
            if keys.contains(&key.as_str()) {
                values.insert(key, node);
            } else {
                node.unknown_key(&key, what, keys);
            }
        }
        Some(Section {
            node: self.clone(),
            values,
        })
    }

    fn unknown_key(&self, key: &str, what: &str, keys: &[&str]) {
        let message = format!("`{key}` is no key of {what}");
        let help = match closest(key, keys) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys of {what} are {}", keys.join(", ")),
        };
        self.error_help("unknown-key", message, help);
    }

    /// The elements of a list, or a single value as a list of one.
    pub(crate) fn one_or_many(&self) -> Vec<Self> {
        match &self.yaml.data {
            YamlData::Sequence(list) => list
                .iter()
                .enumerate()
                .map(|(at, value)| self.child(&at.to_string(), value, &value.span.start))
                .collect(),
            _ => vec![self.clone()],
        }
    }

    fn scalar_silent(&self) -> Option<Scalar> {
        match &self.yaml.data {
            YamlData::Representation(text, style, tag) => {
                let plain = *style == ScalarStyle::Plain && tag.is_none();
                Some(if plain {
                    Scalar::plain(text)
                } else {
                    Scalar::Text(text.to_string())
                })
            }
            _ => None,
        }
    }

    pub(crate) fn scalar(&self) -> Option<Scalar> {
        let scalar = self.scalar_silent();
        if scalar.is_none() {
            self.wrong_type("a single value");
        }
        scalar
    }

    /// Text; numbers and booleans are taken as they are written.
    pub(crate) fn text(&self) -> Option<String> {
        match (self.scalar_silent(), scalar_text(self.yaml)) {
            (Some(Scalar::Null) | None, _) | (_, None) => {
                self.wrong_type("text");
                None
            }
            (_, text) => text,
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        if let Some(Scalar::Bool(value)) = self.scalar_silent() {
            return Some(value);
        }
        self.wrong_type("true or false");
        None
    }

    /// Something that is written as text and has a form of its own.
    pub(crate) fn parse<T: FromStr>(&self, code: &'static str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(code, error.to_string());
                None
            }
        }
    }

    pub(crate) fn name<T: FromStr>(&self, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse()
            .map_err(|error: T::Err| self.error("invalid-name", error.to_string()))
            .ok()
    }

    pub(crate) fn count(&self, least: u32, most: u32) -> Option<u32> {
        let number = match self.scalar()? {
            Scalar::Number(text) => text.parse().ok(),
            _ => None,
        };
        let value = number.filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.error(
                "out-of-range",
                format!("{} must be a number from {least} to {most}", self.what()),
            );
        }
        value
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        let text = self.text()?;
        let parsed = text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|d| Duration::try_from(d).ok());
        if parsed.is_none() {
            self.error_help(
                "invalid-duration",
                format!("`{text}` is no duration"),
                "write a number with a unit, such as 30s, 5m, 12h or 250ms",
            );
        }
        parsed
    }

    /// `1%` as 0.01.
    pub(crate) fn share(&self) -> Option<f64> {
        let text = self.text()?;
        let share = text
            .strip_suffix('%')
            .and_then(|number| number.trim().parse::<f64>().ok());
        let share = share
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent| percent / 100.0);
        if share.is_none() {
            self.error_help(
                "invalid-share",
                format!("`{text}` is no share"),
                "write a percentage from 0% to 100%",
            );
        }
        share
    }

    /// `50/s` or `600/m` as calls per second.
    pub(crate) fn rate(&self) -> Option<f64> {
        let text = self.text()?;
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let count: f64 = count.trim().parse().ok()?;
            let seconds = match unit.trim() {
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
            Some(count / seconds)
        });
        let rate = parsed.filter(|rate| *rate > 0.0 && rate.is_finite());
        if rate.is_none() {
            self.error_help(
                "invalid-rate",
                format!("`{text}` is no rate"),
                "write calls per second, minute or hour, such as 50/s, 600/m or 10000/h",
            );
        }
        rate
    }

    /// One of the named choices.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let help = match closest(&text, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("choose one of {}", names.join(", ")),
            };
            self.error_help(
                "unknown-choice",
                format!("`{text}` is no {}", self.what()),
                help,
            );
        }
        found
    }
}

impl<'d> Section<'d> {
    pub(crate) fn node(&self) -> &Node<'d> {
        &self.node
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node<'d>> {
        self.values.get(key)
    }

    /// The keys that are there, in alphabetical order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    pub(crate) fn required(&self, key: &str) -> Option<&Node<'d>> {
        let found = self.values.get(key);
        if found.is_none() {
            self.node.error(
                "missing-key",
                format!("{} needs the key `{key}`", self.node.what()),
            );
        }
        found
    }
}

/// The nearest of `names` to what was written, if one is near enough to be meant.
pub(crate) fn closest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let lower = written.to_lowercase();
    let near = |name: &&str| strsim::jaro_winkler(&lower, &name.to_lowercase());
    let best = names.iter().max_by(|a, b| near(a).total_cmp(&near(b)))?;
    (near(best) > 0.8).then_some(*best)
}

fn scalar_text(yaml: &MarkedYaml<'_>) -> Option<String> {
    match &yaml.data {
        YamlData::Representation(text, ..) => Some(text.to_string()),
        _ => None,
    }
}
