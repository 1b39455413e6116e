//! Places in a stream.

use connector_http::Circle;
use model::SourceMark;
use serde::{Deserialize, Serialize};

/// Where the next read for changes begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub(crate) enum Mark {
    /// At a link the service gave.
    Delta {
        /// The link, as it was given.
        link: String,
    },
    /// At a version.
    Cursor {
        /// The newest version read, as it stands in the records; `None` when there was none.
        at: Option<String>,
        /// A delta link to go on from once everything since that version has been read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<String>,
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
    /// The address of the next page, absolute.
    pub(crate) next: String,
    /// Whether the service tracks changes in this read.
    #[serde(default)]
    pub(crate) tracked: bool,
    /// When its first page was asked for, on the service's clock, in microseconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<i64>,
    /// The newest version seen in this read, as it stands in the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<String>,
    /// How the next page is asked for.
    #[serde(default)]
    pub(crate) paging: Paging,
    /// Finds links that go round in a circle.
    pub(crate) circle: Circle,
}

/// How one page leads to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Paging {
    /// By the links of the service, as long as they do not count rows.
    #[default]
    Open,
    /// By what the last page ended with: the links of the service count rows.
    Keys,
    /// By the links of the service, whatever they do: it cannot be asked by keys.
    Links,
}
