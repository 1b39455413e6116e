//! Telling others of changes.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use standardwebhooks::Webhook;

/// Where changes are told, and how they are signed.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    subscriber: Mutex<Option<(String, String)>>,
    sent: AtomicU64,
}

impl Hooks {
    pub(crate) fn subscribe(&self, url: &str, secret: &str) -> Result<(), String> {
        Webhook::new(secret).map_err(|error| error.to_string())?;
        let mut subscriber = self
            .subscriber
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *subscriber = Some((url.to_owned(), secret.to_owned()));
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the CRM is an outside system with a clock of its own"
    )]
    pub(crate) async fn send(&self, event: &Value) -> Result<u16, String> {
        let subscriber = self
            .subscriber
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some((url, secret)) = subscriber else {
            return Err("nobody has subscribed".into());
        };
        let body = event.to_string();
        let now = jiff::Timestamp::now().as_second();
        let id = format!("msg_{:012}_{now}", self.sent.fetch_add(1, Ordering::SeqCst));
        let webhook = Webhook::new(&secret).map_err(|error| error.to_string())?;
        let signature = webhook
            .sign(&id, now, body.as_bytes())
            .map_err(|error| error.to_string())?;
        // The provider of cryptography may have been chosen before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let response = reqwest::Client::new()
            .post(&url)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        Ok(response.status().as_u16())
    }
}
