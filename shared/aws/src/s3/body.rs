//! What S3 and its callers have to say, in XML.

use std::fmt::Write as _;

use aws_smithy_types::error::ErrorMetadata;
use bytes::Bytes;
use quick_xml::{Reader, escape::escape, events::Event};
use serde::{Deserialize, de::DeserializeOwned};

/// Characters of an answer that is no XML, in an error.
const SHOWN: usize = 200;

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    #[serde(default)]
    pub(crate) contents: Vec<Object>,
    pub(crate) next_continuation_token: Option<String>,
}

/// An object in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) size: u64,
}

/// What has come of a deletion.
#[derive(Debug, Deserialize)]
pub(crate) struct Deleted {
    /// Of objects that are still there.
    #[serde(default, rename = "Error")]
    pub(crate) errors: Vec<Failed>,
}

/// Why something was not done.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Failed {
    pub(crate) key: String,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// The body that deletes objects, of which only those are answered that are not deleted.
pub(super) fn delete(keys: &[String]) -> Bytes {
    let mut body = String::from(
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>",
    );
    for key in keys {
        let _ = write!(body, "<Object><Key>{}</Key></Object>", escape(key));
    }
    body.push_str("</Delete>");
    body.into()
}

/// Reads an answer; `root` is what it has to be.
pub(super) fn read<T: DeserializeOwned>(root: &str, body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let is = name_of_root(text)?;
    if is != root {
        return Err(format!("S3 answers `{is}` where `{root}` was expected"));
    }
    quick_xml::de::from_str(text).map_err(|error| format!("S3's answer cannot be read: {error}"))
}

/// Whether it is a refusal.
pub(super) fn is_refusal(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body);
    text.is_ok_and(|text| name_of_root(text).is_ok_and(|root| root == "Error"))
}

fn name_of_root(text: &str) -> Result<String, String> {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start) | Event::Empty(start)) => {
                let name = start.local_name();
                return Ok(name.as_ref().to_owned());
            }
            Ok(Event::Eof) => return Err("S3 answers with nothing".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(format!("S3's answer cannot be read: {error}")),
        }
    }
}

/// The code and message of a refusal. One that S3 does not explain, or that is another's, is told
/// by its status and by how it begins.
pub(super) fn refused(status: u16, body: &[u8]) -> ErrorMetadata {
    let metadata = ErrorMetadata::builder();
    match read::<Failed>("Error", body) {
        Ok(Failed { code, message, .. }) if !code.is_empty() => {
            metadata.code(code).message(message).build()
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let start: String = text.chars().take(SHOWN).collect();
            let code = match status {
                412 => "PreconditionFailed".to_owned(),
                other => format!("HTTP {other}"),
            };
            metadata.code(code).message(start).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_what_the_reference_shows() {
        let body = delete(&["a/1".into(), "a&<b>".into()]);
        assert_eq!(
            body,
            "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>\
             <Object><Key>a/1</Key></Object><Object><Key>a&amp;&lt;b&gt;</Key></Object></Delete>"
        );
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_no_answer() {
        let error = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
        let read = read::<Deleted>("DeleteResult", error.as_bytes());
        assert!(read.unwrap_err().contains("`Error`"));
        assert!(super::read::<Deleted>("DeleteResult", b"").is_err());
        assert!(super::read::<Deleted>("DeleteResult", b"<DeleteResult><Err").is_err());
    }

    #[test]
    fn keys_come_as_they_were_sent() {
        let body = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>b</Name><Contents><Key>a&amp;&lt;b&gt; c</Key><Size>7</Size></Contents>\
             <Contents><Key>b</Key><Size>0</Size></Contents><IsTruncated>true</IsTruncated>\
             <NextContinuationToken>1+/=</NextContinuationToken></ListBucketResult>";
        let listed: Listed = read("ListBucketResult", body.as_bytes()).unwrap();
        let all = listed.contents.iter();
        let all: Vec<_> = all.map(|one| (one.key.as_str(), one.size)).collect();
        assert_eq!(all, [("a&<b> c", 7), ("b", 0)]);
        assert_eq!(listed.next_continuation_token.as_deref(), Some("1+/="));
    }

    #[test]
    fn a_refusal_that_is_not_explained_has_its_status() {
        let explained = refused(
            404,
            b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>",
        );
        assert_eq!(
            (explained.code(), explained.message()),
            (Some("NoSuchKey"), Some("gone"))
        );
        let other = refused(502, b"<html>a proxy</html>");
        assert_eq!(other.code(), Some("HTTP 502"));
        assert_eq!(other.message(), Some("<html>a proxy</html>"));
        assert_eq!(refused(412, b"").code(), Some("PreconditionFailed"));
    }
}
