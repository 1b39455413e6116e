//! Taking JSON apart without building trees.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The raw values of some fields of a JSON object, in the order of `names`.
pub fn fields<'a, const N: usize>(
    object: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a str>; N], serde_json::Error> {
    struct Fields<'n, const N: usize>([&'n str; N]);
    impl<'a, const N: usize> DeserializeSeed<'a> for Fields<'_, N> {
        type Value = [Option<&'a str>; N];
        fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Self::Value, D::Error> {
            json.deserialize_map(self)
        }
    }
    impl<'a, const N: usize> Visitor<'a> for Fields<'_, N> {
        type Value = [Option<&'a str>; N];
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }
        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(Name(name)) = map.next_key()? {
                match self.0.iter().position(|wanted| *wanted == name) {
                    Some(at) => found[at] = Some(map.next_value::<&RawValue>()?.get()),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(found)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(object);
    let found = Fields(names).deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// The raw value at a path of field names; `None` where the way ends.
pub fn at<'a>(json: &'a [u8], path: &[String]) -> Result<Option<&'a str>, serde_json::Error> {
    let raw: &RawValue = serde_json::from_slice(json)?;
    let mut raw = raw.get();
    for name in path {
        if !raw.starts_with('{') {
            return Ok(None);
        }
        match fields(raw.as_bytes(), [name])?[0] {
            Some(inner) => raw = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(raw))
}

/// The content of a JSON string, the text of a number or boolean; `None` for anything else.
#[must_use]
pub fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' if !raw.contains('\\') => raw.get(1..raw.len() - 1).map(Cow::Borrowed),
        b'"' => serde_json::from_str(raw).ok().map(Cow::Owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// The elements of a JSON list that is a part of `body`, as slices of it.
pub fn elements(body: &Bytes, list: &str) -> Result<Vec<Bytes>, serde_json::Error> {
    let elements: Vec<&RawValue> = serde_json::from_str(list)?;
    Ok(elements
        .into_iter()
        .map(|element| body.slice_ref(element.get().as_bytes()))
        .collect())
}

/// A field name, borrowed unless it contains escapes.
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

impl<'a> Deserialize<'a> for Name<'a> {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'a> Visitor<'a> for Text {
            type Value = Name<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Name<'a>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'a>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        json.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_kept_as_they_are() {
        let body = Bytes::from_static(
            br#"{"meta": {"next": "a\"b"}, "data": {"items": [ {"a": 1.0} , 2 ]}, "n": null}"#,
        );
        let list = at(&body, &["data".into(), "items".into()])
            .unwrap()
            .unwrap();
        assert_eq!(elements(&body, list).unwrap(), [r#"{"a": 1.0}"#, "2"]);
        let next = at(&body, &["meta".into(), "next".into()]).unwrap().unwrap();
        assert_eq!(scalar(next).unwrap(), "a\"b");
        assert_eq!(
            at(&body, &["meta".into(), "gone".into(), "x".into()]).unwrap(),
            None
        );
        assert_eq!(fields(&body, ["n", "x"]).unwrap(), [Some("null"), None]);
        assert_eq!(scalar("null"), None);
        assert_eq!(scalar("1.50").unwrap(), "1.50");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for bad in [
            r#"{"data": [1, 2"#,
            r#"{"data": [1]} trailing"#,
            "<html>",
            "",
        ] {
            assert!(fields(bad.as_bytes(), ["data"]).is_err(), "{bad}");
        }
    }
}
