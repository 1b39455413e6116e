//! What every link table has to do.

use model::Version;

use super::map_name;
use crate::{Claim, Link, Links};

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
        }),
        writes: 3,
        found: Some(2),
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
            ]
        );
    };
}
