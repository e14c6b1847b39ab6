//! Values in a JSON payload: found by their paths in one pass, borrowed as they stand, and nothing built.
//!
//! All of the payload is read, so that what is no JSON has no fields and of equal keys the last counts; but what the paths
//! pass by is only checked for its syntax. Sorted, the paths that go on with the same key stand beside each other, so that those
//! which a value may concern are always a range. A value that a path goes through is read once more below it.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::operand::{Comparison, Operand, Seen};
use super::reading::Path;
use crate::event::{Encoding, Meta};

/// What the payload has at each of `paths`, sorted and each once, if it is JSON: into `found`, which has nothing yet.
pub(super) fn find<'a>(meta: &Meta<'a>, paths: &[Path], found: &mut [Option<&'a RawValue>]) {
    let payload = meta.payload();
    let (Encoding::Json, Some(text), Some(first)) = (payload.encoding(), payload.text(), paths.first()) else { return };
    let mut reader = serde_json::Deserializer::from_str(text);
    let seek = Seek { paths, depth: 0, found: &mut *found };
    let read = if first.is_empty() { seek.deserialize(&mut reader) } else { reader.deserialize_any(seek) };
    if read.and_then(|()| reader.end()).is_err() {
        found.fill(None);
    }
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

/// Looks for the values at `paths` in the value it is given, which is what all of them have in common: so many keys and indices.
struct Seek<'p, 'de> {
    paths: &'p [Path],
    depth: usize,
    found: &'p mut [Option<&'de RawValue>],
}

impl<'de> DeserializeSeed<'de> for Seek<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
        // Of equal keys the last counts, also where it has less than the one before.
        self.found.fill(None);
        let ends_here = usize::from(self.paths[0].len() == self.depth);
        if ends_here == 1 {
            self.found[0] = Some(raw);
        }
        let (paths, found) = (&self.paths[ends_here..], &mut self.found[ends_here..]);
        if !paths.is_empty() && raw.get().starts_with(['{', '[']) {
            let below = Seek { paths, depth: self.depth, found: &mut *found };
            // Who only passes it by does not mind what cannot be read in it.
            if serde_json::Deserializer::from_str(raw.get()).deserialize_any(below).is_err() {
                found.fill(None);
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Seek<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { paths, depth, found } = self;
        while let Some(places) = map.next_key_seed(KeyOf { paths, depth })? {
            if places.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                let found = &mut found[places.clone()];
                map.next_value_seed(Seek { paths: &paths[places], depth: depth + 1, found })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { paths, depth, found } = self;
        let mut next = next_index(paths, depth, 0);
        for at in 0.. {
            let is_there = if next.as_ref().is_some_and(|(index, _)| *index == at) {
                let (_, key) = next.take().expect("it is there");
                let places = places_of(paths, depth, key);
                next = next_index(paths, depth, at + 1);
                let found = &mut found[places.clone()];
                elements.next_element_seed(Seek { paths: &paths[places], depth: depth + 1, found })?.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !is_there {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Which of `paths`, that have more than `depth` keys each, go on with this one.
fn places_of(paths: &[Path], depth: usize, key: &str) -> Range<usize> {
    let from = paths.partition_point(|path| *path[depth] < *key);
    from..from + paths[from..].partition_point(|path| *path[depth] == *key)
}

/// The least index from `least` on with which one of `paths` goes on, and how it is written there.
fn next_index(paths: &[Path], depth: usize, least: usize) -> Option<(usize, &str)> {
    // As an index is written: `01` and `+1` are none.
    let index = |text: &str| if text != "0" && text.starts_with(['0', '+']) { None } else { text.parse().ok() };
    let indices = paths.iter().filter_map(|path| index(&path[depth]).map(|index| (index, &*path[depth])));
    indices.filter(|(index, _)| *index >= least).min()
}

/// Which of `paths` go on with the key that is read.
struct KeyOf<'p> {
    paths: &'p [Path],
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Range<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Range<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Range<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Range<usize>, E> {
        Ok(places_of(self.paths, self.depth, key))
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
