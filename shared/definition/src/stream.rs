//! How a stream of a JSON service is read.

use serde::Serialize;

use crate::node::Node;

/// A stream of a REST service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestStream {
    /// Path of the collection, below the connection's address.
    pub path: String,
    /// Where in the answer the records are; empty when the answer is their list.
    pub records: Vec<String>,
    /// Query parameters of every request.
    pub query: Vec<(String, String)>,
    /// Parameter that asks for records at or after a version.
    pub since: Option<String>,
    /// How one page leads to the next.
    pub paging: Paging,
    /// Path of a single record, with its key fields in braces: `/orders/{id}`.
    pub item: Option<String>,
    /// Where in the answer to `item` the record is; empty when the answer is the record.
    pub item_record: Vec<String>,
}

/// How one page leads to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paging {
    /// There is one page.
    None,
    /// The answer holds the address of the next page.
    NextLink {
        /// Where.
        at: Vec<String>,
    },
    /// The `Link` header holds it (RFC 8288, `rel="next"`).
    LinkHeader,
    /// The answer holds a cursor that goes into a parameter.
    Cursor {
        /// Where.
        at: Vec<String>,
        /// Which parameter.
        param: String,
    },
    /// Pages are numbered; an empty or short one is the last.
    Page {
        /// Parameter for the number.
        param: String,
        /// Number of the first page.
        first: u64,
        /// Parameter for the size.
        size_param: Option<String>,
        /// Records per page.
        size: u32,
    },
    /// Records are counted; an empty or short page is the last.
    Offset {
        /// Parameter for the number of records to skip.
        param: String,
        /// Parameter for the size.
        size_param: Option<String>,
        /// Records per page.
        size: u32,
    },
}

pub(crate) const KEYS: &[&str] = &[
    "path",
    "records",
    "query",
    "since",
    "paging",
    "item",
    "item_record",
];
pub(crate) const PAGING_KEYS: &[&str] = &["next_link", "link_header", "cursor", "page", "offset"];

/// A place in an answer: `data.items` or `data/items`.
pub(crate) fn pointer(node: &Node<'_>) -> Option<Vec<String>> {
    let text = node.text()?;
    let parts: Vec<String> = text.split(['.', '/']).map(str::to_owned).collect();
    if parts.iter().any(String::is_empty) {
        node.error(
            "invalid-path",
            format!("`{text}` is no place in an answer: write it as data.items"),
        );
        return None;
    }
    Some(parts)
}

fn address(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if !text.starts_with('/') {
        node.error(
            "invalid-path",
            format!("`{text}` must begin with / and is added to the connection's url"),
        );
        return None;
    }
    Some(text)
}

pub(crate) fn read(node: &Node<'_>) -> Option<RestStream> {
    let section = node.map("rest", KEYS)?;
    let path = section.required("path").and_then(address);
    let optional = |key: &str| match section.get(key) {
        Some(node) => pointer(node),
        None => Some(Vec::new()),
    };
    let query = match section.get("query") {
        Some(node) => node
            .entries("parameters")?
            .into_iter()
            .map(|(name, node)| Some((name, node.text()?)))
            .collect::<Option<Vec<_>>>(),
        None => Some(Vec::new()),
    };
    let paging = section
        .get("paging")
        .map_or(Some(Paging::None), read_paging);
    Some(RestStream {
        path: path?,
        records: optional("records")?,
        query: query?,
        since: section.get("since").and_then(Node::text),
        paging: paging?,
        item: section.get("item").and_then(address),
        item_record: optional("item_record")?,
    })
}

fn read_paging(node: &Node<'_>) -> Option<Paging> {
    if !node.is_mapping() {
        let header = node.choice(&[("none", false), ("link_header", true)])?;
        return Some(if header {
            Paging::LinkHeader
        } else {
            Paging::None
        });
    }
    let section = node.map("paging", PAGING_KEYS)?;
    let kinds: Vec<&str> = section.keys().collect();
    let [kind] = kinds[..] else {
        node.error("ambiguous", "paging needs exactly one kind");
        return None;
    };
    let inner = section.required(kind)?;
    match kind {
        "next_link" => Some(Paging::NextLink {
            at: pointer(inner)?,
        }),
        "link_header" => Some(Paging::LinkHeader),
        "cursor" => {
            let cursor = inner.map("cursor", &["at", "param"])?;
            let (at, param) = (cursor.required("at"), cursor.required("param"));
            Some(Paging::Cursor {
                at: at.and_then(pointer)?,
                param: param.and_then(Node::text)?,
            })
        }
        "page" => {
            let page = inner.map("page", &["param", "first", "size_param", "size"])?;
            let param = page.required("param").and_then(Node::text);
            let size = page
                .required("size")
                .and_then(|node| node.count(1, 100_000));
            let first = page.get("first").map_or(Some(1), |node| node.count(0, 1))?;
            let size_param = page.get("size_param").and_then(Node::text);
            Some(Paging::Page {
                param: param?,
                first: first.into(),
                size_param,
                size: size?,
            })
        }
        _ => {
            let offset = inner.map("offset", &["param", "size_param", "size"])?;
            let param = offset.required("param").and_then(Node::text);
            let size = offset
                .required("size")
                .and_then(|node| node.count(1, 100_000));
            let size_param = offset.get("size_param").and_then(Node::text);
            Some(Paging::Offset {
                param: param?,
                size_param,
                size: size?,
            })
        }
    }
}
