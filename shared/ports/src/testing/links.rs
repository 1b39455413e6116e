//! What every link table has to do.

use std::sync::Arc;

use jiff::Timestamp;
use model::Version;

use super::map_name;
use crate::{Claim, ClaimBatch, Claimed, Link, Links, Revision};

/// Ends of claims: long ago, and not for long.
const PAST: Timestamp = Timestamp::UNIX_EPOCH;
const FUTURE: Timestamp = Timestamp::MAX;

fn claim(version: i64, until: Timestamp, batch: &ClaimBatch) -> Claim {
    Claim {
        version: Some(Version(version)),
        hash: Some(format!("h{version}")),
        until,
        attempt: 5,
        batch: Some(Arc::clone(&batch.name)),
    }
}

async fn begun<L: Links>(links: &L, until: Timestamp) -> ClaimBatch {
    let batch = ClaimBatch::new(until);
    links.begin(&map_name("a"), &batch).await.expect("begin");
    batch
}

async fn claimed<L: Links>(links: &L, key: &str, claim: &Claim) -> Claimed {
    let claims = vec![(key.to_owned(), claim.clone())];
    let mut claimed = links.claim(&map_name("a"), claims).await.expect("claim");
    claimed.remove(0)
}

/// Claims a row that can be claimed.
async fn ours<L: Links>(links: &L, key: &str, claim: &Claim) -> (Option<Link>, Revision) {
    match claimed(links, key, claim).await {
        Claimed::Ours { before, revision } => (before, revision),
        Claimed::Look => panic!("`{key}` cannot be claimed"),
    }
}

async fn one<L: Links>(links: &L, key: &str) -> Link {
    let found = links.get(&map_name("a"), &[key.to_owned()]).await;
    let found = found.expect("get").remove(0);
    found.expect("a link").value
}

/// Claims a row and confirms it; returns what the link then is.
async fn written<L: Links>(links: &L, key: &str, version: i64, last: Timestamp) -> Link {
    let batch = begun(links, last).await;
    let claim = claim(version, last, &batch);
    let (before, revision) = ours(links, key, &claim).await;
    let link = before.unwrap_or_default().claimed(claim.clone());
    assert_eq!(one(links, key).await, link, "while it is claimed");
    let link = link.came_true(&claim);
    let confirmed = vec![(key.to_owned(), revision, link.clone())];
    let confirmed = links.confirm(&map_name("a"), &batch, confirmed).await;
    assert!(confirmed.expect("confirm")[0].is_some());
    link
}

/// What is claimed and confirmed is what the link says, whether the batch ends in time or late,
/// and however often it happens.
pub async fn confirmed_claims_are_links<L: Links>(links: &L) {
    for last in [PAST, FUTURE] {
        let key = format!("{last}");
        let mut numbers = vec![0];
        for version in 1..=4 {
            let link = written(links, &key, version, last).await;
            assert_eq!(link.applied, Some(Version(version)));
            assert_eq!(one(links, &key).await, link);
            numbers.push(link.writes);
            let listed = links.list(&map_name("a"), None, 9).await.expect("list");
            assert!(
                listed
                    .iter()
                    .any(|(name, stored)| *name == key && stored.value == link)
            );
            if last == FUTURE {
                break;
            }
        }
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    }
}

/// Only what is older, and what nobody is writing, yields to a claim; what has no link does.
pub async fn claims_yield_to_what_is_newer<L: Links>(links: &L) {
    written(links, "old", 5, PAST).await;
    let batch = begun(links, FUTURE).await;
    for version in [4, 5] {
        let claim = claim(version, FUTURE, &batch);
        assert_eq!(
            claimed(links, "old", &claim).await,
            Claimed::Look,
            "{version}"
        );
    }
    let undated = Claim {
        version: None,
        ..claim(6, FUTURE, &batch)
    };
    for key in ["old", "new"] {
        assert_eq!(claimed(links, key, &undated).await, Claimed::Look);
    }
    let (before, _) = ours(links, "old", &claim(6, FUTURE, &batch)).await;
    assert_eq!(before.expect("a link").newest(), Some(Version(5)));
    assert_eq!(
        claimed(links, "old", &claim(7, FUTURE, &batch)).await,
        Claimed::Look
    );
    let (before, _) = ours(links, "new", &claim(1, PAST, &batch)).await;
    assert_eq!(before, None);
    // A claim that has ended yields to a newer one, and not to an older.
    assert_eq!(
        claimed(links, "new", &claim(1, PAST, &batch)).await,
        Claimed::Look
    );
    let (before, _) = ours(links, "new", &claim(2, PAST, &batch)).await;
    let before = before.expect("a link");
    assert_eq!(
        before.claim.and_then(|claim| claim.version),
        Some(Version(1))
    );
    assert_eq!(before.applied, None);
    // A deletion that nobody can date does not yield.
    let undated = Link {
        deleted: true,
        ..Link::default()
    };
    let put = vec![("gone".to_owned(), None, undated)];
    links.put(&map_name("a"), put).await.expect("put");
    assert_eq!(
        claimed(links, "gone", &claim(9, FUTURE, &batch)).await,
        Claimed::Look
    );
    // What was tried in vain does not yield to what is late.
    let tried = Link {
        tried: Some(Version(7)),
        ..Link::default()
    };
    let put = vec![("tried".to_owned(), None, tried)];
    links.put(&map_name("a"), put).await.expect("put");
    for version in [6, 7] {
        let claim = claim(version, FUTURE, &batch);
        assert_eq!(claimed(links, "tried", &claim).await, Claimed::Look);
    }
    ours(links, "tried", &claim(8, FUTURE, &batch)).await;
    // What was put yields as what was claimed does.
    let put = vec![("put".to_owned(), None, link(1))];
    links.put(&map_name("a"), put).await.expect("put");
    assert_eq!(
        claimed(links, "put", &claim(2, FUTURE, &batch)).await,
        Claimed::Look
    );
    let (before, revision) = ours(links, "put", &claim(3, FUTURE, &batch)).await;
    assert_eq!(before.expect("a link").found, Some(2));
    assert_eq!(
        one(links, "put").await.found,
        Some(2),
        "the load that found it is kept"
    );
    let put = vec![("put".to_owned(), Some(revision), link(3))];
    let put = links.put(&map_name("a"), put).await.expect("put");
    assert!(put[0].is_some());
    assert_eq!(
        one(links, "put").await,
        link(3),
        "nothing of the claim is left"
    );
}

/// What a claim replaced is known for sure where it has the same content.
pub async fn claims_of_the_same_content_know_it<L: Links>(links: &L) {
    let link = written(links, "a", 1, PAST).await;
    let batch = begun(links, FUTURE).await;
    let same = Claim {
        hash: link.hash.clone(),
        ..claim(2, PAST, &batch)
    };
    let (before, _) = ours(links, "a", &same).await;
    assert_eq!(before, Some(link));
    // Now it is claimed, and nobody has said that it came true.
    let again = Claim {
        version: Some(Version(3)),
        ..same.clone()
    };
    let (before, _) = ours(links, "a", &again).await;
    assert_eq!(before.expect("a link").claim, Some(same));
}

/// A batch that is not confirmed leaves its claims as they are, and one that is says nothing of
/// those that were written otherwise before.
pub async fn batches_tell_only_of_their_own<L: Links>(links: &L) {
    let map = map_name("a");
    for last in [PAST, FUTURE] {
        let name = |name: &str| format!("{name} {last}");
        let (dead, batch) = (begun(links, last).await, begun(links, last).await);
        let left = claim(1, PAST, &dead);
        ours(links, &name("left"), &left).await;
        let mine = claim(2, last, &batch);
        let (_, revision) = ours(links, &name("done"), &mine).await;
        let done = Link::default().claimed(mine.clone()).came_true(&mine);
        let (_, undone) = ours(links, &name("undone"), &mine).await;
        let doubtful = Link::default().claimed(Claim {
            batch: None,
            ..mine.clone()
        });
        let put = vec![(name("undone"), Some(undone), doubtful.clone())];
        assert!(links.put(&map, put).await.expect("put")[0].is_some());
        let confirmed = vec![(name("done"), revision, done.clone())];
        links
            .confirm(&map, &batch, confirmed)
            .await
            .expect("confirm");
        assert_eq!(one(links, &name("done")).await, done);
        assert_eq!(one(links, &name("undone")).await, doubtful);
        assert_eq!(one(links, &name("left")).await.claim, Some(left));
    }
}

fn link(version: i64) -> Link {
    Link {
        applied: Some(Version(version)),
        hash: Some(format!("h{version}")),
        deleted: false,
        claim: Some(Claim {
            version: Some(Version(version + 1)),
            hash: None,
            until: jiff::Timestamp::UNIX_EPOCH,
            attempt: 7,
            batch: None,
        }),
        writes: 3,
        found: Some(2),
        tried: None,
    }
}

/// Links come out as they went in, in the order of the keys asked for, per map.
pub async fn keeps_links<L: Links>(links: &L) {
    let (a, b) = (map_name("a"), map_name("b"));
    let put = vec![("1".into(), None, link(1)), ("2".into(), None, link(2))];
    assert!(
        links
            .put(&a, put)
            .await
            .expect("put")
            .iter()
            .all(Option::is_some)
    );
    let keys = ["2".to_owned(), "3".to_owned(), "1".to_owned()];
    let found = links.get(&a, &keys).await.expect("get");
    let values: Vec<_> = found
        .into_iter()
        .map(|stored| stored.map(|stored| stored.value))
        .collect();
    assert_eq!(values, [Some(link(2)), None, Some(link(1))]);
    assert!(
        links
            .get(&b, &keys)
            .await
            .expect("get")
            .iter()
            .all(Option::is_none)
    );
}

/// The key of a row may be as long as a source makes it.
pub async fn keys_may_be_long<L: Links>(links: &L) {
    let map = map_name("a");
    let key = |end: &str| format!("{}{end}", "\u{e4}".repeat(1_500));
    let keys = [key("1"), key("2"), "short".to_owned()];
    let put = keys.iter().zip(1..);
    let put = put.map(|(key, version)| (key.clone(), None, link(version)));
    let written = links.put(&map, put.collect()).await.expect("put");
    assert!(written.iter().all(Option::is_some));
    let found = links.get(&map, &keys).await.expect("get");
    let versions = found
        .iter()
        .map(|stored| stored.as_ref().map(|link| link.value.clone()));
    assert!(versions.eq((1..=3).map(|version| Some(link(version)))));
    let listed = links.list(&map, None, 9).await.expect("list");
    let mut names: Vec<&String> = listed.iter().map(|(key, _)| key).collect();
    names.sort_unstable_by_key(|name| keys.iter().position(|key| key == *name));
    assert!(names.into_iter().eq(&keys));
}

/// Each link is written only at its revision, and one conflict does not stop the others.
pub async fn each_link_is_fenced<L: Links>(links: &L) {
    let map = map_name("a");
    let first = links
        .put(&map, vec![("1".into(), None, link(1))])
        .await
        .expect("put")[0];
    let put = vec![
        ("1".into(), None, link(9)),
        ("2".into(), None, link(2)),
        ("1".into(), first, link(3)),
        ("1".into(), first, link(4)),
    ];
    let written = links.put(&map, put).await.expect("put");
    let done: Vec<_> = written.iter().map(Option::is_some).collect();
    assert_eq!(done, [false, true, true, false]);
    let found = links.get(&map, &["1".to_owned()]).await.expect("get");
    assert_eq!(
        found[0].as_ref().map(|stored| &stored.value),
        Some(&link(3))
    );
}

/// Links are listed per map, in the order of their keys' bytes, page by page, each once.
pub async fn lists_links_in_order<L: Links>(links: &L) {
    let (a, b) = (map_name("a"), map_name("b"));
    assert_eq!(links.list(&a, None, 9).await.expect("list"), []);
    let keys = ["b", "a,2", "a", "a,10", "\u{e4}", "Z", ""];
    let put = |keys: &[&str]| {
        let all = keys.iter().zip(1..);
        all.map(|(key, version)| ((*key).to_owned(), None, link(version)))
            .collect::<Vec<_>>()
    };
    links.put(&a, put(&keys)).await.expect("put");
    links.put(&b, put(&["c"])).await.expect("put");
    let mut sorted = keys;
    sorted.sort_unstable();
    for limit in [1, 2, 3, 7, 8] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().cloned();
            let page = links.list(&a, after.as_deref(), limit).await.expect("list");
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            for (key, stored) in page {
                let one = links
                    .get(&a, std::slice::from_ref(&key))
                    .await
                    .expect("get");
                assert_eq!(one, [Some(stored)], "{key}");
                found.push(key);
            }
            if last {
                break;
            }
        }
        assert_eq!(found, sorted, "{limit} at a time");
    }
}

/// Tests of the contract of [`Links`].
#[macro_export]
macro_rules! links_contract {
    ($make:expr) => {
        $crate::contract!(
            links,
            $make,
            [
                keeps_links,
                keys_may_be_long,
                each_link_is_fenced,
                lists_links_in_order,
                confirmed_claims_are_links,
                claims_yield_to_what_is_newer,
                claims_of_the_same_content_know_it,
                batches_tell_only_of_their_own,
            ]
        );
    };
}
