//! Reading single records although some of them cannot be read.

use std::ops::Range;

use bytes::Bytes;
use ports::{Source, SourceError};

/// Failures in a row, and no record read in between, after which a source counts as down.
const MANY: u32 = 4;

/// Reads records by their keys. Where that fails, it is tried with each half of them, until
/// those are left alone that cannot be read: the others do not wait for them.
pub(crate) async fn fetch(
    source: &dyn Source,
    keys: &[Bytes],
) -> Vec<Result<Option<Bytes>, SourceError>> {
    let mut found: Vec<Option<Result<Option<Bytes>, SourceError>>> = vec![None; keys.len()];
    let mut parts: Vec<Range<usize>> = Vec::new();
    parts.push(0..keys.len());
    let mut failures = 0;
    while let Some(part) = parts.pop() {
        let some = keys.get(part.clone()).unwrap_or_default();
        match source.fetch(some).await {
            Ok(records) => {
                failures = 0;
                for (at, record) in part.zip(records) {
                    found[at] = Some(Ok(record));
                }
            }
            Err(error) => {
                failures += 1;
                if part.len() > 1 && !concerns_all(&error, failures) {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                    continue;
                }
                let rest = if concerns_all(&error, failures) {
                    std::mem::take(&mut parts)
                } else {
                    Vec::new()
                };
                for at in rest.into_iter().chain([part]).flatten() {
                    found[at] = Some(Err(error.clone()));
                }
            }
        }
    }
    // Every key is in one part, and every part is answered.
    found
        .into_iter()
        .map(|answer| answer.unwrap_or(Ok(None)))
        .collect()
}

/// Whether asking for other records is of no use.
fn concerns_all(error: &SourceError, failures: u32) -> bool {
    match error {
        SourceError::Auth { .. } | SourceError::Throttled { .. } => true,
        SourceError::Unavailable { retry_after, .. } => retry_after.is_some() || failures >= MANY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;
    use model::SliceRange;
    use ports::{LowWater, Page, ReadFrom, StreamSchema};

    use super::*;

    /// Has every record whose key is even; fails with some keys.
    #[derive(Debug)]
    struct Even {
        fails: Mutex<Vec<(usize, SourceError)>>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl Source for Even {
        async fn describe(&self) -> Result<StreamSchema, SourceError> {
            panic!("nobody asks")
        }
        async fn low_water(&self) -> Result<LowWater, SourceError> {
            panic!("nobody asks")
        }
        async fn slices(&self, _: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
            panic!("nobody asks")
        }
        async fn read(&self, _: ReadFrom<'_>, _: Option<&str>) -> Result<Page, SourceError> {
            panic!("nobody asks")
        }
        async fn fetch(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let number = |key: &Bytes| -> usize { String::from_utf8_lossy(key).parse().unwrap() };
            let fails = self.fails.lock().unwrap();
            for key in keys {
                if let Some((_, error)) = fails.iter().find(|(bad, _)| *bad == number(key)) {
                    return Err(error.clone());
                }
            }
            let record = |key: &Bytes| number(key).is_multiple_of(2).then(|| key.clone());
            Ok(keys.iter().map(record).collect())
        }
        fn can_fetch(&self) -> bool {
            true
        }
    }

    /// What became of a hundred keys, and in how many calls.
    async fn hundred(fails: Vec<(usize, SourceError)>) -> (Vec<&'static str>, usize) {
        let source = Even {
            fails: Mutex::new(fails),
            calls: AtomicUsize::new(0),
        };
        let keys: Vec<Bytes> = (0..100).map(|key| Bytes::from(key.to_string())).collect();
        let found = fetch(&source, &keys).await;
        let told = found
            .into_iter()
            .enumerate()
            .map(|(at, found)| match found {
                Ok(Some(record)) => {
                    assert_eq!(record, keys[at]);
                    "there"
                }
                Ok(None) => "gone",
                Err(_) => "failed",
            });
        (told.collect(), source.calls.load(Ordering::SeqCst))
    }

    fn invalid() -> SourceError {
        SourceError::Invalid { what: "no".into() }
    }

    fn unavailable() -> SourceError {
        SourceError::Unavailable {
            what: "no".into(),
            retry_after: None,
        }
    }

    #[tokio::test]
    async fn only_those_fail_that_cannot_be_read() {
        for bad in [vec![], vec![0], vec![99], vec![7, 8, 50], (0..20).collect()] {
            let fails = bad.iter().map(|at| (*at, invalid())).collect();
            let (told, calls) = hundred(fails).await;
            for (at, told) in told.iter().enumerate() {
                let expected = match at {
                    at if bad.contains(&at) => "failed",
                    at if at % 2 == 0 => "there",
                    _ => "gone",
                };
                assert_eq!(*told, expected, "{at} of {bad:?}");
            }
            assert!(calls <= 1 + bad.len() * 14, "{bad:?}: {calls}");
        }
    }

    #[tokio::test]
    async fn a_source_that_is_down_is_soon_left_alone() {
        let all = |error: fn() -> SourceError| (0..100).map(|at| (at, error())).collect();
        let (told, calls) = hundred(all(unavailable)).await;
        assert!(told.iter().all(|told| *told == "failed"));
        assert_eq!(calls, 4);
        let auth = || SourceError::Auth { what: "no".into() };
        let (told, calls) = hundred(all(auth)).await;
        assert!(told.iter().all(|told| *told == "failed"));
        assert_eq!(calls, 1);
        // One record that the source fails with is not the source.
        let (told, calls) = hundred(vec![(40, unavailable())]).await;
        assert_eq!(told.iter().filter(|told| **told == "failed").count(), 1);
        assert!(calls < 20, "{calls}");
    }
}
