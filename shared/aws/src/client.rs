//! Clients of the services.

use std::time::Duration;

use aws_config::{
    AppName, BehaviorVersion, Region, SdkConfig,
    environment::EnvironmentVariableCredentialsProvider,
    retry::RetryConfig,
    timeout::{self, TimeoutConfig},
};
use aws_sdk_sqs::config::{SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_smithy_types::retry::ReconnectMode;
use runtime::env::{optional, parsed, required};

use crate::{
    S3, StackError,
    http::{NoHttp, http_client, machine_http_client},
};

/// Clients of all services, over one pool of connections.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Tables.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Blobs.
    pub s3: S3,
    /// Secrets.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Topics.
    pub sns: aws_sdk_sns::Client,
}

/// One attempt of a call. The services answer in milliseconds, and a connection that did not
/// survive while its function stood still should be found out soon.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Attempts of a call: one more than the SDK's own choice, for tables that are throttled.
const ATTEMPTS: u32 = 4;
/// A call of a function with all its attempts. It is over while the shortest function, which
/// answers webhooks, has time to say so.
const CALL: Duration = Duration::from_secs(8);

/// The variable in which Lambda tells a function its name.
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// Who makes the calls: the function by its name, or the command. It stands in the user agent of
/// every call, and so in `CloudTrail`.
fn caller() -> Option<AppName> {
    let name = optional(FUNCTION);
    // Names of functions have only characters that are allowed here.
    AppName::new(name.unwrap_or_else(|| "syncline".to_owned())).ok()
}

fn timeouts() -> timeout::TimeoutConfigBuilder {
    TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT)
}

pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        // Which connection a call took, our client of HTTP does not tell.
        .with_reconnect_mode(ReconnectMode::ReuseAllConnections)
}

/// Reads region, credentials, endpoint and proxy from where the AWS tools look for them, and makes
/// the clients.
pub async fn connect() -> Result<Clients, NoHttp> {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(machine_http_client()?)
        .timeout_config(timeouts().build())
        .retry_config(retries());
    let config = match caller() {
        Some(caller) => config.app_name(caller),
        None => config,
    };
    Ok(Clients::new(&config.load().await))
}

/// The same for a function, to which AWS tells all of it in its environment: nothing else is looked
/// at, nor linked.
pub(crate) fn connect_function() -> Result<Clients, StackError> {
    let credentials = EnvironmentVariableCredentialsProvider::new();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(required("AWS_REGION")?))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .use_fips(parsed("AWS_USE_FIPS_ENDPOINT", false)?)
        .use_dual_stack(parsed("AWS_USE_DUALSTACK_ENDPOINT", false)?)
        .http_client(http_client()?)
        .timeout_config(timeouts().operation_timeout(CALL).build())
        .retry_config(retries());
    config.set_app_name(caller());
    config.set_endpoint_url(optional("AWS_ENDPOINT_URL"));
    Ok(Clients::new(&config.build()))
}

/// The configuration for one service, which has an address of its own in a private network, or
/// where calls are looked at on their way.
fn of_service(config: &SdkConfig, service: &str) -> SdkConfig {
    match optional(&format!("AWS_ENDPOINT_URL_{service}")) {
        Some(url) => config.to_builder().endpoint_url(url).build(),
        None => config.clone(),
    }
}

impl Clients {
    /// The clients of a configuration.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        // What is called for comes whole within the time of an attempt.
        let calls = StalledStreamProtectionConfig::disabled();
        let calls = config.to_builder().stalled_stream_protection(calls).build();
        let to = |service| of_service(&calls, service);
        Self {
            sqs: aws_sdk_sqs::Client::new(&to("SQS")),
            dynamodb: aws_sdk_dynamodb::Client::new(&to("DYNAMODB")),
            s3: S3::new(&of_service(config, "S3")),
            secrets: aws_sdk_secretsmanager::Client::new(&to("SECRETS_MANAGER")),
            sns: aws_sdk_sns::Client::new(&to("SNS")),
        }
    }
}
