//! Lines of JSON against a slow reading of the whole value.
//!
//! The first byte chooses the rules, the rest is the line. Whatever it is, `parse` must not panic. It
//! must accept the line exactly when the plain reading below does, with the same meaning, and what goes
//! out again must be one line that means the same to the next hop.

use std::fmt;

use ringmain::node::egress::{Egress, Payload};
use ringmain::node::ingress::{Attribute, DEPTH_MAX, DataRef, Ingress, IngressError, Rules, parse};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};

/// Checks one input.
///
/// # Panics
/// When `parse` or `write_line` breaks a promise.
pub fn check(data: &[u8]) {
    let Some((&choice, line)) = data.split_first() else {
        return;
    };
    let rules = Rules {
        type_field: (choice & 1 != 0).then(|| "kind".to_owned()),
        priority_field: (choice & 2 != 0).then(|| "level".to_owned()),
        ..Rules::default()
    };
    let read = parse(line, &rules);
    let whole = serde_json::from_slice::<Value>(line).ok();
    if matches!(&whole, Some(Value::Object(members)) if members.values().any(is_minus_zero)) {
        return; // A value cannot say whether its text was `-0`, an integer, or `-0.0`.
    }
    match (&read, whole.and_then(|whole| meaning(whole, &rules))) {
        (Ok(event), Some(meaning)) => {
            assert!(!names(line).is_some_and(says_twice), "one name stands there twice: {event:?}");
            assert_eq!(members_of(event), meaning);
            pass_on(event, meaning);
        }
        (Ok(event), None) => panic!("the plain reading refuses what was read as {event:?}"),
        (Err(IngressError::Duplicate { member }), _) => {
            assert!(names(line).is_none_or(says_twice), "no name stands there twice, {member:?} least of all");
        }
        // What a value no longer shows: its text said too much.
        (Err(IngressError::TooManyMembers { .. } | IngressError::TooLong { .. }), _) => {}
        (Err(error), Some(meaning)) => panic!("refused with \"{error}\", but it means {meaning:?}"),
        (Err(error), None) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}

/// The names of the members of `line`, each as often as it stands there: a value has it once. `None` if it is no object.
fn names(line: &[u8]) -> Option<Vec<String>> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = members.next_entry()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    let mut text = serde_json::Deserializer::from_slice(line);
    let names = text.deserialize_map(Names).ok()?;
    text.end().ok().map(|()| names)
}

fn says_twice(mut names: Vec<String>) -> bool {
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The event as members again, from its fields alone. The form of the data is part of its name, which
/// no attribute can have.
fn members_of(event: &Ingress<'_>) -> Map<String, Value> {
    let texts = [
        ("id", event.id.as_deref()),
        ("type", Some(event.event_type.as_ref())),
        ("source", Some(event.source.as_ref())),
        ("priority", event.priority.map(|level| level.as_str())),
        ("subject", event.subject.as_deref()),
        ("dataschema", event.data_schema.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("correlationid", event.correlation_id.as_deref()),
        ("causationid", event.causation_id.as_deref()),
        ("traceparent", event.trace_parent.as_deref()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?))));
    let extensions = event.extensions.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Text(text) => json!(text),
            Attribute::Integer(integer) => json!(integer),
            Attribute::Boolean(boolean) => json!(boolean),
        };
        (name.clone().into_owned(), value)
    });
    let mut members: Map<String, Value> = texts.chain(extensions).collect();
    if let Some(unix_ns) = event.time_unix_ns {
        members.insert("time".to_owned(), json!(unix_ns));
    }
    let (name, data) = match &event.data {
        DataRef::Absent => return members,
        DataRef::Json(raw) => ("data", serde_json::from_str(raw).expect("data is a value of its own")),
        DataRef::Text(text) => ("data, text", json!(text)),
        DataRef::Bytes(bytes) => ("data, bytes", json!(bytes)),
    };
    members.insert(name.to_owned(), data);
    members
}

/// Sends the event on as a delivery would and reads it again.
fn pass_on(event: &Ingress<'_>, mut meaning: Map<String, Value>) {
    let out = Egress {
        id: event.id.as_deref().unwrap_or("made by the bus"),
        source: &event.source,
        event_type: &event.event_type,
        time_unix_ns: event.time_unix_ns,
        subject: event.subject.as_deref(),
        data_schema: event.data_schema.as_deref(),
        content_type: event.content_type.as_deref(),
        priority: event.priority.unwrap_or_default(),
        subscription: Some("**"),
        position: None,
        correlation_id: event.correlation_id.as_deref(),
        causation_id: event.causation_id.as_deref(),
        trace_parent: event.trace_parent.as_deref(),
        extensions: &event.extensions,
        payload: match &event.data {
            DataRef::Absent => Payload::Absent,
            DataRef::Json(raw) => Payload::Json(raw),
            DataRef::Text(text) => Payload::Text(text),
            DataRef::Bytes(bytes) => Payload::Bytes(bytes),
        },
    };
    let mut line = Vec::new();
    out.write_line(&mut line);
    assert_eq!(line.iter().position(|byte| b"\n\r".contains(byte)), Some(line.len() - 1), "one line");

    let rules = Rules::default();
    let again = parse(&line, &rules).expect("what goes out is a CloudEvent");
    meaning.entry("id").or_insert_with(|| json!("made by the bus"));
    meaning.entry("priority").or_insert_with(|| json!("normal"));
    if meaning.contains_key("data, bytes") {
        meaning.entry("datacontenttype").or_insert_with(|| json!("application/octet-stream"));
    }
    assert_eq!(members_of(&again), meaning);
}

/// What a line means, read from the whole value; `None` if it must be refused.
fn meaning(whole: Value, rules: &Rules) -> Option<Map<String, Value>> {
    if depth(&whole) > DEPTH_MAX {
        return None;
    }
    let Value::Object(members) = &whole else {
        return None;
    };
    let get = |name: &str| members.get(name).filter(|value| !value.is_null());
    let mut meaning = Map::new();

    let level = match &rules.priority_field {
        Some(field) => Some(get(field)?),
        None => get("priority"),
    };
    if let Some(level) = level {
        let known = ["critical", "high", "normal", "low"].contains(&level.as_str()?);
        meaning.insert("priority".to_owned(), known.then(|| level.clone())?);
    }
    meaning.insert("source".to_owned(), json!(rules.source));

    if let (Some(field), None) = (&rules.type_field, get("specversion")) {
        let event_type = type_made_of(get(field)?.as_str()?);
        meaning.insert("type".to_owned(), is_type(&event_type).then(|| json!(event_type))?);
        if let Some(source) = get("source").and_then(printable).filter(|source| !source.is_empty()) {
            meaning.insert("source".to_owned(), json!(source));
        }
        meaning.insert("data".to_owned(), whole);
        return Some(meaning);
    }

    let cloud_event = get("specversion").is_some();
    if get("specversion").is_some_and(|version| version != "1.0") {
        return None;
    }
    if cloud_event && (get("id").is_none() || get("source").is_none()) {
        return None;
    }
    get("type").filter(|event_type| event_type.as_str().is_some_and(is_type))?;
    for (name, value) in members {
        let value = match name.as_str() {
            "specversion" | "priority" | "data" | "data_base64" | "subscription" | "position" => continue,
            _ if value.is_null() && is_attribute(name) => continue,
            "time" => json!(unix_ns(value.as_str()?)?),
            "id" | "type" | "source" | "subject" | "dataschema" | "datacontenttype" | "correlationid"
            | "causationid" | "traceparent" => {
                json!(printable(value).filter(|text| !text.is_empty())?)
            }
            _ if !is_attribute(name) => return None,
            _ => match value {
                Value::String(_) => json!(printable(value)?),
                Value::Bool(_) => value.clone(),
                Value::Number(number) => json!(i32::try_from(number.as_i64()?).ok()?),
                _ => return None,
            },
        };
        meaning.insert(name.clone(), value);
    }

    let is_text = get("datacontenttype").is_some_and(|media| !is_json(media.as_str().unwrap_or_default()));
    match (members.get("data"), members.get("data_base64")) {
        (Some(_), Some(_)) => return None,
        (None, None) => {}
        (Some(data), None) => {
            let form = if is_text && data.is_string() { "data, text" } else { "data" };
            meaning.insert(form.to_owned(), data.clone());
        }
        (None, Some(data)) => {
            meaning.insert("data, bytes".to_owned(), json!(base64(data.as_str()?)?));
            if cloud_event {
                meaning.entry("datacontenttype").or_insert_with(|| json!("application/json"));
            }
        }
    }
    Some(meaning)
}

fn is_minus_zero(value: &Value) -> bool {
    value.is_f64() && value.as_f64().is_some_and(|float| float == 0.0 && float.is_sign_negative())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn printable(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.chars().any(char::is_control))
}

fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'))
}

fn in_segment(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-')
}

fn is_type(text: &str) -> bool {
    let segments: Vec<&str> = text.split('.').collect();
    text.len() <= 255 && segments.len() <= 64 && segments.iter().all(|s| !s.is_empty() && s.chars().all(in_segment))
}

fn type_made_of(text: &str) -> String {
    let segment = |segment: &str| match segment {
        "" => "-".to_owned(),
        segment => segment.chars().map(|c| if in_segment(c) { c } else { '-' }).collect(),
    };
    text.split('.').map(segment).collect::<Vec<String>>().join(".")
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// RFC 4648 with padding, bit by bit.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bits = Vec::new();
    for digit in digits.chars() {
        let value = ALPHABET.find(digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let whole = bits.len() / 8 * 8;
    let rest_is_zero = bits[whole..].iter().all(|&bit| bit == 0);
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, &bit| byte << 1 | bit) as u8;
    rest_is_zero.then(|| bits[..whole].chunks(8).map(byte).collect())
}

/// RFC 3339 by counting the days.
fn unix_ns(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i128>().ok())?
    };
    let at = |place: usize, wanted: &str| text.get(place..=place).filter(|found| wanted.contains(found)).map(|_| ());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    for (place, wanted) in [(4, "-"), (7, "-"), (10, "Tt"), (13, ":"), (16, ":")] {
        at(place, wanted)?;
    }
    let zone = text.get(19..)?.find(|c: char| c != '.' && !c.is_ascii_digit())? + 19;
    let nanoseconds = match zone - 19 {
        0 => 0,
        1 | 11.. => return None,
        length => {
            at(19, ".")?;
            number(20..zone)? * 10i128.pow(10 - u32::try_from(length).ok()?)
        }
    };
    let offset_minutes = match text.get(zone..)? {
        "Z" | "z" => 0,
        offset => {
            at(zone, "+-")?;
            at(zone + 3, ":")?;
            let (hours, minutes) = (number(zone + 1..zone + 3)?, number(zone + 4..zone + 6)?);
            if offset.len() != 6 || hours > 25 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if offset.starts_with('-') { -1 } else { 1 }
        }
    };
    let leap = |year: i128| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = |month: i128| match month {
        2 => 28 + i128::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=days_in(month)).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = (1677..year).map(|year| 365 + i128::from(leap(year))).sum::<i128>()
        + (1..month).map(days_in).sum::<i128>()
        + day
        - 1
        - 107_015; // Days from 1677-01-01 to 1970-01-01.
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second.min(59);
    (1677..=2262).contains(&year).then(|| i64::try_from(seconds * 1_000_000_000 + nanoseconds).ok())?
}
