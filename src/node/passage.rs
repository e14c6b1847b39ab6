//! The way of an event through the bus: how what a line says is put into an envelope, and found there again.
//!
//! | attribute | travels as |
//! |---|---|
//! | `id` that is a UUID in lower case, none | the event's id |
//! | `id` of another text | the event's id, made of it, and its text |
//! | `type`, `source`, `priority`, `traceparent` | themselves |
//! | `correlationid`, `causationid` that are UUIDs in lower case | themselves |
//! | these two as another text, `subject`, `dataschema`, `datacontenttype` | metadata under their names |
//! | `time` | metadata `time`, nanoseconds of Unix time: to the nanosecond, and before 1970 too |
//! | no `time` beside an `id` | metadata `time`, empty: nothing is added to a CloudEvent |
//! | an extension attribute that is a string | metadata under its name |
//! | an extension attribute that is an integer or a boolean | metadata, its name behind `i:` or `b:` |
//!
//! No attribute's name has a colon, so none takes the place of another.

use std::borrow::Cow;
use std::time::Duration;

use super::egress::{self, Egress};
use super::ingress::{Attribute, DataRef, Ingress};
use crate::{Encoding, EventId, Meta, Outgoing, Payload, PublishError, Publisher};

/// Publishes `event`, waiting for room as long as it takes.
///
/// # Errors
/// When the event breaks a limit of the bus, or the bus has stopped; it is then not published.
pub(super) fn publish(publisher: &mut Publisher, event: &Ingress<'_>) -> Result<EventId, PublishError> {
    let mut outgoing = publisher.at(event.priority.unwrap_or_default()).source(&event.source);
    if let Some(id) = event.id.as_deref() {
        outgoing = match uuid(id) {
            Some(uuid) => outgoing.id(uuid),
            None => outgoing.foreign_id(&event.source, id),
        };
    }
    if let Some(correlation) = event.correlation_id.as_deref() {
        outgoing = match uuid(correlation) {
            Some(uuid) => outgoing.correlation(uuid),
            None => outgoing.metadata("correlationid", correlation),
        };
    }
    if let Some(causation) = event.causation_id.as_deref() {
        outgoing = match uuid(causation) {
            Some(uuid) => outgoing.causation(uuid),
            None => outgoing.metadata("causationid", causation),
        };
    }
    if let Some(trace_parent) = event.trace_parent.as_deref() {
        outgoing = outgoing.trace_parent(trace_parent);
    }
    // Not the event's own time of creation: that one is this bus's, so that latencies are measured.
    match event.time_unix_ns {
        Some(unix_ns) => outgoing = outgoing.metadata("time", &unix_ns.to_string()),
        None if event.id.is_some() => outgoing = outgoing.metadata("time", ""),
        None => {}
    }
    for (name, text) in
        [("subject", &event.subject), ("dataschema", &event.data_schema), ("datacontenttype", &event.content_type)]
    {
        if let Some(text) = text {
            outgoing = outgoing.metadata(name, text);
        }
    }
    for (name, value) in &event.extensions {
        outgoing = extension(outgoing, name, value);
    }
    let payload = match &event.data {
        // Well-formed JSON is never empty.
        DataRef::Absent => Payload::json(""),
        DataRef::Json(json) => Payload::json(json),
        DataRef::Text(text) => Payload::plain_text(text),
        DataRef::Bytes(bytes) => Payload::raw(bytes),
    };
    outgoing.publish_deadline(event.event_type.as_ref(), payload, Duration::MAX)
}

fn extension<'p>(outgoing: Outgoing<'p>, name: &str, value: &Attribute<'_>) -> Outgoing<'p> {
    match value {
        Attribute::Text(text) => outgoing.metadata(name, text),
        Attribute::Integer(integer) => outgoing.metadata(&format!("i:{name}"), &integer.to_string()),
        Attribute::Boolean(boolean) => outgoing.metadata(&format!("b:{name}"), if *boolean { "true" } else { "false" }),
    }
}

/// Appends the line of an event that is delivered to `subscription`, with its line feed.
///
/// # Cost
/// Allocates where `out` has to grow, and for ids and extension attributes.
pub(super) fn write_line(meta: &Meta<'_>, subscription: &str, out: &mut Vec<u8>) {
    let texts = [Some(meta.id()).filter(|_| meta.original_id().is_none()), meta.correlation(), meta.causation()];
    let [id, correlation, causation] = texts.map(|id| id.map(|id| id.to_string()));
    let mut event = Egress {
        id: meta.original_id().or(id.as_deref()).unwrap_or_default(),
        source: meta.source(),
        event_type: meta.topic(),
        time_unix_ns: i64::try_from(meta.unix_ns()).ok(),
        subject: None,
        data_schema: None,
        content_type: None,
        priority: meta.priority(),
        subscription: Some(subscription),
        correlation_id: correlation.as_deref(),
        causation_id: causation.as_deref(),
        trace_parent: meta.trace_parent(),
        extensions: &[],
        payload: payload(meta.payload()),
    };
    let mut extensions = Vec::new();
    for (key, value) in meta.metadata() {
        match key {
            "time" => event.time_unix_ns = value.parse().ok(),
            "subject" => event.subject = Some(value),
            "dataschema" => event.data_schema = Some(value),
            "datacontenttype" => event.content_type = Some(value),
            "correlationid" => event.correlation_id = Some(value),
            "causationid" => event.causation_id = Some(value),
            name => extensions.push(attribute(name, value)),
        }
    }
    event.extensions = &extensions;
    event.write_line(out);
}

fn attribute<'a>(name: &'a str, value: &'a str) -> (Cow<'a, str>, Attribute<'a>) {
    let typed = match name.split_once(':') {
        Some(("i", name)) => value.parse().ok().map(|integer| (name, Attribute::Integer(integer))),
        Some(("b", name)) => value.parse().ok().map(|boolean| (name, Attribute::Boolean(boolean))),
        _ => None,
    };
    let (name, value) = typed.unwrap_or((name, Attribute::Text(Cow::Borrowed(value))));
    (Cow::Borrowed(name), value)
}

fn payload(payload: Payload<'_>) -> egress::Payload<'_> {
    match (payload.encoding(), payload.text()) {
        (Encoding::Json, Some("")) => egress::Payload::Absent,
        (Encoding::Json, Some(json)) => egress::Payload::Json(json),
        (Encoding::Text, Some(text)) => egress::Payload::Text(text),
        (Encoding::Protobuf, _) => egress::Payload::Protobuf(payload.bytes()),
        (Encoding::Rkyv, _) => egress::Payload::Rkyv(payload.bytes()),
        _ => egress::Payload::Bytes(payload.bytes()),
    }
}

/// The UUID that prints as `text`, which the braced, bare, `urn:` and upper-case spellings do not.
fn uuid(text: &str) -> Option<EventId> {
    const HYPHENATED_BYTES: usize = 36;
    if text.len() != HYPHENATED_BYTES || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    text.parse().ok()
}
