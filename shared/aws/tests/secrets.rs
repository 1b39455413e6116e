//! Secrets, on Secrets Manager.

#![cfg(test)]

mod support;

use std::{sync::Arc, time::Duration};

use aws::SecretsManager;
use aws_sdk_secretsmanager::primitives::Blob;
use ports::{Clock, SecretError, Secrets, testing::ManualClock};

#[tokio::test]
async fn a_secret_is_found_and_a_rotated_one_works_within_a_minute() {
    let client = support::clients().await.secrets;
    let prefix = format!("{}/", support::unique("secrets"));
    let clock = Arc::new(ManualClock::default());
    let port = Arc::clone(&clock) as Arc<dyn Clock>;
    let secrets = SecretsManager::new(client.clone(), prefix.clone(), port);

    let missing = secrets.get("hook").await.unwrap_err();
    assert!(matches!(missing, SecretError::NotFound { .. }), "{missing}");
    clock.advance(Duration::from_millis(1));

    let id = format!("{prefix}hook");
    let create = client.create_secret().name(&id).secret_string("first");
    create.send().await.unwrap();
    assert_eq!(secrets.get("hook").await.unwrap().expose(), "first");
    let rotate = client.put_secret_value().secret_id(&id);
    rotate.secret_string("second").send().await.unwrap();
    clock.advance(Duration::from_mins(1));
    assert_eq!(secrets.get("hook").await.unwrap().expose(), "second");

    let bytes = Blob::new([0, 1]);
    let create = client.create_secret().name(format!("{prefix}bytes"));
    create.secret_binary(bytes).send().await.unwrap();
    let text = secrets.get("bytes").await.unwrap_err().to_string();
    assert!(text.contains("binary"), "{text}");
}
