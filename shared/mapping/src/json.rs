//! Taking JSON apart without building trees.

use std::{borrow::Cow, collections::HashSet, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Checks that a text is interoperable JSON (I-JSON, RFC 7493): UTF-8, no object with two
/// fields of one name, no half of a surrogate pair, no number beyond a double. Nested deeper
/// than 127 levels it is refused too.
///
/// Whoever reads parts of a text that passes reads the same as everybody else: of two fields
/// with one name some readers see the first and some the last.
pub fn check(json: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Strict>(json).map(|Strict| ())
}

/// Any JSON value in which no object names a field twice.
struct Strict;

impl<'a> Deserialize<'a> for Strict {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self)
    }
}

impl<'a> Visitor<'a> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Self) = list.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(Name(name)) = map.next_key()? {
            if let Some(name) = names.replace(name) {
                return Err(A::Error::custom(format_args!(
                    "the field `{name:.80}` is there twice"
                )));
            }
            let Self = map.next_value()?;
        }
        Ok(self)
    }
}

/// The raw values of some fields of a JSON object, in the order of `names`. One that comes
/// twice is an error: which of them is meant cannot be known.
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
                    Some(at) => {
                        let value = map.next_value::<&RawValue>()?.get();
                        if found[at].replace(value).is_some() {
                            return Err(A::Error::custom(format_args!("`{name}` comes twice")));
                        }
                    }
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
    fn every_kind_of_value_passes_the_check() {
        for good in [
            r#"{"a": [1, -2, 1.5e300, "\ud83d\ude00", null, true, {}], "A": {"a": {"a": 1}}}"#,
            r#"[{"a": 1}, {"a": 2}]"#,
            "123456789012345678901234567890.123456789",
            r#" "" "#,
        ] {
            check(good.as_bytes()).unwrap();
        }
        check(format!("{}{}", "[".repeat(127), "]".repeat(127)).as_bytes()).unwrap();
    }

    #[test]
    fn what_two_readers_could_read_differently_does_not_pass_the_check() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_objects = r#"{"a":"#.repeat(100_000);
        for (bad, why) in [
            (r#"{"a":1,"b":{"c":1,"d":2,"c":3}}"#, "`c` is there twice"),
            (r#"[{"a":1,"\u0061":2}]"#, "`a` is there twice"),
            (r#"{"":1,"":1}"#, "`` is there twice"),
            (r#""\ud800""#, "hex escape"),
            ("1e999", "out of range"),
            (&deep, "recursion limit"),
            (&deep_objects, "recursion limit"),
            ("", "EOF"),
            ("{} {}", "trailing"),
            ("{'a': 1}", "key must be a string"),
            ("NaN", "expected"),
            ("\u{feff}{}", "expected value"),
        ] {
            let error = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{bad:.40}: {error}");
        }
        for bad in [
            b"\"\xff\"" as &[u8],
            b"{\"\xc3\x28\":1}",
            b"\"\xed\xa0\x80\"",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        let long = format!(r#"{{"{0}":1,"{0}":2}}"#, "x".repeat(10_000));
        assert!(check(long.as_bytes()).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn what_comes_twice_is_an_error_only_where_it_is_wanted() {
        let page = br#"{"value": [1], "x": 1, "x": 2, "value": []}"#;
        let error = fields(page, ["value"]).unwrap_err();
        assert!(error.to_string().contains("`value` comes twice"), "{error}");
        assert!(fields(page, ["y"]).is_ok());
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
