//! What an item says of a link.
//!
//! A link is written as a whole, as JSON in the attribute `link`. A claim that is made without a
//! look at it cannot change that: it lies beside it in the attribute `claim`, and the one that
//! lay there before moves to `before`. Whether a claim came true stands in its batch.

use std::sync::Arc;

use jiff::Timestamp;
use ports::{Claim, Link, StoreError};

use super::super::item::{Item, get_number, get_text, number, text};

/// The attributes of a link that is written as a whole.
///
/// `newest` is its newest version, if versions say what is newer; `until` is when its claim
/// ends, in microseconds of Unix time.
pub(super) fn item(link: &Link) -> Result<Item, StoreError> {
    let json = serde_json::to_string(link).map_err(StoreError::corrupt("a link"))?;
    let until = link.claim.as_ref().map(|claim| claim.until);
    let until = until.unwrap_or(Timestamp::UNIX_EPOCH).as_microsecond();
    let mut item = Item::from([("link".into(), text(json)), ("until".into(), number(until))]);
    if let Some(newest) = link.newest() {
        item.insert("newest".into(), number(newest.0));
    }
    Ok(item)
}

/// A claim as an attribute.
pub(super) fn claim_text(claim: &Claim) -> Result<String, StoreError> {
    serde_json::to_string(claim).map_err(StoreError::corrupt("a claim"))
}

/// A link, and the claims that were made after it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    link: Link,
    claims: Vec<Claim>,
}

impl Trace {
    pub(super) fn of(item: &Item, name: &str) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(format!("the link of `{name}`"));
        let link = get_text(item, "link").map_or(Ok(Link::default()), serde_json::from_str);
        let mut link: Link = link.map_err(corrupt())?;
        let mut claims: Vec<Claim> = link.claim.take().into_iter().collect();
        let unseen: u64 = get_number(item, "claims");
        if unseen > 0 {
            // Each claim and what became of it are two states; the last is not settled yet.
            link.writes += claims.len() as u64 + 2 * unseen - 1;
        }
        for attribute in ["before", "claim"] {
            let text = get_text(item, attribute).filter(|text| !text.is_empty());
            if let Some(text) = text {
                claims.push(serde_json::from_str(text).map_err(corrupt())?);
            }
        }
        Ok(Self { link, claims })
    }

    /// The batches that say what came true.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Arc<str>> {
        self.claims.iter().filter_map(|claim| claim.batch.as_ref())
    }

    pub(super) fn last(&self) -> Option<&Claim> {
        self.claims.last()
    }

    /// The link, in which a claim has come true if `is_true` says so.
    pub(super) fn told(self, is_true: impl Fn(&Claim) -> bool) -> Link {
        let mut link = self.link;
        let writes = link.writes;
        for claim in self.claims {
            // Only the last is not counted yet.
            link.writes = writes;
            if is_true(&claim) {
                link = link.came_true(&claim);
            } else {
                link.claim = Some(claim);
            }
        }
        link
    }
}

/// The item as it was before its last claim, as far as it tells: none, if there was none.
pub(super) fn before_claim(mut item: Item) -> Option<Item> {
    let claims = get_number::<u64>(&item, "claims").saturating_sub(1);
    if claims == 0 && !item.contains_key("link") {
        return None;
    }
    let before = item.remove("before");
    item.insert("claim".into(), before.unwrap_or_else(|| text("")));
    item.insert("claims".into(), number(claims));
    Some(item)
}

#[cfg(test)]
mod tests {
    use model::Version;

    use super::*;

    fn claim(version: i64, batch: Option<&str>) -> Claim {
        Claim {
            version: Some(Version(version)),
            hash: Some(format!("h{version}")),
            batch: batch.map(Into::into),
            ..Claim::default()
        }
    }

    fn put(item: &mut Item, new: &Claim) {
        let before = item.insert("claim".into(), text(claim_text(new).unwrap()));
        item.insert("before".into(), before.unwrap_or_else(|| text("")));
        let claims: u64 = get_number(item, "claims");
        item.insert("claims".into(), number(claims + 1));
    }

    fn told(item: &Item, over: &[&str]) -> Link {
        let trace = Trace::of(item, "a").unwrap();
        trace.told(|claim| {
            claim
                .batch
                .as_deref()
                .is_some_and(|batch| over.contains(&batch))
        })
    }

    #[test]
    fn no_two_states_of_a_link_have_the_same_number() {
        let mut first = Link::default().claimed(claim(1, Some("a")));
        first.found = Some(3);
        for mut item in [Item::new(), item(&first).unwrap()] {
            let mut numbers = Vec::new();
            let mut note = |link: Link| {
                numbers.push(link.writes);
                link
            };
            note(told(&item, &[]));
            note(told(&item, &["a"]));
            for (version, batch) in [(2, "b"), (3, "c"), (4, "d")] {
                put(&mut item, &claim(version, Some(batch)));
                let open = note(told(&item, &["a"]));
                assert_eq!(open.claim, Some(claim(version, Some(batch))));
                let over = note(told(&item, &["a", batch]));
                assert_eq!(over.applied, Some(Version(version)));
                assert_eq!(over.claim, None);
            }
            let different: std::collections::BTreeSet<_> = numbers.iter().skip(2).collect();
            assert_eq!(different.len(), 6, "{numbers:?}");
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
    }

    #[test]
    fn a_claim_in_doubt_hides_nothing_that_is_known_of_the_one_before() {
        let mut item = item(&Link::default()).unwrap();
        put(&mut item, &claim(1, Some("a")));
        put(&mut item, &claim(2, Some("b")));
        let link = told(&item, &["a"]);
        assert_eq!(link.applied, Some(Version(1)));
        assert_eq!(link.claim, Some(claim(2, Some("b"))));
        assert_eq!(link.hash.as_deref(), Some("h1"));
    }

    #[test]
    fn what_was_there_before_a_claim_can_be_told_from_what_is_there_now() {
        let mut item = Item::new();
        put(&mut item, &claim(1, Some("a")));
        assert_eq!(before_claim(item.clone()), None);
        put(&mut item, &claim(2, Some("b")));
        let before = before_claim(item).unwrap();
        assert_eq!(told(&before, &["a"]).applied, Some(Version(1)));
        assert_eq!(told(&before, &[]).claim, Some(claim(1, Some("a"))));
    }
}
