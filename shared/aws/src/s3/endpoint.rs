//! Where a bucket is.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

/// Ends of the names of hosts, by how regions begin. All others end as AWS's own.
const ENDS: [(&str, &str); 7] = [
    ("cn-", "amazonaws.com.cn"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("", "amazonaws.com"),
];

/// The endpoint that somebody has chosen for S3: in the code, in the settings of S3 in the
/// environment or the profile, or for all services.
pub(super) fn chosen(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let for_all = config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return for_all;
    }
    let settings = config.service_config().zip(key.ok());
    let of_s3 = settings.and_then(|(settings, key)| settings.load_config(key));
    of_s3.or(for_all)
}

/// The address of a bucket. Certificates are for one part before the service's name: a bucket with
/// dots in its name is in the path.
pub(super) fn of(config: &SdkConfig, bucket: &str) -> String {
    if let Some(url) = config.endpoint_url() {
        return format!("{}/{bucket}", url.trim_end_matches('/'));
    }
    let region = config.region().map_or("us-east-1", AsRef::as_ref);
    let mut ends = ENDS.iter();
    let end = ends.find_map(|(start, end)| region.starts_with(start).then_some(*end));
    let service = match config.use_fips() {
        Some(true) => "s3-fips",
        _ => "s3",
    };
    // The newer names of hosts have both kinds of addresses, and an end of their own only in China.
    let stack = match config.use_dual_stack() {
        Some(true) => ".dualstack",
        _ => "",
    };
    let host = format!("{service}{stack}.{region}.{}", end.unwrap_or_default());
    if bucket.contains('.') {
        format!("https://{host}/{bucket}")
    } else {
        format!("https://{bucket}.{host}")
    }
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    fn at(region: &'static str, bucket: &str, fips: bool, dual_stack: bool) -> String {
        let config = SdkConfig::builder().region(Region::from_static(region));
        let config = config.use_fips(fips).use_dual_stack(dual_stack);
        of(&config.build(), bucket)
    }

    /// As in "Amazon Simple Storage Service endpoints and quotas" of the AWS General Reference.
    #[test]
    fn a_bucket_is_where_aws_says() {
        for (found, expected) in [
            (
                at("eu-west-1", "b", false, false),
                "https://b.s3.eu-west-1.amazonaws.com",
            ),
            (
                at("us-east-1", "b", false, false),
                "https://b.s3.us-east-1.amazonaws.com",
            ),
            (
                at("us-gov-west-1", "b", true, false),
                "https://b.s3-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                at("eu-west-1", "b", false, true),
                "https://b.s3.dualstack.eu-west-1.amazonaws.com",
            ),
            (
                at("us-east-1", "b", true, true),
                "https://b.s3-fips.dualstack.us-east-1.amazonaws.com",
            ),
            (
                at("cn-north-1", "b", false, false),
                "https://b.s3.cn-north-1.amazonaws.com.cn",
            ),
            (
                at("us-iso-east-1", "b", false, false),
                "https://b.s3.us-iso-east-1.c2s.ic.gov",
            ),
            (
                at("us-isob-east-1", "b", false, false),
                "https://b.s3.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                at("eusc-de-east-1", "b", false, false),
                "https://b.s3.eusc-de-east-1.amazonaws.eu",
            ),
            (
                at("eu-west-1", "a.b", false, false),
                "https://s3.eu-west-1.amazonaws.com/a.b",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_endpoint_has_buckets_in_its_path() {
        let config = SdkConfig::builder().endpoint_url("http://127.0.0.1:1/");
        assert_eq!(of(&config.build(), "b"), "http://127.0.0.1:1/b");
    }
}
