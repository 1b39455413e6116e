//! How calls are made: by the SDK.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_runtime::{
    auth::{
        SigV4OperationSigningConfig, SigningOptions,
        sigv4::{SCHEME_ID, SigV4AuthScheme},
    },
    invocation_id::InvocationIdInterceptor,
    request_info::RequestInfoInterceptor,
    retries::classifiers::{AwsErrorCodeClassifier, TRANSIENT_ERRORS},
    service_clock_skew::{ServiceClockSkewClassifier, ServiceClockSkewInterceptor},
    user_agent::{ApiMetadata, UserAgentInterceptor},
};
use aws_smithy_runtime::client::{
    identity::IdentityCache,
    orchestrator::operation::Operation,
    retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier},
};
use aws_smithy_runtime_api::client::{
    auth::{AuthSchemeOptionResolverParams, static_resolver::StaticAuthSchemeOptionResolver},
    runtime_components::RuntimeComponentsBuilder,
    runtime_plugin::StaticRuntimePlugin,
};
use aws_smithy_types::{
    config_bag::Layer, error::ErrorMetadata, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_types::{SigningName, region::SigningRegion};

use super::{
    call::{Answer, Call},
    endpoint,
};

/// One attempt of a call, with all that is sent and received.
const ATTEMPT: Duration = Duration::from_secs(10);
/// A call with all its attempts. One that begins at the deadline of the shortest function that
/// reads blobs, apply, is over before its end.
const CALL: Duration = Duration::from_secs(12);

/// Calls of a bucket.
pub(super) type Calls = Operation<Call, Answer, ErrorMetadata>;

pub(super) fn operation(config: &SdkConfig, bucket: &str) -> Calls {
    let timeouts = config.timeout_config().cloned();
    let timeouts = timeouts
        .unwrap_or_else(TimeoutConfig::disabled)
        .to_builder();
    let timeouts = timeouts.operation_timeout(CALL);
    let timeouts = timeouts.operation_attempt_timeout(ATTEMPT).build();
    let retries = config.retry_config().cloned();
    let transient = [TRANSIENT_ERRORS, &["InternalError"]].concat();
    let codes = AwsErrorCodeClassifier::<ErrorMetadata>::builder().transient_errors(transient);
    let mut operation = Operation::builder()
        .service_name("S3")
        .operation_name("Call")
        .endpoint_url(&endpoint::of(config, bucket))
        .standard_retry(&retries.unwrap_or_else(RetryConfig::standard))
        .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
        .retry_classifier(codes.build())
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(ServiceClockSkewClassifier::<ErrorMetadata>::new())
        .timeout_config(timeouts)
        .interceptor(ServiceClockSkewInterceptor::new())
        .interceptor(RequestInfoInterceptor::new())
        .interceptor(UserAgentInterceptor::new())
        .interceptor(InvocationIdInterceptor::new())
        .runtime_plugin(signed(config))
        .serializer(Call::into_request)
        .deserializer(Answer::read);
    if let Some(version) = config.behavior_version() {
        operation = operation.behavior_version(version);
    }
    if let Some(client) = config.http_client() {
        operation = operation.http_client(client);
    }
    if let Some(sleep) = config.sleep_impl() {
        operation = operation.sleep_impl(sleep);
    }
    if let Some(time) = config.time_source() {
        operation = operation.time_source(time);
    }
    operation.build()
}

/// Whoever calls and how that is proven: the body is a part of what is signed, keys are encoded
/// once, and a path stands as it is. (One with a part `.` or `..` would not: no key has one.)
fn signed(config: &SdkConfig) -> StaticRuntimePlugin {
    let mut options = SigningOptions::default();
    options.double_uri_encode = false;
    options.content_sha256_header = true;
    options.normalize_uri_path = false;
    let signing = SigV4OperationSigningConfig {
        signing_options: options,
        name: Some(SigningName::from_static("s3")),
        region: config.region().cloned().map(SigningRegion::from),
        ..Default::default()
    };
    let mut layer = Layer::new("S3");
    layer.store_put(signing);
    layer.store_put(ApiMetadata::new("s3", env!("CARGO_PKG_VERSION")));
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    if let Some(name) = config.app_name() {
        layer.store_put(name.clone());
    }
    let schemes = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
    let cache = config.identity_cache();
    let mut parts = RuntimeComponentsBuilder::new("S3");
    parts.set_auth_scheme_option_resolver(Some(schemes));
    parts.push_auth_scheme(SigV4AuthScheme::new());
    parts.set_identity_cache(Some(cache.unwrap_or_else(|| IdentityCache::lazy().build())));
    if let Some(credentials) = config.credentials_provider() {
        parts.set_identity_resolver(SCHEME_ID, credentials);
    }
    StaticRuntimePlugin::new()
        .with_config(layer.freeze())
        .with_runtime_components(parts)
}
