//! Places in a stream.

use model::SourceMark;
use serde::{Deserialize, Serialize};

/// Where the next read for changes begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub(crate) enum Mark {
    /// At the oldest transaction that was not at an end when it was made.
    Transaction {
        /// Its number, counted on beyond 32 bits.
        from: u64,
        /// The history of the server that numbered it.
        history: String,
    },
    /// At a version.
    Version {
        /// The newest version read, as PostgreSQL writes it; `None` when there was none.
        at: Option<String>,
    },
}

impl Mark {
    pub(crate) fn parse(mark: &SourceMark) -> Option<Self> {
        serde_json::from_str(&mark.0).ok()
    }

    pub(crate) fn to_source_mark(&self) -> SourceMark {
        SourceMark(serde_json::to_string(self).unwrap_or_default())
    }
}

/// Where the next page of a read is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Where changes are read from after this read.
    pub(crate) mark: Option<Mark>,
    pub(crate) place: Place,
}

/// A place in one kind of read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// Among rows in the order of some columns.
    Rows {
        /// Which rows.
        part: Part,
        /// The columns' values in the last row that was read; empty at the beginning.
        after: Vec<String>,
    },
    /// Among the blocks of a table.
    Blocks(Blocks),
    /// Among rows in the order of their versions.
    Versions {
        /// Version and key of the last row that was read; empty at the beginning.
        after: Vec<String>,
    },
}

/// A place among the blocks of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blocks {
    /// The next block.
    pub(crate) block: u64,
    /// Blocks there were at the beginning; what came later was written later.
    pub(crate) end: u64,
    /// Blocks per statement.
    pub(crate) step: u64,
    /// Table and row of the last row that was read in the step from `block` on.
    pub(crate) after: Option<(String, String)>,
    /// The files that the blocks are in; a table that is rewritten gets others.
    #[serde(default)]
    pub(crate) files: String,
}

/// Rows that can be read in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Those with a value in each column of the order.
    Whole,
    /// Those without a value in the column that the stream is cut by.
    Uncut,
    /// Those without a whole key, which no order can tell apart.
    Keyless,
}

impl Cursor {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}
