//! Events out of a request, in each of the three modes of CloudEvents over HTTP.
//!
//! | headers | the body is |
//! |---|---|
//! | `content-type: application/cloudevents+json` | one event |
//! | `content-type: application/cloudevents-batch+json` | an array of events |
//! | `ce-specversion` | the data of one event, whose attributes are in headers (binary mode) |
//! | `content-type: application/json` | one event or an array of them, also in the short form |
//!
//! Whatever the mode, an event is read by [`ingress`] as a line is: there is one way to read an event.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use serde_json::value::RawValue;

use super::problem::{Kind, Problem};
use crate::node::ingress::{self, Ingress, IngressError, NeededBy, Rules};

/// What attributes in headers begin with.
const PREFIX: &str = "ce-";

/// The texts of events as they came, each to be read as a line.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    texts: Vec<Cow<'a, [u8]>>,
    is_array: bool,
}

impl<'a> Incoming<'a> {
    /// Finds the events of a request.
    ///
    /// # Errors
    /// Another media type, more events than may be, what is no array where one is said to be.
    pub(super) fn find(headers: &HeaderMap, body: &'a [u8], events_max: usize) -> Result<Self, Problem> {
        let one = |text: Cow<'a, [u8]>| Self { texts: vec![text], is_array: false };
        let media_type = MediaType::of(headers)?;
        match media_type.as_ref().map(|media_type| &*media_type.essence) {
            Some("application/cloudevents+json") => Ok(one(Cow::Borrowed(body))),
            Some("application/cloudevents-batch+json") => Self::array(body, events_max),
            _ if headers.contains_key("ce-specversion") => {
                Ok(one(Cow::Owned(binary(headers, media_type.as_ref(), body)?.into_bytes())))
            }
            Some("application/json") | None if body.trim_ascii_start().starts_with(b"[") => {
                Self::array(body, events_max)
            }
            Some("application/json") => Ok(one(Cow::Borrowed(body))),
            other => {
                let other = other.map_or_else(|| "no content-type".to_owned(), |other| format!("{other:?}"));
                Err(Problem::new(
                    Kind::MediaType,
                    format!(
                        "{other} and no ce- headers is no event; send application/cloudevents+json, \
                         application/cloudevents-batch+json, application/json, or ce- headers"
                    ),
                ))
            }
        }
    }

    fn array(body: &'a [u8], events_max: usize) -> Result<Self, Problem> {
        let texts: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
            Problem::new(Kind::MalformedEvent, format!("the body is no JSON array of events: {error}"))
        })?;
        if texts.len() > events_max {
            let detail =
                format!("{} events are more than the {events_max} of http.batch_max; send fewer at once", texts.len());
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let texts = texts.into_iter().map(|text| Cow::Borrowed(text.get().as_bytes())).collect();
        Ok(Self { texts, is_array: true })
    }

    /// Reads all events.
    ///
    /// # Errors
    /// Everything that is wrong with them, by their places; none is an event then.
    pub(super) fn read(&'a self, rules: &'a Rules) -> Result<Vec<Ingress<'a>>, Problem> {
        let (mut events, mut faults) = (Vec::with_capacity(self.texts.len()), Vec::new());
        for (index, text) in self.texts.iter().enumerate() {
            match ingress::parse(text, rules) {
                Ok(event) => events.push(event),
                Err(error) => faults.push((index, said(&error))),
            }
        }
        match &faults[..] {
            [] => Ok(events),
            [(_, only)] if !self.is_array => Err(Problem::new(Kind::MalformedEvent, only)),
            [(index, first), ..] => {
                let detail = match faults.len() {
                    1 => format!("event {index}: {first}"),
                    many => format!("{many} events are malformed, the first is event {index}: {first}"),
                };
                let errors: Vec<_> =
                    faults.iter().map(|(index, said)| json!({"index": index, "detail": said})).collect();
                Err(Problem::new(Kind::MalformedEvent, detail).with("errors", errors.into()))
            }
        }
    }
}

/// What is wrong with an event, for somebody who has sent no lines and has no flags.
pub(in super::super) fn said(error: &IngressError) -> String {
    match error {
        IngressError::Missing { member, needed_by: NeededBy::ShortForm } => {
            format!("`{member}` is missing; send {{\"type\": .., \"data\": ..}} or a CloudEvent")
        }
        other => {
            let said = other.to_string().replace("the line", "the event").replace("a line with", "an event with");
            said.replace(" data a line", " data").replace(" object a line", " object")
        }
    }
}

/// A media type: what it is, and its parameters aside what they are written in.
#[derive(Debug)]
pub(super) struct MediaType {
    /// In lower case, without parameters.
    pub(super) essence: String,
    /// As it was written.
    full: String,
}

impl MediaType {
    /// That of a body; `None` where it has none.
    ///
    /// # Errors
    /// It is not text, or of another character set than UTF-8.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
        let unknown = |detail: String| Problem::new(Kind::MediaType, detail);
        let full = value.to_str().map_err(|_| unknown("the content-type is not text".to_owned()))?;
        let mut parts = full.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim().trim_matches('"');
            let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| value.eq_ignore_ascii_case(name));
            if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 && is_text(&essence) {
                return Err(unknown(format!("{value:?} is another character set than utf-8; send utf-8")));
            }
        }
        Ok(Some(Self { essence, full: full.to_owned() }))
    }

    pub(super) fn is_json(&self) -> bool {
        let subtype = self.essence.split_once('/').map_or("", |(_, subtype)| subtype);
        subtype == "json" || subtype.ends_with("+json")
    }
}

fn is_text(essence: &str) -> bool {
    essence.starts_with("text/") || essence.ends_with("json")
}

/// One event of binary mode, as the text of structured mode.
fn binary(headers: &HeaderMap, media_type: Option<&MediaType>, body: &[u8]) -> Result<String, Problem> {
    let malformed = |detail: String| Problem::new(Kind::MalformedEvent, detail);
    let mut text = String::from("{");
    for (name, value) in headers {
        // Header names come in lower case.
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        if name.starts_with("data") && matches!(name, "data" | "data_base64" | "datacontenttype") {
            return Err(malformed(format!("the header {PREFIX}{name} is not of binary mode; the body is the data")));
        }
        member(&mut text, name, &json!(attribute(name, value)?).to_string());
    }
    let json = std::str::from_utf8(body).ok().filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    let full = media_type.map(|media_type| &*media_type.full);
    if let Some(full) = full {
        member(&mut text, "datacontenttype", &json!(full).to_string());
    }
    match (media_type, std::str::from_utf8(body), json) {
        (_, Ok(""), _) => {}
        // What does not say what it is is JSON by the standard, where it can be.
        (None, _, Some(json)) => member(&mut text, "data", json),
        (Some(media_type), _, json) if media_type.is_json() => {
            let data = json.ok_or_else(|| malformed(format!("the body is no {}", media_type.essence)))?;
            member(&mut text, "data", data);
        }
        (Some(media_type), Ok(body), _) if media_type.essence.starts_with("text/") => {
            member(&mut text, "data", &json!(body).to_string());
        }
        (media_type, ..) => {
            if media_type.is_none() {
                member(&mut text, "datacontenttype", "\"application/octet-stream\"");
            }
            member(&mut text, "data_base64", &json!(base64(body)).to_string());
        }
    }
    text.push('}');
    Ok(text)
}

/// Appends a member of an object. What stands there twice is refused where the text is read.
fn member(text: &mut String, name: &str, value: &str) {
    if text.len() > 1 {
        text.push(',');
    }
    text.push_str(&json!(name).to_string());
    text.push(':');
    text.push_str(value);
}

/// The value of an attribute: percent-encoded UTF-8.
fn attribute(name: &str, value: &HeaderValue) -> Result<String, Problem> {
    let not_text =
        || Problem::new(Kind::MalformedEvent, format!("the header {PREFIX}{name} is not percent-encoded UTF-8"));
    let value = std::str::from_utf8(value.as_bytes()).map_err(|_| not_text())?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    percent_decode_str(value).decode_utf8().map(Cow::into_owned).map_err(|_| not_text())
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Priority;
    use crate::node::ingress::DataRef;
    use axum::http::HeaderName;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    const BINARY: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop"), ("ce-type", "orders.placed")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&BINARY[..], more].concat()
    }

    #[test]
    fn a_binary_event_is_the_event_of_its_headers() {
        let headers = headers(&with(&[
            ("content-type", "application/json; charset=utf-8"),
            ("ce-priority", "high"),
            ("ce-subject", "Euro%20%E2%82%AC"),
        ]));
        let (rules, body) = (Rules::default(), br#"{"a": [1, 2]}"#);
        let found = Incoming::find(&headers, body, 1).expect("it is binary mode");
        let events = found.read(&rules).expect("it is an event");
        let [event] = &events[..] else { panic!("{events:?}") };
        assert_eq!((event.id.as_deref(), &*event.source, &*event.event_type), (Some("7"), "/shop", "orders.placed"));
        assert_eq!((event.priority, event.subject.as_deref()), (Some(Priority::High), Some("Euro €")));
        assert_eq!(event.data, DataRef::Json(r#"{"a": [1, 2]}"#));
    }

    #[test]
    fn the_data_of_a_binary_event_is_what_its_type_says() {
        let rules = Rules::default();
        let data = |content_type: Option<&str>, body: &[u8]| {
            let mut pairs = BINARY.to_vec();
            pairs.extend(content_type.map(|content_type| ("content-type", content_type)));
            let found = Incoming::find(&headers(&pairs), body, 1).expect("it is binary mode");
            let events = found.read(&rules).expect("it is an event");
            format!("{:?}", events[0].data)
        };
        assert_eq!(data(Some("text/plain"), b"a \"b\""), "Text(\"a \\\"b\\\"\")");
        assert_eq!(data(Some("application/vnd.x+json"), b" 7 "), "Json(\"7\")");
        assert_eq!(data(Some("image/png"), &[0, 255]), "Bytes([0, 255])");
        assert_eq!(data(Some("text/plain"), &[255]), "Bytes([255])");
        assert_eq!(data(None, b"{}"), "Json(\"{}\")");
        assert_eq!(data(None, b"no json"), "Bytes([110, 111, 32, 106, 115, 111, 110])");
        assert_eq!(data(Some("application/json"), b""), "Absent");
    }

    #[test]
    fn a_body_is_data_and_nothing_else() {
        let pairs = with(&[("content-type", "application/json")]);
        for body in [&br#"1,"priority":"critical""#[..], b"1 2", b"{", b"\xff"] {
            assert!(Incoming::find(&headers(&pairs), body, 1).is_err(), "{body:?}");
        }
        for header in [("ce-data", "1"), ("ce-data_base64", "AA=="), ("ce-datacontenttype", "text/plain")] {
            assert!(Incoming::find(&headers(&with(&[header])), b"", 1).is_err(), "{header:?}");
        }
        let mut map = headers(&BINARY);
        map.append("ce-id", HeaderValue::from_static("8"));
        let rules = Rules::default();
        assert!(Incoming::find(&map, b"", 1).expect("it is binary mode").read(&rules).is_err(), "an id twice");
    }

    #[test]
    fn media_types_are_matched_and_not_compared_as_text() {
        let rules = Rules::default();
        let event = br#"{"specversion":"1.0","id":"1","source":"s","type":"a"}"#;
        for content_type in [
            "application/cloudevents+json",
            "Application/CloudEvents+JSON; charset=UTF-8",
            "application/cloudevents+json;charset=\"utf-8\"",
        ] {
            let found = Incoming::find(&headers(&[("content-type", content_type)]), event, 1).expect(content_type);
            assert_eq!(found.read(&rules).expect(content_type).len(), 1);
        }
        for content_type in ["application/cloudevents+json; charset=utf-16", "application/xml", "text/plain", "json"] {
            let refused = Incoming::find(&headers(&[("content-type", content_type)]), event, 1);
            assert!(format!("{:?}", refused.expect_err(content_type)).contains("MediaType"), "{content_type}");
        }
        assert!(format!("{:?}", Incoming::find(&headers(&[]), event, 1).expect_err("no type")).contains("MediaType"));
    }

    #[test]
    fn an_array_is_read_whole_or_not_at_all_and_each_fault_is_told() {
        let rules = Rules::default();
        let json = headers(&[("content-type", "application/json")]);
        let found = Incoming::find(&json, br#" [{"type":"a"}, {"type":"b","data":[1]}]"#, 2).expect("it is an array");
        assert_eq!(found.read(&rules).expect("both are events").len(), 2);
        let found = Incoming::find(&json, br#"[{"type":"a"}, {"typ":"b"}, 7]"#, 3).expect("it is an array");
        let told = format!("{:?}", found.read(&rules).expect_err("two are none"));
        assert!(told.contains("2 events are malformed, the first is event 1: `type` is missing"), "{told}");
        assert!(told.contains("MalformedEvent") && told.contains("Number(2)"), "{told}");
        assert!(Incoming::find(&json, br#"[{"type":"a"},{"type":"a"}]"#, 1).is_err(), "more than may be");
        assert!(Incoming::find(&json, b"[{\"type\":\"a\"}", 1).is_err(), "it does not end");
    }
}
