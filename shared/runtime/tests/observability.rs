//! Metrics and log lines as those read them who were not there.
#![cfg(test)]

use std::{process::Command, time::Duration};

use jiff::Timestamp;
use model::{Counts, MapName};
use ports::testing::{Captured, map_name};
use runtime::{METRICS_PER_MAP, Metrics, Sample, Tally, json_lines};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:00:00.5Z".parse().unwrap()
}

fn customers() -> MapName {
    map_name("customers")
}

fn tally(lags: u64) -> Tally {
    let mut lag = Sample::default();
    (0..lags).for_each(|ms| lag.add(ms));
    Tally {
        received: 7,
        outcomes: Counts {
            applied: 1,
            unchanged: 2,
            superseded: 3,
            filtered: 4,
            failed: 5,
        },
        settled: 9,
        lag,
        breaker_open: Some(true),
    }
}

/// The lines of what was written, each a JSON object by itself.
fn lines(written: &str) -> Vec<Value> {
    assert!(written.is_empty() || written.ends_with('\n'));
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    written.lines().map(read).collect()
}

/// What the specification of the embedded metric format demands of a line.
fn assert_valid(line: &Value) {
    let text = line.to_string();
    assert!(text.len() <= 256 * 1024);
    let metadata = line["_aws"].as_object().unwrap();
    assert_eq!(metadata.len(), 2, "{text}");
    let at = metadata["Timestamp"].as_i64().unwrap();
    assert!(
        (0..60_000).contains(&(at - now().as_millisecond())),
        "{text}"
    );
    for directive in metadata["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive.as_object().unwrap().len(), 3, "{text}");
        let namespace = directive["Namespace"].as_str().unwrap();
        assert!((1..=256).contains(&namespace.len()));
        for set in directive["Dimensions"].as_array().unwrap() {
            let set = set.as_array().unwrap();
            assert!(set.len() <= 30, "{text}");
            for name in set {
                let value = line[name.as_str().unwrap()].as_str();
                let value = value.unwrap_or_else(|| panic!("{name} is no text: {text}"));
                assert!((1..=1024).contains(&value.len()) && value.is_ascii());
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "{text}");
        for metric in metrics {
            assert!(["Count", "Milliseconds"].contains(&metric["Unit"].as_str().unwrap()));
            match &line[metric["Name"].as_str().unwrap()] {
                Value::Number(_) => {}
                Value::Array(values) => {
                    assert!((1..=100).contains(&values.len()), "{text}");
                    assert!(values.iter().all(Value::is_number), "{text}");
                }
                other => panic!("{metric} is {other}: {text}"),
            }
        }
    }
}

#[test]
fn every_line_is_as_the_specification_demands() {
    for per_map in [false, true] {
        let out = Captured::default();
        let metrics = Metrics::to("crm", per_map, out.clone());
        for lags in [0, 1, 100, 12_345] {
            metrics.record(now(), &customers(), &tally(lags));
        }
        metrics.received(now(), &customers(), 3);
        metrics.pull_heartbeat(now());
        let lines = lines(&out.text());
        assert_eq!(lines.len(), 6);
        lines.iter().for_each(assert_valid);
        let dimensions = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
        let of_map = if per_map {
            json!([["Stack"], ["Stack", "Map"]])
        } else {
            json!([["Stack"]])
        };
        assert_eq!(dimensions(&lines[3]), of_map);
        assert_eq!(dimensions(&lines[5]), json!([["Stack"]]));
        for (name, value) in [
            ("Stack", json!("crm")),
            ("Map", json!("customers")),
            ("received", json!(7)),
            ("applied", json!(1)),
            ("unchanged", json!(2)),
            ("superseded", json!(3)),
            ("filtered", json!(4)),
            ("failed", json!(5)),
            ("balance", json!(-2)),
            ("breaker_open", json!(1)),
        ] {
            assert_eq!(lines[3][name], value, "{name}");
        }
        assert_eq!(lines[1]["lag_ms"], json!([0]));
        assert_eq!(
            lines[3]["lag_ms"].as_array().unwrap().last(),
            Some(&json!(12_344))
        );
        assert_eq!(lines[4]["received"], json!(3));
        assert_eq!(lines[4]["balance"], json!(3));
        assert_eq!(lines[5]["pull_heartbeat"], json!(1));
    }
}

#[test]
fn where_there_is_nothing_to_say_nothing_is_said() {
    let out = Captured::default();
    let metrics = Metrics::to("crm", true, out.clone());
    metrics.record(now(), &customers(), &Tally::default());
    metrics.received(now(), &customers(), 0);
    assert_eq!(out.text(), "");
}

#[test]
fn what_comes_again_and_again_is_gathered_and_what_people_wait_for_is_not() {
    let out = Captured::default();
    let metrics = Metrics::to("crm", false, out.clone());
    let after = |ms| now() + Duration::from_millis(ms);
    let gather = |ms, applied, failed, open| {
        let mut lag = Sample::default();
        lag.add(ms);
        let outcomes = Counts {
            applied,
            failed,
            ..Counts::default()
        };
        let tally = Tally {
            received: 0,
            outcomes,
            settled: 0,
            lag,
            breaker_open: Some(open),
        };
        metrics.gather(after(ms), &customers(), tally);
        let lines = lines(&out.text());
        let said = lines.iter().map(|line| {
            let number = |name| line[name].as_u64().unwrap_or_default();
            let lags = line["lag_ms"].as_array().unwrap().len();
            (
                number("applied"),
                number("failed"),
                number("breaker_open"),
                lags,
            )
        });
        said.collect::<Vec<_>>()
    };
    // What comes after a pause is said at once, and what follows ten seconds later.
    let mut said = vec![(1, 0, 0, 1)];
    assert_eq!(gather(0, 1, 0, false), said);
    assert_eq!(gather(1_000, 2, 0, false), said);
    assert_eq!(gather(9_999, 3, 0, false), said);
    said.push((9, 0, 0, 3));
    assert_eq!(gather(10_000, 4, 0, false), said);
    // A failure waits for nothing, and takes along what waits.
    assert_eq!(gather(11_000, 5, 0, false), said);
    said.push((11, 1, 0, 2));
    assert_eq!(gather(12_000, 6, 1, false), said);
    // Nor does a target that is left alone, each time, nor that it no longer is.
    for ms in [12_100, 12_200] {
        said.push((0, 0, 1, 1));
        assert_eq!(gather(ms, 0, 0, true), said);
    }
    said.push((7, 0, 0, 1));
    assert_eq!(gather(12_300, 7, 0, false), said);
    assert_eq!(gather(12_400, 8, 0, false), said);
    // Much is not kept back, for it could be lost.
    said.push((1_000, 0, 0, 2));
    assert_eq!(gather(12_500, 992, 0, false), said);
    lines(&out.text()).iter().for_each(assert_valid);
}

/// Says the same, silently or not.
fn say() {
    let metrics = match runtime::env::optional("SYNCLINE_STACK") {
        Some(stack) => Metrics::of_function(&stack).unwrap(),
        None => Metrics::silent(),
    };
    metrics.record(now(), &customers(), &tally(5));
    metrics.received(now(), &customers(), 3);
    metrics.pull_heartbeat(now());
}

/// It is its own child too: what a process prints is seen by another one.
const CHILD: &str = "SYNCLINE_TEST_CHILD";

#[test]
fn a_function_prints_and_the_silent_one_does_not() {
    if runtime::env::optional(CHILD).is_some() {
        return say();
    }
    let printed = |variables: &[(&str, &str)]| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let this = "a_function_prints_and_the_silent_one_does_not";
        child.args(["--exact", this, "--nocapture"]);
        child
            .env(CHILD, "1")
            .env_remove("SYNCLINE_STACK")
            .env_remove(METRICS_PER_MAP);
        let output = child.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| line.contains("_aws"));
        (
            output.status.success(),
            lines.map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    assert_eq!(printed(&[]), (true, Vec::new()));
    let (good, lines) = printed(&[("SYNCLINE_STACK", "crm")]);
    assert!(good);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| !line.contains(r#""Stack","Map""#)));
    let (good, lines) = printed(&[("SYNCLINE_STACK", "crm"), (METRICS_PER_MAP, "true")]);
    assert!(
        good && lines.iter().any(|line| line.contains(r#"["Stack","Map"]"#)),
        "{lines:?}"
    );
    let (good, lines) = printed(&[("SYNCLINE_STACK", "crm"), (METRICS_PER_MAP, "often")]);
    assert!(!good && lines.is_empty(), "{lines:?}");
}

#[test]
fn a_log_line_has_the_fields_of_all_its_spans() {
    let out = Captured::default();
    let writer = out.clone();
    tracing::subscriber::with_default(json_lines("warn", move || writer.clone()), || {
        let outer = tracing::error_span!("invocation", request.id = "r1", map.name = "outer");
        let _outer = outer.enter();
        let inner = tracing::error_span!("inner", trace.id = "t1", pack.id = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("pack.id", "p1");
        let map = customers();
        tracing::warn!(map.name = %map, wait_ms = 5_u128, open = true, "packs of map `{map}` wait");
        tracing::info!("this is not logged");
    });
    let lines = lines(&out.text());
    assert_eq!(lines.len(), 1);
    let mut line = lines[0].as_object().unwrap().clone();
    let time: Result<Timestamp, _> = line.remove("timestamp").unwrap().as_str().unwrap().parse();
    assert!(time.is_ok());
    let expected = json!({
        "level": "WARN",
        "message": "packs of map `customers` wait",
        "map.name": "customers",
        "wait_ms": 5,
        "open": true,
        "trace.id": "t1",
        "pack.id": "p1",
        "request.id": "r1",
    });
    assert_eq!(Value::Object(line), expected);
}

#[test]
fn others_do_not_log_what_they_carry() {
    for (filter, ours) in [
        ("trace", true),
        ("trace,lambda_runtime=trace", true),
        ("info", false),
    ] {
        let out = Captured::default();
        let writer = out.clone();
        tracing::subscriber::with_default(json_lines(filter, move || writer.clone()), || {
            tracing::trace!(target: "lambda_runtime::layers", body = "theirs", "raw event");
            tracing::debug!(target: "aws_smithy_runtime::client", body = "theirs", "request");
            tracing::trace!(target: "aws::queue", "ours");
            tracing::info!(target: "hyper", "it is allowed to say this");
        });
        let text = out.text();
        assert!(!text.contains("theirs"), "{filter}: {text}");
        assert_eq!(text.contains("ours"), ours, "{filter}: {text}");
        assert!(text.contains("allowed"), "{filter}: {text}");
    }
}
