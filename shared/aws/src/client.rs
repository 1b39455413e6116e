//! Clients of the services.

use std::time::Duration;

use aws_config::{AppName, BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};

/// Clients of all services, over one pool of connections.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Tables.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Blobs.
    pub s3: aws_sdk_s3::Client,
    /// Secrets.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Topics.
    pub sns: aws_sdk_sns::Client,
}

/// The pool of connections that all clients share.
///
/// Left to itself it makes one more pool for each client, to see whether that can be done, and each
/// parses all certificates of the system once more.
#[derive(Debug)]
struct Pool(SharedHttpClient);

impl HttpClient for Pool {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }
}

/// A connection that was frozen with its function may be dead: find out soon.
const CONNECT: Duration = Duration::from_secs(1);
/// One attempt of a call.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Attempts of a call.
const ATTEMPTS: u32 = 4;

/// The variable in which Lambda tells a function its name.
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// Who makes the calls: the function by its name, or the command. It stands in the user agent of
/// every call, and so in CloudTrail.
fn caller() -> Option<AppName> {
    let name = runtime::env::optional(FUNCTION);
    // Names of functions have only characters that are allowed here.
    AppName::new(name.unwrap_or_else(|| "syncline".to_owned())).ok()
}

/// Reads region, credentials and endpoint from where the AWS tools look for them, and makes the
/// clients.
pub async fn connect() -> Clients {
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .build();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Pool(http))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    let config = match caller() {
        Some(caller) => config.app_name(caller),
        None => config,
    };
    Clients::new(&config.load().await)
}

impl Clients {
    /// The clients of a configuration.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        // Only AWS itself has a host name for every bucket.
        let elsewhere = config.endpoint_url().is_some();
        let s3 = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(elsewhere)
            .build();
        Self {
            sqs: aws_sdk_sqs::Client::new(config),
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            secrets: aws_sdk_secretsmanager::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
        }
    }
}
