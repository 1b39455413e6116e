//! What an answer means.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;
use ports::SourceError;

/// Longest wait that is granted: whoever asks for more has put the time of day where the wait
/// belongs, or means that nobody needs to come back.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How long an answer asks to wait: seconds or a date (RFC 9110 §10.2.3); a day at most.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let seconds = seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64());
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = Duration::try_from(then.duration_since(now)).unwrap_or_default();
    Some(wait.min(LONGEST_WAIT))
}

/// The beginning of a body, for a message.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The same of a body that is not what was asked for. What begins as JSON may be half a page of
/// records, which have no place in a log: of that only the length is told.
pub(crate) fn shown(body: &[u8]) -> String {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{' | b'[') => format!("it has {} bytes", body.len()),
        _ => format!("`{}`", excerpt(body)),
    }
}

/// The message of an error body in OData's form, which many others use too.
pub(crate) fn error_message(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = json
        .get("error")
        .or_else(|| json.get("@error"))
        .unwrap_or(&json);
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let message = error
        .get("message")
        .and_then(|message| text(message).or_else(|| text(message.get("value")?)));
    let message = message
        .or_else(|| text(error))
        .or_else(|| text(json.get("error_description")?))?;
    let code = error.get("code").and_then(text);
    Some(code.map_or(message.clone(), |code| format!("{code}: {message}")))
}

/// What was called and what was answered.
pub(crate) fn sentence(what: &str, status: StatusCode, said: &str) -> String {
    match said {
        "" => format!("{what} answered {status}"),
        said => format!("{what} answered {status}: {said}"),
    }
}

/// An address as it may be shown: the query can hold tokens, and a user and password are no
/// part of the place.
pub(crate) fn without_query(url: &url::Url) -> String {
    let mut url = without_login(url.clone());
    url.set_query(None);
    url.into()
}

/// An address without user and password.
pub(crate) fn without_login(mut url: url::Url) -> url::Url {
    // It fails for addresses without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// The error that an answer with a bad status is. `what` says what was asked, and `leads` where
/// a redirection leads.
pub(crate) fn status_error(
    what: &str,
    status: StatusCode,
    headers: &HeaderMap,
    leads: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> SourceError {
    if status.is_redirection() {
        let what = format!(
            "{what} answered {status} and leads to {}, where credentials do not follow: if that is where it should go, put it into the connection's `url`",
            leads.unwrap_or("nowhere")
        );
        return SourceError::Invalid { what };
    }
    let said = error_message(body).unwrap_or_else(|| excerpt(body));
    let what = sentence(what, status, &said);
    let retry_after = retry_after(headers, now);
    match status {
        StatusCode::UNAUTHORIZED => SourceError::Auth {
            what: format!("{what}: check the connection's `auth` and its secret"),
        },
        StatusCode::FORBIDDEN => SourceError::Auth {
            what: format!("{what}: the account lacks a permission there"),
        },
        StatusCode::TOO_MANY_REQUESTS => SourceError::Throttled { what, retry_after },
        StatusCode::GONE => SourceError::Expired { what },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
            SourceError::Unavailable { what, retry_after }
        }
        _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            SourceError::Unavailable { what, retry_after }
        }
        _ => SourceError::Invalid { what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderMap {
        [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(
            retry_after(&header("120"), now),
            Some(Duration::from_mins(2))
        );
        assert_eq!(
            retry_after(&header("Sun, 06 Nov 1994 08:49:37 GMT"), now),
            Some(Duration::from_secs(37))
        );
        assert_eq!(
            retry_after(&header("Sun, 06 Nov 1994 08:00:00 GMT"), now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after(&header("-5"), now), Some(Duration::ZERO));
        assert_eq!(retry_after(&header("soon"), now), None);
        for bogus in [
            "1767225600",
            "1767225600000",
            "1e300",
            "inf",
            "Thu, 01 Jan 2026 00:00:00 GMT",
        ] {
            let wait = retry_after(&header(bogus), now).unwrap();
            assert_eq!(wait, Duration::from_hours(24), "{bogus}");
        }
        assert_eq!(retry_after(&header("NaN"), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_error_body_is_quoted_by_its_message() {
        let dataverse =
            br#"{"error":{"code":"0x80072322","message":"Number of requests exceeded"}}"#;
        assert_eq!(
            error_message(dataverse).unwrap(),
            "0x80072322: Number of requests exceeded"
        );
        assert_eq!(
            error_message(br#"{"error":"invalid_client"}"#).unwrap(),
            "invalid_client"
        );
        assert_eq!(error_message(br#"{"message":"no"}"#).unwrap(), "no");
        assert_eq!(error_message(b"<html>"), None);
    }

    #[test]
    fn half_a_page_of_records_is_not_shown() {
        for page in [
            "{\"value\":[{\"Name\":\"Ada\"",
            "\u{feff} [{\"Name\":\"Ada\"}",
        ] {
            let said = shown(page.as_bytes());
            assert!(!said.contains("Ada") && said.contains(" bytes"), "{said}");
        }
        assert_eq!(shown(b"<p>please log in"), "`<p>please log in`");
    }

    #[test]
    fn an_excerpt_is_short_and_one_line() {
        let page = "<html>\n  <body>".repeat(1_000);
        let shown = excerpt(page.as_bytes());
        assert!(shown.len() < 250 && !shown.contains('\n'), "{shown}");
    }
}
