//! What every blob storage has to do.

use bytes::Bytes;

use crate::Blobs;

/// A blob comes out as it went in, and only the first one of a name stays.
pub async fn keeps_the_first<B: Blobs>(blobs: &B) {
    let bytes = Bytes::from_static(&[0, 255, 10]);
    assert!(
        blobs
            .put_new("parked/a/1", bytes.clone())
            .await
            .expect("put")
    );
    assert!(
        !blobs
            .put_new("parked/a/1", Bytes::from_static(b"other"))
            .await
            .expect("put")
    );
    assert_eq!(blobs.get("parked/a/1").await.expect("get"), Some(bytes));
    assert_eq!(blobs.get("parked/a/2").await.expect("get"), None);
}

/// A deleted blob is gone; deleting it again is no error.
pub async fn deletes<B: Blobs>(blobs: &B) {
    blobs
        .put_new("a", Bytes::from_static(b"1"))
        .await
        .expect("put");
    let names = ["a".to_owned(), "never".to_owned()];
    blobs.delete(&names).await.expect("deleted");
    blobs.delete(&names).await.expect("deleted");
    assert_eq!(blobs.get("a").await.expect("get"), None);
    assert!(
        blobs
            .put_new("a", Bytes::from_static(b"2"))
            .await
            .expect("put")
    );
}

/// Listing walks the names under a prefix in order, page by page.
pub async fn lists_in_order<B: Blobs>(blobs: &B) {
    for name in ["parked/a/2", "parked/a/10", "parked/b/1", "parked/a_/3"] {
        blobs.put_new(name, Bytes::from(name)).await.expect("put");
    }
    let first = blobs.list("parked/a/", None, 1).await.expect("list");
    assert_eq!(first, ["parked/a/10"]);
    let second = blobs
        .list("parked/a/", Some("parked/a/10"), 9)
        .await
        .expect("list");
    assert_eq!(second, ["parked/a/2"]);
    assert_eq!(blobs.measure("parked/a/").await.expect("measured"), (2, 21));
    assert_eq!(blobs.measure("none").await.expect("measured"), (0, 0));
}

/// Tests of the contract of [`Blobs`].
#[macro_export]
macro_rules! blobs_contract {
    ($make:expr) => {
        $crate::contract!(blobs, $make, [keeps_the_first, deletes, lists_in_order]);
    };
}
