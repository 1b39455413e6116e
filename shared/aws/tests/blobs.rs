//! The suite of the blobs, on S3: on the emulator of all services, and on a server of S3 that
//! checks signatures and digests.

#![cfg(test)]

#[path = "support/buckets.rs"]
mod buckets;
mod support;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use aws::{S3, S3Blobs};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use ports::{Blobs, StoreError, SystemClock};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};

/// A bucket of its own, and the blobs below one prefix and below another.
async fn two() -> (S3Blobs, S3Blobs) {
    let s3 = support::clients().await.s3;
    let bucket = support::unique("blobs");
    buckets::create(&bucket).await;
    (below(&s3, &bucket, "one/"), below(&s3, &bucket, ""))
}

fn below(s3: &S3, bucket: &str, prefix: &str) -> S3Blobs {
    S3Blobs::new(
        s3,
        bucket.to_owned(),
        prefix.to_owned(),
        Arc::new(SystemClock),
    )
}

ports::blobs_contract!(async || two().await.0);

/// The same on [s3s-fs](https://docs.rs/s3s-fs), which lets only those in whose signatures are right.
mod signed {
    use super::*;

    ports::blobs_contract!(async || {
        let served = served().await;
        below(&served.as_whoever_has("a secret"), "a-bucket", "one/")
    });
}

/// A server of S3 with a bucket, in a folder that stays until the tests have ended.
struct Served {
    address: SocketAddr,
    folder: PathBuf,
}

async fn served() -> Served {
    let folder = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir(folder.join("a-bucket")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, folder.clone()));
    Served { address, folder }
}

async fn serve(listener: tokio::net::TcpListener, folder: PathBuf) {
    let files = s3s_fs::FileSystem::new(folder).unwrap();
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single("somebody", "a secret"));
    let service = service.build();
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(connection);
    }
}

impl Served {
    fn as_whoever_has(&self, secret: &str) -> S3 {
        let credentials = Credentials::new("somebody", secret, None, None, "tests");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws::http_client().unwrap())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .region(Region::from_static("us-east-1"))
            .endpoint_url(format!("http://{}", self.address));
        S3::new(&config.build())
    }
}

#[tokio::test]
async fn names_that_need_care_are_signed_as_they_are_sent() {
    let blobs = below(&served().await.as_whoever_has("a secret"), "a-bucket", "");
    for name in [
        "a/b c",
        "a/b+c",
        "a/b%20c",
        "a/ä=&?#",
        "a/it's(*)!~",
        "a/<&\">",
    ] {
        let body = Bytes::from(name.to_owned());
        assert!(blobs.put_new(name, body.clone()).await.unwrap(), "{name}");
        assert_eq!(blobs.get(name).await.unwrap(), Some(body), "{name}");
        assert_eq!(blobs.list(name, None, 9).await.unwrap(), [name]);
        blobs.delete(&[name.to_owned()]).await.unwrap();
        assert_eq!(blobs.get(name).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn who_has_another_secret_is_told_so() {
    let blobs = below(&served().await.as_whoever_has("another"), "a-bucket", "");
    let refused = blobs.put_new("a", Bytes::new()).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(blobs.get("a").await.is_err(), "not allowed is not absent");
}

#[tokio::test]
async fn a_blob_that_is_not_what_was_stored_is_an_error() {
    let served = served().await;
    let blobs = below(&served.as_whoever_has("a secret"), "a-bucket", "");
    blobs.put_new("a", Bytes::from_static(b"1")).await.unwrap();
    std::fs::write(served.folder.join("a-bucket/a"), b"2").unwrap();
    let text = blobs.get("a").await.unwrap_err().to_string();
    assert!(
        text.contains("s3://a-bucket/a") && text.contains("not what was stored"),
        "{text}"
    );
}

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
    let nowhere = below(&s3, "no-such-bucket", "a/");
    let failed = nowhere.put_new("b", Bytes::new()).await.unwrap_err();
    assert!(matches!(failed, StoreError::Unavailable { .. }));
    let text = failed.to_string();
    assert!(
        text.contains("s3://no-such-bucket/a/b") && text.contains("NoSuchBucket"),
        "{text}"
    );
    assert!(nowhere.get("b").await.is_err(), "no bucket is not no blob");
}
