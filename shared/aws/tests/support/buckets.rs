//! Buckets, as the template makes them.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// Creates a bucket on the emulator.
pub(crate) async fn create(name: &str) {
    let endpoint = runtime::env::required("SYNCLINE_TEST_AWS").expect("run tests/run");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let put = http::Request::put(format!("{endpoint}/{name}"));
    let put = put.body(Full::<Bytes>::default()).unwrap();
    let answer = client.request(put).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}
