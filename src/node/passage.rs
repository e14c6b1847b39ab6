//! The way of an event through the bus or a store: how what a line says is put into an envelope, and found there again.
//!
//! | attribute | travels as |
//! |---|---|
//! | `id` that is a UUID in lower case, none | the event's id |
//! | `id` of another text | the event's id, made of it, and its text |
//! | `type`, `source`, `priority`, `traceparent` | themselves |
//! | `correlationid`, `causationid` that are UUIDs in lower case | themselves |
//! | these two as another text, `subject`, `dataschema`, `datacontenttype` | metadata under their names |
//! | `time` of an event to be stored | the time of its creation |
//! | any other `time` | metadata `time`, nanoseconds of Unix time: to the nanosecond, and before 1970 too |
//! | no `time` beside an `id` | metadata `time`, empty: nothing is added to a CloudEvent |
//! | `aggregatetype`, `aggregateid`, `aggregateversion`, all three of them | the aggregate that the event changed |
//! | `schemaversion` | the version of the payload's schema: a number if it is one above 1, else its text |
//! | `data_base64` with the content type `application/protobuf` or `application/x-rkyv` | a payload of that encoding |
//! | an extension attribute that is a string | metadata under its name |
//! | an extension attribute that is an integer or a boolean | metadata, its name behind `i:` or `b:` |
//!
//! No attribute's name has a colon, so none takes the place of another. Metadata that a program gave a key that is no
//! attribute's name, such as `Trace-Id`, leave together: the attribute `metadata` is the text of a JSON object of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::egress::{self, Egress};
use super::ingress::{Attribute, DataRef, Ingress, is_attribute_name};
use crate::{Aggregate, Encoding, EventId, Frame, Meta, Outgoing, Payload, PublishError, Publisher};

const PROTOBUF: &str = "application/protobuf";
const RKYV: &str = "application/x-rkyv";

/// Publishes `event`, waiting for room as long as it takes.
///
/// # Errors
/// When the event breaks a limit of the bus, or the bus has stopped; it is then not published.
pub(super) fn publish(publisher: &mut Publisher, event: &Ingress<'_>) -> Result<EventId, PublishError> {
    // Not the event's own time of creation: that one is this bus's, so that latencies are measured.
    let outgoing = envelope(publisher, event, event.time_unix_ns);
    outgoing.publish_deadline(event.event_type.as_ref(), payload(event), Duration::MAX)
}

/// The frame of `event`, to be stored.
///
/// # Errors
/// When the event breaks a limit.
pub(super) fn to_frame(publisher: &mut Publisher, event: &Ingress<'_>) -> Result<Frame, PublishError> {
    let created = event.time_unix_ns.and_then(|time| u64::try_from(time).ok());
    let mut outgoing = envelope(publisher, event, event.time_unix_ns.filter(|_| created.is_none()));
    if let Some(created) = created {
        outgoing = outgoing.created_at_unix_ns(created);
    }
    outgoing.to_frame(event.event_type.as_ref(), payload(event))
}

/// All but the payload. `time_unix_ns` is what is not the time of its creation.
fn envelope<'p>(publisher: &'p mut Publisher, event: &Ingress<'_>, time_unix_ns: Option<i64>) -> Outgoing<'p> {
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
    match (time_unix_ns, event.time_unix_ns) {
        (Some(unix_ns), _) => outgoing = outgoing.metadata("time", &unix_ns.to_string()),
        (None, None) if event.id.is_some() => outgoing = outgoing.metadata("time", ""),
        (None, _) => {}
    }
    let content_type =
        event.content_type.as_ref().filter(|name| implied(&event.data) != Some(name) && encoding(event).is_none());
    for (name, text) in
        [("subject", &event.subject), ("dataschema", &event.data_schema), ("datacontenttype", &content_type.cloned())]
    {
        if let Some(text) = text {
            outgoing = outgoing.metadata(name, text);
        }
    }
    let aggregate = aggregate(event);
    if let Some(aggregate) = aggregate {
        outgoing = outgoing.aggregate(aggregate);
    }
    for (name, value) in &event.extensions {
        outgoing = match (&**name, value) {
            ("aggregatetype" | "aggregateid" | "aggregateversion", _) if aggregate.is_some() => outgoing,
            ("schemaversion", Attribute::Text(text)) => match canonical(text) {
                Some(version @ 2..) => outgoing.schema_version(version),
                _ => outgoing.schema_text(text),
            },
            ("metadata", Attribute::Text(text)) => match odd_keys(text) {
                Some(pairs) => pairs.iter().fold(outgoing, |outgoing, (key, value)| outgoing.metadata(key, value)),
                None => outgoing.metadata(name, text),
            },
            _ => extension(outgoing, name, value),
        };
    }
    outgoing
}

/// The aggregate that an event names in full.
fn aggregate<'a>(event: &'a Ingress<'_>) -> Option<Aggregate<'a>> {
    let text = |wanted: &str| {
        event.extensions.iter().find_map(|(name, value)| match value {
            Attribute::Text(text) if name == wanted => Some(&**text),
            _ => None,
        })
    };
    let version = canonical(text("aggregateversion")?).filter(|version| *version > 0)?;
    Some(Aggregate { kind: text("aggregatetype")?, id: text("aggregateid")?, version })
}

/// The number that prints as `text`.
fn canonical<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

/// The metadata that the attribute `metadata` holds, if that is what it is.
fn odd_keys(text: &str) -> Option<BTreeMap<String, String>> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    pairs.keys().all(|key| is_odd(key) || OWN.contains(&&**key)).then_some(pairs)
}

/// Attributes that stand for something else than metadata of their name.
const OWN: [&str; 5] = ["aggregatetype", "aggregateid", "aggregateversion", "schemaversion", "metadata"];

/// Whether a key of metadata can not leave as an attribute's name, as it is or behind its form.
fn is_odd(key: &str) -> bool {
    let name = key.strip_prefix("i:").or_else(|| key.strip_prefix("b:")).unwrap_or(key);
    !is_attribute_name(name)
}

/// The content type that a payload leaves with if nothing else is said.
fn implied(data: &DataRef<'_>) -> Option<&'static str> {
    match data {
        DataRef::Text(_) => Some("text/plain"),
        DataRef::Bytes(_) => Some("application/octet-stream"),
        DataRef::Absent | DataRef::Json(_) => None,
    }
}

/// The encoding that the content type of bytes names.
fn encoding(event: &Ingress<'_>) -> Option<Encoding> {
    match (&event.data, event.content_type.as_deref()?) {
        (DataRef::Bytes(_), PROTOBUF) => Some(Encoding::Protobuf),
        (DataRef::Bytes(_), RKYV) => Some(Encoding::Rkyv),
        _ => None,
    }
}

fn payload<'a>(event: &'a Ingress<'_>) -> Payload<'a> {
    match (&event.data, encoding(event)) {
        // Well-formed JSON is never empty.
        (DataRef::Absent, _) => Payload::json(""),
        (DataRef::Json(json), _) => Payload::json(json),
        (DataRef::Text(text), _) => Payload::plain_text(text),
        (DataRef::Bytes(bytes), Some(Encoding::Protobuf)) => Payload::protobuf(bytes),
        (DataRef::Bytes(bytes), Some(Encoding::Rkyv)) => Payload::rkyv(bytes),
        (DataRef::Bytes(bytes), _) => Payload::raw(bytes),
    }
}

fn extension<'p>(outgoing: Outgoing<'p>, name: &str, value: &Attribute<'_>) -> Outgoing<'p> {
    match value {
        Attribute::Text(text) => outgoing.metadata(name, text),
        Attribute::Integer(integer) => outgoing.metadata(&format!("i:{name}"), &integer.to_string()),
        Attribute::Boolean(boolean) => outgoing.metadata(&format!("b:{name}"), if *boolean { "true" } else { "false" }),
    }
}

/// What a line says of where its event was last, beside the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastHop<'a> {
    Nothing,
    /// It was delivered to this subscription.
    Subscription(&'a str),
    /// It is at this position of a store.
    Position(u64),
    /// The same, and it comes from there once more: the attribute `replay` says so.
    Replay(u64),
}

/// Appends the line of an event, with its line feed.
///
/// # Cost
/// Allocates where `out` has to grow, and for ids and extension attributes.
pub(super) fn write_line(meta: &Meta<'_>, last_hop: LastHop<'_>, out: &mut Vec<u8>) {
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
        subscription: None,
        position: None,
        correlation_id: correlation.as_deref(),
        causation_id: causation.as_deref(),
        trace_parent: meta.trace_parent(),
        extensions: &[],
        payload: payload_out(meta.payload()),
    };
    match last_hop {
        LastHop::Nothing => {}
        LastHop::Subscription(subscription) => event.subscription = Some(subscription),
        LastHop::Position(position) | LastHop::Replay(position) => event.position = Some(position),
    }
    let mut extensions = Vec::new();
    let is_replay = matches!(last_hop, LastHop::Replay(_));
    if is_replay {
        extensions.push((Cow::Borrowed("replay"), Attribute::Boolean(true)));
    }
    let mut text =
        |name, text: Cow<'_, str>| extensions.push((Cow::Borrowed(name), Attribute::Text(text.into_owned().into())));
    if let Some(Aggregate { kind, id, version }) = meta.aggregate() {
        text("aggregatetype", kind.into());
        text("aggregateid", id.into());
        text("aggregateversion", version.to_string().into());
    }
    match (meta.schema_text(), meta.schema_version()) {
        (Some(version), _) => text("schemaversion", version.into()),
        (None, version @ 2..) => text("schemaversion", version.to_string().into()),
        (None, _) => {}
    }
    let mut odd = BTreeMap::new();
    for (key, value) in meta.metadata() {
        match key {
            "time" => event.time_unix_ns = value.parse().ok(),
            "subject" => event.subject = Some(value),
            "dataschema" => event.data_schema = Some(value),
            "datacontenttype" => event.content_type = Some(value),
            "correlationid" => event.correlation_id = Some(value),
            "causationid" => event.causation_id = Some(value),
            // Of an earlier replay.
            "b:replay" if is_replay => {}
            key if is_odd(key) || extensions.iter().any(|(name, _)| name == key) => drop(odd.insert(key, value)),
            name => extensions.push(attribute(name, value)),
        }
    }
    if !odd.is_empty() {
        if let Some(at) = extensions.iter().position(|(name, _)| name == "metadata") {
            extensions.remove(at);
            odd.extend(meta.get("metadata").map(|value| ("metadata", value)));
        }
        let odd = serde_json::to_string(&odd).expect("text is always JSON");
        extensions.push((Cow::Borrowed("metadata"), Attribute::Text(odd.into())));
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

fn payload_out(payload: Payload<'_>) -> egress::Payload<'_> {
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
