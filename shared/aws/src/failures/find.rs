//! Finding failures through the indexes.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use jiff::Timestamp;
use model::{Failure, FailureId, FailureStatus, Fingerprint};
use ports::{FailureFilter, FailureGroup, FailurePage, StoreError, Stored};

use super::{
    DynamoFailures,
    item::{AGE_SHARDS, SHARDS, failure_key, id_of, short_key, side},
};
use crate::dynamo::{
    Bound, Conditions, Item, Merge, Range, by_key, moment, number_of, sortable, text, text_of,
};

/// Failures read at once.
const AT_ONCE: usize = 100;
/// Large records read side by side.
const SIDE_BY_SIDE: usize = 4;
/// Entries of one page of an index for one shard.
const PAGE: usize = 200;

/// The parts of an index that hold what `filter` means, from `after` on.
fn ranges(filter: &FailureFilter, after: Option<&str>) -> Vec<Range> {
    let unresolved = |status: &FailureStatus| status.is_unresolved();
    let any = filter.status.is_empty();
    let alone = !any && filter.status.iter().all(unresolved);
    let mut sides = Vec::new();
    if any || filter.status.iter().any(unresolved) {
        sides.push(side(true));
    }
    if any || !alone {
        sides.push(side(false));
    }
    let spread = |shards: u128| {
        let each = move |side| (0..shards).map(move |shard| format!("{side}#{shard}"));
        sides.iter().copied().flat_map(each)
    };
    let (index, hash, shards): (_, _, Vec<String>) = match (&filter.map, &filter.news) {
        (Some(map), Some(news)) if alone => ("by_news", "said", vec![format!("{map}#{news}")]),
        (Some(map), _) => {
            let of_map = |shard| format!("{map}#{shard}");
            ("by_map", "map_shard", spread(SHARDS).map(of_map).collect())
        }
        (None, _) => ("by_age", "shard", spread(AGE_SHARDS).collect()),
    };
    let filter = conditions(filter, index);
    let bound = match after.filter(|after| is_place(after)) {
        Some(after) => Bound::After(after.to_owned()),
        None => Bound::Open,
    };
    let range = |shard| Range {
        index: Some(index),
        shard: (hash, shard),
        sort: "age",
        bound: bound.clone(),
        filter: filter.clone(),
    };
    shards.into_iter().map(range).collect()
}

/// Whether `after` can be where a page has ended.
fn is_place(after: &str) -> bool {
    let id = after.split_once('#').map(|(_, id)| id.parse::<FailureId>());
    moment(after).is_some() && matches!(id, Some(Ok(_)))
}

/// What `filter` asks that the place in the index does not say.
fn conditions(filter: &FailureFilter, index: &str) -> Conditions {
    let equal = [
        (
            "map",
            filter
                .map
                .as_ref()
                .filter(|_| index == "by_age")
                .map(ToString::to_string),
        ),
        ("class", filter.class.map(|class| class.as_str().to_owned())),
        (
            "fp",
            filter.fingerprint.as_ref().map(|group| group.0.clone()),
        ),
        ("key", filter.key.as_deref().map(short_key)),
        ("run", filter.run.map(|run| run.to_string())),
        ("news", filter.news.clone().filter(|_| index != "by_news")),
    ];
    let mut conditions = Conditions::default();
    for (name, value) in equal {
        if let Some(value) = value {
            conditions = conditions.compare(name, "=", text(value));
        }
    }
    if filter.status.is_empty() {
        return conditions;
    }
    let states = filter.status.iter().map(|status| text(status.as_str()));
    conditions.one_of("status", states.collect())
}

impl DynamoFailures {
    pub(crate) async fn page(
        &self,
        filter: &FailureFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<FailurePage, StoreError> {
        let page = limit.clamp(10, PAGE);
        let entries = Merge::new("reading failures", &self.table, ranges(filter, after), page);
        let matches = |failure: &Failure| filter.matches(failure);
        let (failures, next) = self.first(entries, limit, matches).await?;
        Ok(FailurePage { failures, next })
    }

    /// Failures by the beginning of their identifiers. These are digests and in no order, so all
    /// of an index is read, but no failure besides.
    pub(crate) async fn beginning(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Stored<Failure>>, StoreError> {
        let all = ranges(&FailureFilter::default(), None);
        let mut entries = Merge::new("looking for a failure", &self.table, all, PAGE);
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some((_, entry)) = entries.next().await?
        {
            let id = id_of(&entry).filter(|id| id.to_string().starts_with(prefix));
            // One that is on its way from one place to another can be in both.
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        self.read_all(&ids).await
    }

    pub(crate) async fn count_matching(&self, filter: &FailureFilter) -> Result<u64, StoreError> {
        let count = |range: Range| range.count("counting failures", &self.table);
        let counts = try_join_all(ranges(filter, None).into_iter().map(count));
        Ok(counts.await?.iter().sum())
    }

    pub(crate) async fn due_at(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Stored<Failure>>, StoreError> {
        // What is due this very microsecond is due.
        let before = Bound::Before(format!("{}$", sortable(now)));
        let what = "looking for due failures";
        let entries = Merge::new(what, &self.table, by_due('D', &before), PAGE);
        let due = |failure: &Failure| failure.due.is_some_and(|due| due <= now);
        Ok(self.first(entries, limit, due).await?.0)
    }

    /// The first `limit` that are wanted, and where the last of them is if there are so many.
    async fn first(
        &self,
        mut entries: Merge,
        limit: usize,
        wanted: impl Fn(&Failure) -> bool + Send,
    ) -> Result<(Vec<Stored<Failure>>, Option<String>), StoreError> {
        let mut found = Vec::new();
        let mut last = None;
        // An entry that is on its way from one place to another can be in both.
        let mut seen = HashSet::new();
        while found.len() < limit {
            let places = entries.take(AT_ONCE.min(limit - found.len())).await?;
            let Some((place, _)) = places.last() else {
                return Ok((found, None));
            };
            last = Some(place.clone());
            let ids = places.iter().filter_map(|(_, entry)| id_of(entry));
            let ids: Vec<FailureId> = ids.filter(|id| seen.insert(*id)).collect();
            let failures = self.read_all(&ids).await?;
            found.extend(failures.into_iter().filter(|one| wanted(&one.value)));
        }
        Ok((found, last))
    }

    /// Reads failures as they are now, in the order of `ids`.
    async fn read_all(&self, ids: &[FailureId]) -> Result<Vec<Stored<Failure>>, StoreError> {
        let keys = ids.iter().map(|id| failure_key(*id)).collect();
        let mut items = by_key(self.table.batch_get("reading failures", keys, true).await?);
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            let item = items.remove(&format!("F#{id}"));
            reads.extend(item.map(|item| self.opened(*id, item)));
        }
        let read: Vec<_> = stream::iter(reads)
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// The failure in an item, or as it is now when it was replaced since.
    async fn opened(
        &self,
        id: FailureId,
        item: Item,
    ) -> Result<Option<Stored<Failure>>, StoreError> {
        match self.stored_failure(&item).await? {
            Some(stored) => Ok(Some(stored)),
            None => self.read(id).await,
        }
    }

    pub(crate) async fn group(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        let what = "grouping failures";
        let mut entries = Merge::new(what, &self.table, ranges(filter, None), PAGE);
        let mut groups: HashMap<String, Tally> = HashMap::new();
        while let Some((place, entry)) = entries.next().await? {
            let Some(tally) = Tally::of(&place, &entry) else {
                continue;
            };
            let name = text_of(&entry, "fp").unwrap_or_default();
            match groups.get_mut(name) {
                Some(known) => known.merge(&tally),
                None => drop(groups.insert(name.to_owned(), tally)),
            }
        }
        let mut groups: Vec<(String, Tally)> = groups.into_iter().collect();
        groups.sort_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
        let mut found = Vec::new();
        for (name, tally) in groups {
            if found.len() >= limit {
                break;
            }
            let fingerprint = Fingerprint(name);
            if let Some(sample) = self.sample(filter, &fingerprint, tally.sample).await? {
                found.push(FailureGroup {
                    fingerprint,
                    count: tally.count,
                    first: tally.first,
                    last: tally.last,
                    sample,
                });
            }
        }
        Ok(found)
    }

    /// One of a group: the one that was seen, or another if that has changed meanwhile.
    async fn sample(
        &self,
        filter: &FailureFilter,
        group: &Fingerprint,
        seen: FailureId,
    ) -> Result<Option<Failure>, StoreError> {
        let filter = FailureFilter {
            fingerprint: Some(group.clone()),
            ..filter.clone()
        };
        let seen = self.read(seen).await?.map(|stored| stored.value);
        if let Some(seen) = seen.filter(|seen| filter.matches(seen)) {
            return Ok(Some(seen));
        }
        let mut others = self.page(&filter, None, 1).await?.failures;
        Ok(others.pop().map(|stored| stored.value))
    }
}

/// The shards of `by_due` of one side, up to `before`.
pub(crate) fn by_due(side: char, before: &Bound) -> Vec<Range> {
    let range = |shard| Range {
        index: Some("by_due"),
        shard: ("due_shard", format!("{side}#{shard}")),
        sort: "due",
        bound: before.clone(),
        filter: Conditions::default(),
    };
    (0..SHARDS).map(range).collect()
}

/// What is known of a group from the index alone.
#[derive(Debug)]
struct Tally {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    sample: FailureId,
}

impl Tally {
    fn of(place: &str, entry: &Item) -> Option<Self> {
        Some(Self {
            count: 1,
            first: moment(place)?,
            last: Timestamp::from_microsecond(number_of(entry, "last")?).ok()?,
            sample: id_of(entry)?,
        })
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}
