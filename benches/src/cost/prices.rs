//! The prices, all of them, and what they were taken from: us-east-1, US dollars, arm64, without
//! free tiers and discounts. Look them up again before you rely on them.

/// A price.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Price {
    /// Dollars.
    pub(crate) dollars: f64,
    /// For so many.
    pub(crate) per: f64,
    /// Of these.
    pub(crate) of: &'static str,
    /// The page that has it.
    pub(crate) page: &'static str,
    /// When it was there.
    pub(crate) seen: &'static str,
}

const fn price(
    dollars: f64,
    per: f64,
    of: &'static str,
    page: &'static str,
    seen: &'static str,
) -> Price {
    Price {
        dollars,
        per,
        of,
        page,
        seen,
    }
}

const MILLION: f64 = 1e6;

pub(crate) const LAMBDA_REQUESTS: Price = price(
    0.20,
    MILLION,
    "Lambda requests",
    "aws.amazon.com/lambda/pricing",
    "2026-09-19",
);
pub(crate) const LAMBDA_DURATION: Price = price(
    0.000_013_333_4,
    1.0,
    "Lambda GB-s",
    "aws.amazon.com/lambda/pricing",
    "2026-09-19",
);
pub(crate) const SQS: Price = price(
    0.40,
    MILLION,
    "SQS requests of 64 KiB",
    "aws.amazon.com/sqs/pricing",
    "2026-03-14",
);
pub(crate) const SQS_FAIR: Price = price(
    0.10,
    MILLION,
    "SQS requests with a group",
    "aws.amazon.com/sqs/pricing",
    "2026-03-14",
);
pub(crate) const WRITES: Price = price(
    0.625,
    MILLION,
    "DynamoDB write units",
    "aws.amazon.com/dynamodb/pricing/on-demand",
    "2025-07-21",
);
pub(crate) const READS: Price = price(
    0.125,
    MILLION,
    "DynamoDB read units",
    "aws.amazon.com/dynamodb/pricing/on-demand",
    "2025-07-21",
);
pub(crate) const S3_PUTS: Price = price(
    5.0,
    MILLION,
    "S3 puts and lists",
    "aws.amazon.com/s3/pricing",
    "2026-03-14",
);
pub(crate) const S3_GETS: Price = price(
    0.40,
    MILLION,
    "S3 gets",
    "aws.amazon.com/s3/pricing",
    "2026-03-14",
);
pub(crate) const SECRETS: Price = price(
    5.0,
    MILLION,
    "Secrets Manager calls",
    "aws.amazon.com/secrets-manager/pricing",
    "2026-03-14",
);
pub(crate) const SECRET: Price = price(
    0.40,
    1.0,
    "secrets, a month",
    "aws.amazon.com/secrets-manager/pricing",
    "2026-03-14",
);
pub(crate) const KMS: Price = price(
    3.0,
    MILLION,
    "KMS requests",
    "aws.amazon.com/kms/pricing",
    "2026-03-14",
);
pub(crate) const KEY: Price = price(
    1.0,
    1.0,
    "KMS keys, a month",
    "aws.amazon.com/kms/pricing",
    "2026-03-14",
);
pub(crate) const LOGS: Price = price(
    0.50,
    1e9,
    "bytes of logs",
    "aws.amazon.com/cloudwatch/pricing",
    "2026-02-15",
);
pub(crate) const METRIC: Price = price(
    0.30,
    1.0,
    "metrics, a month",
    "aws.amazon.com/cloudwatch/pricing",
    "2026-02-15",
);
pub(crate) const ALARM: Price = price(
    0.10,
    1.0,
    "metrics of alarms, a month",
    "aws.amazon.com/cloudwatch/pricing",
    "2026-02-15",
);
pub(crate) const DASHBOARD: Price = price(
    3.0,
    1.0,
    "dashboards, a month",
    "aws.amazon.com/cloudwatch/pricing",
    "2026-02-15",
);
pub(crate) const TICKS: Price = price(
    1.0,
    MILLION,
    "Scheduler invocations",
    "aws.amazon.com/eventbridge/pricing",
    "2026-03-13",
);

/// All of them.
pub(crate) const ALL: [Price; 17] = [
    LAMBDA_REQUESTS,
    LAMBDA_DURATION,
    SQS,
    SQS_FAIR,
    WRITES,
    READS,
    S3_PUTS,
    S3_GETS,
    SECRETS,
    SECRET,
    KMS,
    KEY,
    LOGS,
    METRIC,
    ALARM,
    DASHBOARD,
    TICKS,
];

impl Price {
    /// Dollars for so many.
    pub(crate) fn cost(&self, count: f64) -> f64 {
        count * self.dollars / self.per
    }
}
