//! How one page leads to the next.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use connector_http::Circle;
use definition::Paging;
use serde::{Deserialize, Serialize};

/// Where the next page of a read is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// At the beginning.
    Start,
    /// At an address the service gave.
    Link(String),
    /// Behind a cursor the service gave.
    Token(String),
    /// At a number.
    Page(Numbered),
    /// After so many records.
    Offset(Counted),
}

/// What reading a counted page has led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<P> {
    /// On to this place.
    On(P),
    /// There are no more pages.
    End,
    /// The service gives the same pages again and again.
    Stuck,
}

impl<P> Turn<P> {
    fn map<Q>(self, to: impl FnOnce(P) -> Q) -> Turn<Q> {
        match self {
            Self::On(place) => Turn::On(to(place)),
            Self::End => Turn::End,
            Self::Stuck => Turn::Stuck,
        }
    }
}

impl Place {
    /// Where a read begins.
    pub(crate) fn start(paging: &Paging) -> Self {
        match paging {
            Paging::Page { first, .. } => Self::Page(Numbered {
                number: *first,
                ..Numbered::default()
            }),
            Paging::Offset { .. } => Self::Offset(Counted::default()),
            _ => Self::Start,
        }
    }

    /// Whether a page that does not exist is the end, and not a mistake: `missing` says that
    /// the service calls it missing, not the request bad.
    pub(crate) fn may_end(&self, missing: bool) -> bool {
        match self {
            Self::Page(now) => now.last.is_some() && (missing || now.short || now.again),
            Self::Offset(now) => now.last.is_some() && (missing || now.short),
            Self::Start | Self::Link(_) | Self::Token(_) => false,
        }
    }

    /// Goes on from a page that is counted. Takes the records out that need not be sent.
    pub(crate) fn turn(self, records: &mut Vec<Bytes>, size: usize) -> Turn<Self> {
        match self {
            Self::Page(now) => now.turn(records, size).map(Self::Page),
            Self::Offset(now) => now.turn(records, size).map(Self::Offset),
            Self::Start | Self::Link(_) | Self::Token(_) => Turn::End,
        }
    }
}

fn hash(record: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.hash(&mut hasher);
    hasher.finish()
}

/// One number for the content of a page.
fn digest(records: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in records {
        record.as_ref().hash(&mut hasher);
    }
    hasher.finish()
}

/// Notices pages that go round. Rows that come in just the number of a page make the next
/// page look like one that has been read, so once is no proof.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Rounds {
    circle: Circle,
    rounds: u32,
}

impl Rounds {
    const MOST: u32 = 3;

    /// Goes on to a page; `None` when they go round.
    fn step(&self, content: u64) -> Option<Self> {
        if let Some(circle) = self.circle.step(&content.to_string()) {
            return Some(Self {
                circle,
                rounds: self.rounds,
            });
        }
        (self.rounds + 1 < Self::MOST).then(|| Self {
            circle: Circle::default(),
            rounds: self.rounds + 1,
        })
    }
}

/// Numbered pages.
///
/// After each page the one before is looked at again: if it is not what it was, rows have
/// moved, perhaps one from this page to that. How many records a page holds is the service's
/// decision, so a page is the last one only if the next is empty or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Numbered {
    /// The page to read.
    pub(crate) number: u64,
    /// Whether it has been read before and is only looked at again.
    again: bool,
    /// Where to go on after the second look; `None` is nowhere.
    then: Option<u64>,
    /// Whether the page after it was the same, when it was read first.
    doubled: bool,
    /// Content of the last page that was read for the first time.
    last: Option<u64>,
    /// Content of the page that is looked at again, when it was read first.
    seen: Option<u64>,
    /// Pages that have been read.
    pages: u64,
    /// Most records that a page has had.
    most: usize,
    /// Whether the last page had room for more records.
    short: bool,
    rounds: Rounds,
}

impl Numbered {
    fn turn(self, records: &mut Vec<Bytes>, size: usize) -> Turn<Self> {
        let content = digest(records);
        if self.again {
            return self.look_again(records, content);
        }
        let count = records.len();
        if count > 0 && Some(content) == self.last {
            records.clear();
            if self.short {
                return Turn::End;
            }
            // The service gives its last page for every number beyond it, or the number says
            // nothing to it, or as many rows have come as make a page.
            return Turn::On(Self {
                number: self.number - 1,
                again: true,
                then: Some(self.number + 1),
                doubled: true,
                seen: self.last,
                ..self
            });
        }
        let Some(rounds) = self.rounds.step(content) else {
            return Turn::Stuck;
        };
        // An empty page after a short one is the end that was expected.
        let look_again = self.last.is_some() && !(self.short && count == 0);
        let room = if self.most == 0 { size } else { self.most };
        let next = Self {
            number: self.number + 1,
            last: if count > 0 { Some(content) } else { self.last },
            seen: self.last,
            pages: self.pages + 1,
            most: self.most.max(count),
            short: count < room,
            rounds,
            ..Self::default()
        };
        let on = (count > 0).then_some(next.number);
        if look_again {
            return Turn::On(Self {
                number: self.number - 1,
                again: true,
                then: on,
                ..next
            });
        }
        on.map_or(Turn::End, |_| Turn::On(next))
    }

    fn look_again(self, records: &mut Vec<Bytes>, content: u64) -> Turn<Self> {
        if Some(content) == self.seen {
            records.clear();
            if self.doubled {
                return if self.pages > 1 {
                    Turn::End
                } else {
                    Turn::Stuck
                };
            }
        }
        self.then.map_or(Turn::End, |number| {
            Turn::On(Self {
                number,
                again: false,
                then: None,
                doubled: false,
                seen: None,
                ..self
            })
        })
    }
}

/// Most records of the last page that the next one begins with, to see whether rows have
/// moved.
const OVERLAP: usize = 8;

/// Counted records.
///
/// Each page begins with the last records of the one before. If none of them is there, rows
/// before them have gone, and the page before is read again. A page may be short without
/// being the last, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counted {
    /// Records to skip.
    pub(crate) skip: u64,
    /// The last records of the last page, which this one should begin with.
    tail: Vec<u64>,
    /// Content of the last page.
    last: Option<u64>,
    /// Most records that a page has had.
    most: usize,
    /// Whether the last page had room for more records.
    short: bool,
    /// Whether this is a step back already, and whether it is one to the beginning because
    /// the second page was like the first.
    back: bool,
    doubled: bool,
    /// Pages that have been read, and steps back among them.
    pages: u64,
    backs: u64,
    /// Pages that began with the last records of the one before, and others.
    joined: Rounds,
    apart: Rounds,
}

impl Counted {
    fn turn(mut self, records: &mut Vec<Bytes>, size: usize) -> Turn<Self> {
        let (count, content) = (records.len(), digest(records));
        let all: Vec<u64> = records.iter().map(|record| hash(record)).collect();
        if count > 0 && Some(content) == self.last {
            if self.doubled {
                return Turn::Stuck;
            }
            if self.short && !self.back {
                records.clear();
                return Turn::End;
            }
            if self.pages == 1 {
                // The number says nothing to the service, or as many rows have come as make
                // a page.
                self.doubled = true;
                self.skip = 0;
                return self.step_back(records);
            }
        }
        let joins = self.tail.is_empty() || all.iter().any(|record| self.tail.contains(record));
        // Where rows move all the time, going back each time would never end.
        if !joins && !self.back && self.backs * 4 <= self.pages {
            self.skip = self.skip.saturating_sub(size as u64);
            return self.step_back(records);
        }
        let mut fresh = all.iter().map(|record| !self.tail.contains(record));
        records.retain(|_| fresh.next().unwrap_or(true));
        if count == 0 || (records.is_empty() && !self.back) {
            return Turn::End;
        }
        let rounds = if joins {
            &mut self.joined
        } else {
            &mut self.apart
        };
        let Some(next) = rounds.step(content) else {
            return Turn::Stuck;
        };
        *rounds = next;
        let room = if self.most == 0 { size } else { self.most };
        let overlap = (count / 4).max(usize::from(count > 1)).min(OVERLAP);
        Turn::On(Self {
            skip: self.skip + (count - overlap) as u64,
            tail: all[count - overlap..].to_vec(),
            last: Some(content),
            most: self.most.max(count),
            short: count < room,
            back: false,
            doubled: false,
            pages: self.pages + 1,
            ..self
        })
    }

    fn step_back(self, records: &mut Vec<Bytes>) -> Turn<Self> {
        records.clear();
        Turn::On(Self {
            back: true,
            backs: self.backs + 1,
            // What is read again from here looks like what has been read.
            joined: Rounds::default(),
            ..self
        })
    }
}
