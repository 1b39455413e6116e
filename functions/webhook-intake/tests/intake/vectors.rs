//! Requests whose signatures were made by others: published by the vendors, or computed with
//! Python's `hmac` and `cryptography`.

use jiff::Timestamp;

use crate::support::{Intake, NOW, Request, post, refused, taken};

/// A body that GitHub would send, and one that any of the declared schemes signs.
pub(crate) const RECORD: &str = r#"{"id":"a1","name":"Ålpine","modified":"2026-01-01T00:00:00Z"}"#;

pub(crate) type Headers<'h> = &'h [(&'h str, &'h str)];

/// One signed request.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) scheme: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
    /// Unix time of signing, where the scheme signs it.
    pub(crate) signed: Option<i64>,
}

pub(crate) const STANDARD: &str = "scheme: standard";
const SLACK: &str = "scheme: hmac, hmac: { header: X-Slack-Signature, prefix: v0=, signed: \"v0:{timestamp}:{body}\", timestamp: X-Slack-Request-Timestamp }";

pub(crate) const VECTORS: &[Vector] = &[
    Vector {
        name: "SW1, published",
        scheme: STANDARD,
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            (
                "webhook-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        body: r#"{"test": 2432232314}"#,
        signed: Some(1_614_265_330),
    },
    Vector {
        name: "SW1 with the older names of its headers",
        scheme: STANDARD,
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: &[
            ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("svix-timestamp", "1614265330"),
            (
                "svix-signature",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ],
        body: r#"{"test": 2432232314}"#,
        signed: Some(1_614_265_330),
    },
    Vector {
        name: "SW2",
        scheme: STANDARD,
        secret: "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        headers: &[
            ("webhook-id", "msg_2Xyz0001"),
            ("webhook-timestamp", "1767225600"),
            (
                "webhook-signature",
                "v1,D0vQy//aweiZfzNAqe/QBuIAVz1q3JJ2y5nSi69FEl0=",
            ),
        ],
        body: r#"{"type":"account.updated","data":{"id":"a1"}}"#,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "SW2 with a public key",
        scheme: STANDARD,
        secret: "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        headers: &[
            ("webhook-id", "msg_2Xyz0001"),
            ("webhook-timestamp", "1767225600"),
            (
                "webhook-signature",
                "v1a,tVpIdVF2vxlv2/UKAiJfUm+dz1MOq7hcGU/oq7amK9yQA+kbJUXqctYR0ksbb8tPtJW2LXYtI5/lI0K15YX1Dw==",
            ),
        ],
        body: r#"{"type":"account.updated","data":{"id":"a1"}}"#,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "GH1, published",
        scheme: "scheme: github",
        secret: "It's a Secret to Everybody",
        headers: &[(
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )],
        body: "Hello, World!",
        signed: None,
    },
    Vector {
        name: "GitHub, a record",
        scheme: "scheme: github",
        secret: "It's a Secret to Everybody",
        headers: &[(
            "x-hub-signature-256",
            "sha256=26a2b045d784d46a4ec591cf77e8a2ba833bbe323c33a74a2f4580b42ed19f1a",
        )],
        body: RECORD,
        signed: None,
    },
    Vector {
        name: "ST1",
        scheme: "scheme: stripe",
        secret: "whsec_test_stripe_secret",
        headers: &[(
            "stripe-signature",
            "t=1767225600,v1=9241a2e61e4f2ecb578eb5c3df3cb800c0064e7bb8907071ab05cad65fd2c67a",
        )],
        body: r#"{"id":"evt_test_1","object":"event","type":"customer.updated"}"#,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "SH1",
        scheme: "scheme: shopify",
        secret: "hush",
        headers: &[(
            "x-shopify-hmac-sha256",
            "D0UMXmhjwBRi4y66TmhJrDlhQABD7zI2fm3p6/QLMo8=",
        )],
        body: r#"{"id":820982911946154508,"email":"jon@example.com"}"#,
        signed: None,
    },
    Vector {
        name: "Slack, published",
        scheme: SLACK,
        secret: "8f742231b10e8888abcd99yyyzzz85a5",
        headers: &[
            (
                "x-slack-signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
            ("x-slack-request-timestamp", "1531420618"),
        ],
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        signed: Some(1_531_420_618),
    },
    Vector {
        name: "Slack, a record",
        scheme: SLACK,
        secret: "slack-secret",
        headers: &[
            (
                "x-slack-signature",
                "v0=dae861fb7e485bb939272090fa28c0419e28e9937788b33ef3fd052c459f3ec4",
            ),
            ("x-slack-request-timestamp", "1767225600"),
        ],
        body: RECORD,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "Zendesk: base64, an RFC 3339 time",
        scheme: "scheme: hmac, hmac: { header: X-Zendesk-Webhook-Signature, encoding: base64, signed: \"{timestamp}{body}\", timestamp: X-Zendesk-Webhook-Signature-Timestamp }",
        secret: "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==",
        headers: &[
            (
                "x-zendesk-webhook-signature",
                "IeR/FAVDxmIdGW2CTQxuZERrEoLDQ2MzlsfMMsLu2XA=",
            ),
            (
                "x-zendesk-webhook-signature-timestamp",
                "2026-01-01T00:00:00Z",
            ),
        ],
        body: RECORD,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "SHA-512, milliseconds, an identifier",
        scheme: "scheme: hmac, hmac: { header: X-Sign, algorithm: sha512, signed: \"{id}.{timestamp}.{body}\", timestamp: X-Time, id: X-Delivery }",
        secret: "millis-secret",
        headers: &[
            (
                "x-sign",
                "cbfb2bd3cdf01c4a3570ab082acef0abe3155e81047dfaec7883c41cd4664da5bd5d39b9187d5f3cd7b73e218f8d459864f582d4f0cdb40ae6b7dde8d807b1a5",
            ),
            ("x-time", "1767225600000"),
            ("x-delivery", "d-1"),
        ],
        body: RECORD,
        signed: Some(1_767_225_600),
    },
    Vector {
        name: "SHA-384, base64",
        scheme: "scheme: hmac, hmac: { header: X-Sign, algorithm: sha384, encoding: base64 }",
        secret: "s384",
        headers: &[(
            "x-sign",
            "uzl12aR8KzdhLDJnaLoXbKIprDyr5gDp8Supg1j971UEZUN7bv0GF8CMHCU7v/2p",
        )],
        body: RECORD,
        signed: None,
    },
    Vector {
        name: "SHA-1",
        scheme: "scheme: hmac, hmac: { header: X-Hub-Signature, prefix: sha1=, algorithm: sha1 }",
        secret: "s1",
        headers: &[(
            "x-hub-signature",
            "sha1=c75aa764e50a153a567aa2f4fcba7d41697796e6",
        )],
        body: RECORD,
        signed: None,
    },
    Vector {
        name: "PagerDuty: several signatures",
        scheme: "scheme: hmac, hmac: { header: X-PagerDuty-Signature, prefix: v1= }",
        secret: "pd-new",
        headers: &[(
            "x-pagerduty-signature",
            "v1=bf2f234c11588222e49b39441cb55952d7e3ab448351c68e8866eadd8268edd2,v1=f1d2000dca8c2e4ebcaa2fc48748f79c01016e4a139e54e391af29cf82cf839f",
        )],
        body: RECORD,
        signed: None,
    },
    Vector {
        name: "Teams: a prefix with a blank",
        scheme: "scheme: hmac, hmac: { header: Authorization, prefix: \"HMAC \", encoding: base64 }",
        secret: "teams",
        headers: &[(
            "authorization",
            "HMAC extAYvFA0gc76T0EAAGzfLbX144g1MvIueUp2KCQsy0=",
        )],
        body: RECORD,
        signed: None,
    },
    Vector {
        name: "a fixed value in a header",
        scheme: "scheme: header, header: X-Api-Key",
        secret: "s3cret",
        headers: &[("x-api-key", "s3cret")],
        body: RECORD,
        signed: None,
    },
];

impl Vector {
    pub(crate) fn webhook(&self, secrets: &str) -> String {
        format!("{{ {}, secret: {secrets} }}", self.scheme)
    }

    /// An intake that knows the secret, at the time of signing.
    pub(crate) fn intake(&self) -> Intake {
        self.at(0)
    }

    /// An intake whose clock is so many seconds after the time of signing.
    pub(crate) fn at(&self, seconds: i64) -> Intake {
        let intake = Intake::with_secret(&self.webhook("secret://s"), self.secret);
        self.set_clock(&intake, seconds);
        intake
    }

    pub(crate) fn set_clock(&self, intake: &Intake, seconds: i64) {
        let time = Timestamp::from_second(self.signed.unwrap_or(NOW) + seconds);
        intake.clock.set(time.unwrap());
    }

    pub(crate) fn request(&self) -> Request {
        post("map0", self.body).headers(self.headers)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.body.starts_with('{')
    }

    /// What a genuine request gets: what is no JSON is refused only after it was verified.
    pub(crate) fn welcome(&self) -> (i64, String) {
        if self.is_json() {
            taken()
        } else {
            refused(400, "malformed-json")
        }
    }

    /// Whether the body is what was signed.
    pub(crate) fn signs_body(&self) -> bool {
        !self.scheme.starts_with("scheme: header")
    }
}
