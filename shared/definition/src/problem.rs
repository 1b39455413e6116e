//! What is wrong with a file, and where.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but probably not as meant.
    Warning,
}

/// A place in the file; both count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing that is wrong or doubtful.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, such as `unknown-key`.
    pub code: &'static str,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The path of keys that leads there.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Problem {
    /// The problem for a terminal, with the line it is on.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        // Writing to a string cannot fail.
        use fmt::Write as _;
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Place { line, column } = self.place;
        let mut out = format!("{kind}[{}]: {}\n", self.code, self.message);
        let _ = writeln!(out, "  --> {file}:{line}:{column} ({})", self.path);
        if let Some(source) = text.lines().nth(line.saturating_sub(1)) {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let under = " ".repeat(column.saturating_sub(1));
            let _ = writeln!(out, "{margin} |\n{number} | {source}\n{margin} | {under}^");
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "  help: {help}");
        }
        out
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(
            f,
            "{line}:{column} {}: {} ({})",
            self.code, self.message, self.path
        )?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Log {
    problems: RefCell<Vec<Problem>>,
    places: RefCell<BTreeMap<String, Place>>,
}

impl Log {
    pub(crate) fn report(
        &self,
        severity: Severity,
        code: &'static str,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let place = nearest(&self.places.borrow(), path);
        self.problems.borrow_mut().push(Problem {
            severity,
            code,
            place,
            path: path.to_owned(),
            message: message.into(),
            help,
        });
    }

    pub(crate) fn report_at(&self, code: &'static str, place: Place, message: String) {
        let path = String::new();
        let problem = Problem {
            severity: Severity::Error,
            code,
            place,
            path,
            message,
            help: None,
        };
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems
            .borrow()
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    pub(crate) fn locate(&self, path: &str, place: Place) {
        self.places.borrow_mut().insert(path.to_owned(), place);
    }

    pub(crate) fn take_places(&self) -> BTreeMap<String, Place> {
        self.places.borrow().clone()
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.place, problem.severity));
        problems
    }
}

/// The place of `path`, or of the nearest part of it that is known.
pub(crate) fn nearest(places: &BTreeMap<String, Place>, path: &str) -> Place {
    let mut part = path;
    loop {
        if let Some(place) = places.get(part) {
            return *place;
        }
        match part.rsplit_once('.') {
            Some((parent, _)) => part = parent,
            None => {
                return places
                    .get("")
                    .copied()
                    .unwrap_or(Place { line: 1, column: 1 });
            }
        }
    }
}
