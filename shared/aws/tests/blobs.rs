//! The suite of the blobs, on S3.

#![cfg(test)]

mod support;

use std::sync::Arc;

use aws::S3Blobs;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use ports::{Blobs, StoreError, SystemClock};

/// A bucket of its own, and the blobs below one prefix and below another.
async fn two() -> (S3Blobs, S3Blobs) {
    let s3 = support::clients().await.s3;
    let bucket = support::unique("blobs");
    s3.create_bucket().bucket(&bucket).send().await.unwrap();
    let below = |prefix: &str| {
        let clock = Arc::new(SystemClock);
        S3Blobs::new(s3.clone(), bucket.clone(), prefix.to_owned(), clock)
    };
    (below("one/"), below(""))
}

ports::blobs_contract!(async || two().await.0);

#[tokio::test]
async fn a_prefix_keeps_the_blobs_of_one_apart() {
    let (below, all) = two().await;
    below.put_new("a", Bytes::from_static(b"12")).await.unwrap();
    all.put_new("a", Bytes::from_static(b"3")).await.unwrap();
    assert_eq!(below.list("", None, 9).await.unwrap(), ["a"]);
    assert_eq!(all.list("", None, 9).await.unwrap(), ["a", "one/a"]);
    assert_eq!(below.measure("").await.unwrap(), (1, 2));
    below.delete(&["a".to_owned()]).await.unwrap();
    assert_eq!(all.list("", None, 9).await.unwrap(), ["a"]);
}

/// S3 lists and deletes at most 1000 in a call.
#[tokio::test]
async fn more_than_a_page_is_listed_measured_and_deleted() {
    let (blobs, _) = two().await;
    let names: Vec<String> = (0..1003).map(|i| format!("many/{i:04}")).collect();
    stream::iter(&names)
        .map(|name| blobs.put_new(name, Bytes::from_static(b"12")))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert_eq!(blobs.list("many/", None, 2000).await.unwrap(), names);
    let after = blobs.list("many/", Some(&names[1]), 1000).await.unwrap();
    assert_eq!(after, names[2..1002]);
    assert_eq!(blobs.measure("many/").await.unwrap(), (1003, 2006));
    blobs.delete(&names).await.unwrap();
    assert_eq!(blobs.measure("many/").await.unwrap(), (0, 0));
}

#[tokio::test]
async fn an_error_says_what_and_where() {
    let s3 = support::clients().await.s3;
    let clock = Arc::new(SystemClock);
    let nowhere = S3Blobs::new(s3, "no-such-bucket".into(), "a/".into(), clock);
    let failed = nowhere.put_new("b", Bytes::new()).await.unwrap_err();
    assert!(matches!(failed, StoreError::Unavailable { .. }));
    let text = failed.to_string();
    assert!(
        text.contains("s3://no-such-bucket/a/b") && text.contains("NoSuchBucket"),
        "{text}"
    );
    assert!(nowhere.get("b").await.is_err(), "no bucket is not no blob");
}
