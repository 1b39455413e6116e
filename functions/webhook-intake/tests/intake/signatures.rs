//! What a signature proves, and what it does not.

use std::time::Duration;

use crate::{
    support::{Intake, Request, post, refused, taken},
    vectors::{Headers, RECORD, STANDARD, VECTORS},
};

fn mismatch() -> (i64, String) {
    refused(401, "signature-mismatch")
}

#[tokio::test]
async fn what_others_signed_is_taken() {
    for vector in VECTORS {
        let intake = vector.intake();
        let said = intake.says(&vector.request()).await;
        assert_eq!(said, vector.welcome(), "{}", vector.name);
        let queued = intake.queue.changes();
        if vector.is_json() {
            assert_eq!(queued.len(), 1, "{}", vector.name);
            assert_eq!(queued[0].2, vector.body, "{}", vector.name);
        } else {
            assert_eq!(queued, [], "{}", vector.name);
        }
    }
}

#[tokio::test]
async fn the_transport_changes_nothing() {
    for vector in VECTORS {
        let encoded = Request {
            base64: true,
            ..vector.request()
        };
        assert_eq!(
            vector.intake().says(&encoded).await,
            vector.welcome(),
            "{}",
            vector.name
        );
        for case in [str::to_ascii_uppercase, title] {
            let mut request = vector.request();
            for (name, _) in &mut request.headers {
                *name = case(name);
            }
            assert_eq!(
                vector.intake().says(&request).await,
                vector.welcome(),
                "{}",
                vector.name
            );
        }
    }
}

fn title(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

#[tokio::test]
async fn one_other_bit_of_the_body_and_it_is_refused() {
    for vector in VECTORS.iter().filter(|vector| vector.signs_body()) {
        let intake = vector.intake();
        for at in 0..vector.body.len() {
            let mut body = vector.body.as_bytes().to_vec();
            body[at] ^= 1 << (at % 8);
            let request = vector.request().with_body(&body);
            assert_eq!(
                intake.says(&request).await,
                mismatch(),
                "{}: byte {at}",
                vector.name
            );
        }
        assert_eq!(intake.queue.sent(), []);
    }
}

#[tokio::test]
async fn white_space_is_a_part_of_what_is_signed() {
    for vector in VECTORS.iter().filter(|vector| vector.signs_body()) {
        let intake = vector.intake();
        let body = vector.body;
        let changed = [
            format!("{body}\n"),
            format!(" {body}"),
            format!("\u{feff}{body}"),
            body.replacen(['{', ','], "{ ", 1),
            body.replacen(':', ": ", 1),
            body.replace(' ', ""),
            String::new(),
        ];
        for other in changed.iter().filter(|other| *other != body) {
            let request = vector.request().with_body(other.as_bytes());
            assert_eq!(
                intake.says(&request).await,
                mismatch(),
                "{}: {other:?}",
                vector.name
            );
        }
        assert_eq!(intake.queue.sent(), []);
    }
}

#[tokio::test]
async fn another_secret_is_refused() {
    for vector in VECTORS {
        let others = [
            "another secret",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY",
            "whpk_Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=",
            &vector.secret[1..],
        ];
        for other in others {
            let intake = Intake::with_secret(&vector.webhook("secret://s"), other);
            vector.set_clock(&intake, 0);
            let (status, code) = intake.says(&vector.request()).await;
            // What is no secret of its scheme is a mistake of this deployment, not of the sender.
            let useless = vector.scheme == STANDARD && !other.starts_with("wh");
            let expected = if useless { 503 } else { 401 };
            assert_eq!(status, expected, "{}: {other}: {code}", vector.name);
            assert_eq!(intake.queue.sent(), []);
        }
    }
}

#[tokio::test]
async fn no_header_may_be_missing_or_empty() {
    for vector in VECTORS {
        for (name, _) in vector.headers {
            let request = vector.request().without(name);
            let answer = vector.intake().answer(&request).await;
            let said = (answer.status, answer.code);
            assert_eq!(
                said,
                refused(401, "signature-missing"),
                "{}: {name}",
                vector.name
            );
            let empty = request.header(name, "");
            assert_eq!(
                vector.intake().says(&empty).await.0,
                401,
                "{}: {name}",
                vector.name
            );
        }
    }
}

#[tokio::test]
async fn a_signed_time_is_good_for_the_tolerance_and_not_a_second_more() {
    for vector in VECTORS {
        for (seconds, inside) in [
            (-300, true),
            (300, true),
            (-301, false),
            (301, false),
            (86_400 * 365, false),
        ] {
            let intake = vector.at(seconds);
            // A part of a second is not counted.
            intake.clock.advance(Duration::from_millis(900));
            let said = intake.says(&vector.request()).await;
            if inside || vector.signed.is_none() {
                assert_eq!(said, vector.welcome(), "{}: {seconds}", vector.name);
            } else {
                let expected = refused(401, "timestamp-out-of-tolerance");
                assert_eq!(said, expected, "{}: {seconds}", vector.name);
            }
        }
    }
}

#[tokio::test]
async fn the_tolerance_is_the_maps() {
    for vector in VECTORS.iter().filter(|vector| vector.signed.is_some()) {
        let webhook = vector.webhook("secret://s, tolerance: 10s");
        for (seconds, status) in [(10, vector.welcome().0), (11, 401), (-11, 401)] {
            let intake = Intake::with_secret(&webhook, vector.secret);
            vector.set_clock(&intake, seconds);
            let said = intake.says(&vector.request()).await;
            assert_eq!(said.0, status, "{}: {seconds}", vector.name);
        }
    }
}

#[tokio::test]
async fn another_time_than_the_signed_one_is_refused() {
    // One second later: still inside the tolerance, but not what was signed.
    const LATER: [(&str, &str); 4] = [
        ("1767225600", "1767225601"),
        ("1614265330", "1614265331"),
        ("1531420618", "1531420619"),
        ("00:00:00Z", "00:00:01Z"),
    ];
    for vector in VECTORS.iter().filter(|vector| vector.signed.is_some()) {
        let intake = vector.intake();
        let mut changed = 0;
        for (name, value) in vector.headers {
            for (old, new) in LATER {
                if value.contains(old) {
                    let request = vector.request().without(name);
                    let request = request.header(name, &value.replace(old, new));
                    assert_eq!(intake.says(&request).await, mismatch(), "{}", vector.name);
                    changed += 1;
                }
            }
        }
        assert_eq!(changed, 1, "{}", vector.name);
    }
}

/// Another secret of the same form.
fn other_than(secret: &str) -> &'static str {
    if secret.starts_with("wh") {
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY"
    } else {
        "the other one"
    }
}

#[tokio::test]
async fn a_changed_secret_is_found_by_what_is_signed_with_it() {
    for vector in VECTORS {
        let other = other_than(vector.secret);
        let signed_with = async |now, former| {
            let webhook = vector.webhook("secret://s");
            let intake = Intake::with_secret(&webhook, now);
            intake.changed("s", former);
            vector.set_clock(&intake, 0);
            let said = intake.says(&vector.request()).await;
            (said, intake.says(&vector.request()).await)
        };
        let (first, _) = signed_with(vector.secret, other).await;
        assert_eq!(first, vector.welcome(), "{}", vector.name);
        // So is one that was useless.
        let (first, _) = signed_with(vector.secret, "").await;
        assert_eq!(first, vector.welcome(), "{}", vector.name);
        // What is signed with neither is refused as ever.
        let (first, second) = signed_with(other, other).await;
        assert_eq!((first, second), (mismatch(), mismatch()), "{}", vector.name);
    }
}

#[tokio::test]
async fn during_a_rotation_either_secret_is_good() {
    for vector in VECTORS {
        let other = other_than(vector.secret);
        for secrets in ["[secret://s, secret://t]", "[secret://t, secret://s]"] {
            let known = [("s", Some(vector.secret)), ("t", Some(other))];
            let intake = Intake::new(&[&vector.webhook(secrets)], &known);
            vector.set_clock(&intake, 0);
            let said = intake.says(&vector.request()).await;
            assert_eq!(said, vector.welcome(), "{}: {secrets}", vector.name);
        }
    }
}

/// SW2 signed with a shared secret and with a public key's other half, as one sender would do
/// that changes from one to the other.
#[tokio::test]
async fn of_several_signatures_one_good_one_is_enough() {
    const OLD: &str = "v1,D0vQy//aweiZfzNAqe/QBuIAVz1q3JJ2y5nSi69FEl0=";
    const NEW: &str = "v1a,SHpm3gd9QtyfOaAVDca9Zc0KEErKZ5g8TqS26oXwKsP3AiYsaQrIYnjU8LDhJ8ItJHpecedG8FIca1eAn1T0Cw==";
    const OTHER: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let public = "whpk_Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";
    let old_only = [("s", Some(secret))];
    let new_only = [("s", Some(public))];
    let both = [("s", Some(secret)), ("t", Some(public))];
    let many = format!("{}{OLD}", "v1,AAAA ".repeat(15));
    let too_many = format!("{}{OLD}", "v1,AAAA ".repeat(16));
    for (known, signatures, good) in [
        (&both[..], OLD.to_owned(), true),
        (&both[..], NEW.to_owned(), true),
        (&both[..], format!("{OLD} {NEW}"), true),
        (&both[..], format!("{OTHER} v2,x,y nonsense  {NEW}"), true),
        (&both[..], format!("{OTHER} {OTHER}"), false),
        (&both[..], OLD.replace("v1,", "v1a,"), false),
        (&both[..], NEW.replace("v1a,", "v1,"), false),
        (&both[..], OLD.replace("v1,", ""), false),
        (&both[..], OLD.replace(',', "="), false),
        (&old_only[..], format!("{NEW} {OLD}"), true),
        (&old_only[..], NEW.to_owned(), false),
        (&new_only[..], format!("{OLD} {NEW}"), true),
        (&new_only[..], OLD.to_owned(), false),
        (&old_only[..], many, true),
        (&old_only[..], too_many, false),
    ] {
        let secrets = if known.len() == 2 {
            "[secret://s, secret://t]"
        } else {
            "secret://s"
        };
        let webhook = format!("{{ {STANDARD}, secret: {secrets} }}");
        let intake = Intake::new(&[&webhook], known);
        let request = post("map0", VECTORS[2].body)
            .headers(&VECTORS[2].headers[..2])
            .header("webhook-signature", &signatures);
        let expected = if good { taken() } else { mismatch() };
        assert_eq!(
            intake.says(&request).await,
            expected,
            "{signatures} with {known:?}"
        );
    }
}

#[tokio::test]
async fn stripe_lists_old_and_new_and_schemes_of_its_tests() {
    const GOOD: &str = "v1=9241a2e61e4f2ecb578eb5c3df3cb800c0064e7bb8907071ab05cad65fd2c67a";
    let vector = VECTORS.iter().find(|vector| vector.name == "ST1").unwrap();
    let bad = GOOD.replace('9', "8");
    let v0 = GOOD.replace("v1", "v0");
    for (header, expected) in [
        (format!("t=1767225600,{bad},{GOOD},{v0}"), taken()),
        (format!("{GOOD},t=1767225600"), taken()),
        (format!("t=1767225600, {GOOD}"), taken()),
        (format!("t=1767225600,{v0}"), mismatch()),
        (format!("t=1767225600,{bad}"), mismatch()),
        ("t=1767225600,v1=zz,v1=".to_owned(), mismatch()),
        (GOOD.to_owned(), mismatch()),
        (format!("t=,{GOOD}"), mismatch()),
        ("t=1767225600".to_owned(), mismatch()),
        ("nonsense".to_owned(), mismatch()),
    ] {
        let request = vector.request().without("stripe-signature");
        let request = request.header("stripe-signature", &header);
        assert_eq!(vector.intake().says(&request).await, expected, "{header}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    // HMACs of SW2 with the public key, decoded and as text, as a key that everybody knows.
    for forged in [
        "v1,dXDiFRWWBbuCGz4tdAiG/gSbTwh0tsj6QP9PtsCKcRc=",
        "v1,qSXxTm++21AaDSs1a81EYvX2UEQvCiOXgc/fvJUOMvg=",
        "v1a,dXDiFRWWBbuCGz4tdAiG/gSbTwh0tsj6QP9PtsCKcRc=",
    ] {
        let public = VECTORS
            .iter()
            .find(|vector| vector.secret.starts_with("whpk_"))
            .unwrap();
        let request = public.request().without("webhook-signature");
        let request = request.header("webhook-signature", forged);
        assert_eq!(public.intake().says(&request).await, mismatch(), "{forged}");
    }
}

/// SW2, GitHub's record, Shopify's and Stripe's forms of it, signed with an empty key.
#[tokio::test]
async fn an_empty_secret_verifies_nothing() {
    let standard = [
        ("webhook-id", "msg_2Xyz0001"),
        ("webhook-timestamp", "1767225600"),
        (
            "webhook-signature",
            "v1,RZDe+zV3KPNz+qpjnUgYKkNfr/Lwa0Nw86eQCKarVP0=",
        ),
    ];
    let hex = "a70e6347c63d4f7698c2c27032674b338ab6774f1c6504efc1b2add0feb610a0";
    let base64 = "pw5jR8Y9T3aYwsJwMmdLM4q2d08cZQTvwbKt0P62EKA=";
    let prefixed = format!("sha256={hex}");
    let stripe = "t=1767225600,v1=50c383309ca740bcfe9799bd4ba6e8fb9c302a6829bcfe1f7abaee308d7f6654";
    let sw2 = r#"{"type":"account.updated","data":{"id":"a1"}}"#;
    let cases: [(&str, Headers<'_>, &str); 7] = [
        (STANDARD, &standard, sw2),
        (
            "scheme: github",
            &[("x-hub-signature-256", &prefixed)],
            RECORD,
        ),
        (
            "scheme: shopify",
            &[("x-shopify-hmac-sha256", base64)],
            RECORD,
        ),
        ("scheme: stripe", &[("stripe-signature", stripe)], RECORD),
        (
            "scheme: hmac, hmac: { header: X-Sign }",
            &[("x-sign", hex)],
            RECORD,
        ),
        ("scheme: header, header: X-Key", &[("x-key", "")], RECORD),
        ("scheme: dataverse", &[], RECORD),
    ];
    for (scheme, headers, body) in cases {
        for empty in ["", " ", "\n", "whsec_"] {
            if empty == "whsec_" && scheme != STANDARD {
                continue;
            }
            let webhook = format!("{{ {scheme}, secret: secret://s }}");
            let intake = Intake::with_secret(&webhook, empty);
            let request = post("map0?code=", body).headers(headers);
            let said = intake.says(&request).await;
            assert_eq!(said, refused(503, "unavailable"), "{scheme} {empty:?}");
            // The other secret of a rotation is still good, and still needed.
            let both = format!("{{ {scheme}, secret: [secret://s, secret://t] }}");
            let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
            let intake = Intake::new(&[&both], &[("s", Some(empty)), ("t", Some(other))]);
            assert_eq!(intake.says(&request).await.0, 401, "{scheme} {empty:?}");
            assert_eq!(intake.queue.sent(), []);
        }
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_is_no_fault_of_the_sender() {
    let vector = &VECTORS[2];
    let two = vector.webhook("[secret://s, secret://t]");
    let good = Some(vector.secret);
    let other = Some("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY");
    for (known, expected) in [
        (vec![], refused(503, "unavailable")),
        (vec![("s", None), ("t", None)], refused(503, "unavailable")),
        // What the secret that is known does not verify, the other one might.
        (vec![("s", None), ("t", other)], refused(503, "unavailable")),
        (vec![("t", other)], mismatch()),
        (vec![("s", None), ("t", good)], taken()),
        (vec![("t", good)], taken()),
    ] {
        let intake = Intake::new(&[&two], &known);
        let answer = intake.answer(&vector.request()).await;
        let said = (answer.status, answer.code.clone());
        assert_eq!(said, expected, "{known:?}");
        let again = answer.headers.get("retry-after").map(String::as_str);
        assert_eq!(again, (expected.0 == 503).then_some("5"), "{known:?}");
    }
}

#[tokio::test]
async fn an_answer_does_not_tell_which_part_was_wrong() {
    for vector in VECTORS {
        let intake = vector.intake();
        let wrong_body = vector.request().with_body(b"{}");
        let mut bodies = Vec::new();
        if vector.signs_body() {
            bodies.push(intake.answer(&wrong_body).await.body);
        }
        let (signature, value) = vector.headers.last().unwrap();
        for wrong in [format!("{value}x"), "x".repeat(40)] {
            let request = vector.request().without(signature);
            let answer = intake.answer(&request.header(signature, &wrong)).await;
            assert_eq!(answer.status, 401, "{}", vector.name);
            bodies.push(answer.body);
        }
        bodies.dedup();
        let all = format!("{bodies:?}");
        assert!(!all.contains(vector.secret), "{}: {all}", vector.name);
        assert_eq!(bodies.len(), 1, "{}: {all}", vector.name);
    }
    let intake = VECTORS[0].at(1_000);
    let mut unsigned = VECTORS[0].request().with_body(b"{}");
    assert_eq!(
        intake.says(&unsigned).await,
        mismatch(),
        "an unsigned request learns nothing of the clock"
    );
    unsigned = unsigned.without("webhook-timestamp");
    let long_ago = unsigned.header("webhook-timestamp", "yesterday");
    assert_eq!(intake.says(&long_ago).await, mismatch());
}
