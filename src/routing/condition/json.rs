//! One value in a JSON payload: found by its path in one pass, borrowed as it stands, and nothing built.
//!
//! All of the payload is read, so that what is no JSON has no fields and of equal keys the last counts; but what the path
//! passes by is only checked for its syntax.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::operand::{Comparison, Operand, Seen};
use crate::event::{Encoding, Meta};

/// The value at `path`, if the payload is JSON and has it.
pub(super) fn find<'a>(meta: &Meta<'a>, path: &[Box<str>]) -> Option<&'a RawValue> {
    let payload = meta.payload();
    if payload.encoding() != Encoding::Json {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(payload.text()?);
    let found = Seek { path }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found
}

/// Whether the value passes.
pub(super) fn holds(raw: &str, comparison: &Comparison) -> bool {
    match comparison {
        Comparison::Contains([operand]) if raw.starts_with('[') => {
            serde_json::Deserializer::from_str(raw).deserialize_seq(AnyElement(operand)).unwrap_or(false)
        }
        _ => with_seen(raw, |seen| comparison.holds(seen)),
    }
}

/// Reads a value that is well-formed but for what only a full parser minds: numbers beyond a float, half characters.
fn with_seen<R>(raw: &str, see: impl FnOnce(Seen<'_>) -> R) -> R {
    if let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        if !inner.contains('\\') {
            return see(Seen::Text(inner));
        }
        return match serde_json::from_str::<String>(raw) {
            Ok(text) => see(Seen::Text(&text)),
            Err(_) => see(Seen::Other),
        };
    }
    see(match raw {
        "true" => Seen::Bool(true),
        "false" => Seen::Bool(false),
        "null" => Seen::Null,
        number => match (number.parse(), number.parse::<f64>()) {
            (Ok(integer), _) => Seen::Integer(integer),
            (_, Ok(float)) if float.is_finite() => Seen::Float(float),
            _ => Seen::Other,
        },
    })
}

/// Looks for the value at `path`, below the value it is given.
struct Seek<'p> {
    path: &'p [Box<str>],
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path {
            [] => serde::Deserialize::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_next) = map.next_key_seed(KeyIs(&self.path[0]))? {
            if is_next {
                found = map.next_value_seed(Seek { path: &self.path[1..] })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        // As an index is written: `01` and `+1` are none.
        let index = Some(&self.path[0]).filter(|text| ***text == *"0" || !text.starts_with(['0', '+']));
        let index: Option<usize> = index.and_then(|text| text.parse().ok());
        let mut found = None;
        for at in 0.. {
            if Some(at) == index {
                match elements.next_element_seed(Seek { path: &self.path[1..] })? {
                    Some(element) => found = element,
                    None => break,
                }
            } else if elements.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is this text.
struct KeyIs<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// Whether one element of an array equals the operand.
struct AnyElement<'c>(&'c Operand);

impl<'de> Visitor<'de> for AnyElement<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(element) = elements.next_element::<&RawValue>()? {
            found = found || with_seen(element.get(), |seen| seen.equals(self.0));
        }
        Ok(found)
    }
}
