//! Rust sources as text, as far as needed here: files, functions, and what these call. It relies
//! on the code being formatted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::template::root;

/// Files by their path in the repository, without tests.
#[derive(Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, String>);

impl Files {
    /// The Rust files below a folder of the repository.
    pub(crate) fn below(folder: &str) -> Self {
        let mut files = Self::default();
        files.add(&root(), Path::new(folder));
        files
    }

    fn add(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = PathBuf::from(entry.unwrap().file_name());
            let path = folder.join(&name);
            if root.join(&path).is_dir() {
                if name != Path::new("tests") {
                    self.add(root, &path);
                }
            } else if name.extension().is_some_and(|end| end == "rs")
                && name != Path::new("tests.rs")
            {
                let text = fs::read_to_string(root.join(&path)).unwrap();
                let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
                self.0
                    .insert(path.to_str().unwrap().to_owned(), code.to_owned());
            }
        }
    }
}

/// The quoted texts that follow `call`, which may be on the line before.
pub(crate) fn quoted_after<'t>(text: &'t str, call: &str) -> impl Iterator<Item = &'t str> {
    let after = text
        .match_indices(call)
        .map(|(at, found)| &text[at + found.len()..]);
    let quoted = |after: &'t str| after.trim_start().strip_prefix('"')?.split('"').next();
    after.collect::<Vec<_>>().into_iter().filter_map(quoted)
}

/// What a call is made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    /// `name(…)`
    Nothing,
    /// `Type::name(…)`
    Type(String),
    /// `….value.name(…)`, or `….value().name(…)` with the parentheses.
    Value(String),
}

/// A call in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) on: On,
    pub(crate) name: String,
}

/// A function or method in a source.
#[derive(Debug)]
pub(crate) struct Routine {
    /// Its file, from the sources of its crate.
    pub(crate) file: String,
    /// The type whose method it is.
    pub(crate) of: Option<String>,
    pub(crate) name: String,
    pub(crate) calls: Vec<Call>,
}

impl Routine {
    /// `file Type::name`
    pub(crate) fn label(&self) -> String {
        match &self.of {
            Some(of) => format!("{} {of}::{}", self.file, self.name),
            None => format!("{} {}", self.file, self.name),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word that a text ends with.
fn last_word(text: &str) -> &str {
    let begin = text.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
    &text[begin..]
}

/// The text before the parenthesis that the last one of `text` closes.
fn before_parenthesis(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    ""
}

fn calls(code: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for (at, _) in code.match_indices('(') {
        let name = last_word(&code[..at]);
        if name.is_empty() {
            continue;
        }
        let before = &code[..at - name.len()];
        let on = if let Some(before) = before.strip_suffix("::") {
            On::Type(last_word(before).to_owned())
        } else if let Some(before) = before.strip_suffix('.') {
            On::Value(match last_word(before) {
                "" if before.ends_with(')') => {
                    format!("{}()", last_word(before_parenthesis(before)))
                }
                word => word.to_owned(),
            })
        } else {
            On::Nothing
        };
        let name = name.to_owned();
        calls.push(Call { on, name });
    }
    calls
}

/// The lines of a function as one, without comments and with chains of calls closed up.
fn joined<'l>(lines: impl Iterator<Item = &'l str>) -> String {
    let mut all = String::new();
    for line in lines.map(str::trim).filter(|line| !line.starts_with("//")) {
        if !line.starts_with('.') {
            all.push(' ');
        }
        all.push_str(line);
    }
    all
}

/// `impl Type {` or `impl Port for Type {`
fn implemented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?.strip_suffix('{')?.trim();
    let of = rest.rsplit(" for ").next()?;
    let of = of.rsplit("> ").next()?;
    Some(of.split('<').next()?.trim())
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let before = match before.strip_prefix("pub(") {
        Some(within) => within.split_once(')')?.1,
        None => before,
    };
    let is_head = |word: &str| ["pub", "async", "const"].contains(&word);
    let name = after.split(|c| !is_word(c)).next()?;
    before.split_whitespace().all(is_head).then_some(name)
}

/// The functions of a file.
pub(crate) fn routines(file: &str, text: &str) -> Vec<Routine> {
    let mut found = Vec::new();
    let mut of = None;
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if *line == "}" {
            of = None;
        }
        of = implemented(line).map(str::to_owned).or(of);
        let Some(name) = function_name(line) else {
            continue;
        };
        let rest = &lines[at..];
        let ends = |line: &&str| line.starts_with(&format!("{}}}", " ".repeat(indent)));
        let declared =
            |line: &&str| line.ends_with(';') && line.len() - line.trim_start().len() <= indent;
        let end = rest.iter().position(|line| ends(line) || declared(line));
        let code = joined(
            rest[..end.map_or(rest.len(), |end| end + 1)]
                .iter()
                .skip(1)
                .copied(),
        );
        found.push(Routine {
            file: file.to_owned(),
            of: of.clone(),
            name: name.to_owned(),
            calls: calls(&code),
        });
    }
    found
}

#[test]
fn functions_and_their_calls_are_found() {
    let text = "\
impl Port for Thing {
    async fn put(
        &self,
    ) -> Result<(), Error> {
        // self.nothing()
        self.as_table()
            .transact(what, || Self::items(x))
            .await
    }

    pub(in crate::state) fn other(&self) {
        self.client
            .put_item()
            .send();
    }
}

fn free() {
    helper(1);
}
";
    let found = routines("a.rs", text);
    let labels: Vec<String> = found.iter().map(Routine::label).collect();
    assert_eq!(
        labels,
        ["a.rs Thing::put", "a.rs Thing::other", "a.rs free"]
    );
    let call = |on: On, name: &str| Call {
        on,
        name: name.to_owned(),
    };
    let value = |of: &str| On::Value(of.to_owned());
    assert!(
        found[0]
            .calls
            .contains(&call(value("as_table()"), "transact"))
    );
    assert!(
        found[0]
            .calls
            .contains(&call(On::Type("Self".into()), "items"))
    );
    assert!(!found[0].calls.iter().any(|call| call.name == "nothing"));
    assert!(found[1].calls.contains(&call(value("client"), "put_item")));
    assert!(found[2].calls.contains(&call(On::Nothing, "helper")));
}
