//! What is said over a live stream, in two dialects.
//!
//! | | with the subprotocol `cloudevents.json` | without |
//! |---|---|---|
//! | an event | a CloudEvent, its place in the store in `position` | `{"type": "event", "event_type", "event_id", "payload", "metadata", "timestamp", "position"}` |
//! | what the node says | a CloudEvent of a type `ringmain.live.…` with `data` | `{"type": "subscribed", …}` |
//! | what a client says | either | either |
//!
//! A position is a text, as all numbers of 64 bits are; clients may write it as a number, too.

use axum::extract::ws::Utf8Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::passage::{self, LastHop};
use super::super::time;
use super::options::Slow;
use super::window::Missing;
use crate::Encoding;
use crate::store::StoredEvent;

/// What types of messages begin with that are CloudEvents.
pub(in super::super) const TYPE_PREFIX: &str = "ringmain.live.";
/// The subprotocol whose messages are CloudEvents.
pub(in super::super) const CLOUDEVENTS: &str = "cloudevents.json";
/// Where messages come from that are no events of the store.
const SOURCE: &str = "/v1/events/live";

/// How messages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// CloudEvents 1.0.
    Cloud,
    /// Objects with a `type`.
    Plain,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Command {
    /// Events that match one of these patterns, too.
    Subscribe {
        patterns: Vec<String>,
        /// Behind this position; without it, what comes from now on.
        #[serde(default, deserialize_with = "position")]
        after: Option<u64>,
        /// Reliably, under this name.
        #[serde(default)]
        name: Option<String>,
        /// What is to become of a slow client.
        #[serde(default)]
        slow: Option<String>,
    },
    /// These patterns no longer.
    Unsubscribe { patterns: Vec<String> },
    /// Everything up to this position is handled.
    Ack {
        #[serde(deserialize_with = "position")]
        position: Option<u64>,
    },
    /// The name of this client no longer: nothing is kept for it, and nothing more comes.
    Forget {},
}

impl Command {
    /// Reads a message, in either dialect.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut message: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("the message is no JSON object: {error}"))?;
        if message.contains_key("specversion") {
            let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
            let Some(kind) = kind.strip_prefix(TYPE_PREFIX).map(str::to_owned) else {
                return Err(format!(
                    "the type of the CloudEvent is {kind:?}; it begins with {TYPE_PREFIX:?} and a command"
                ));
            };
            let Some(Value::Object(mut data)) = message.remove("data") else {
                return Err("the CloudEvent has no object in `data`".to_owned());
            };
            data.insert("type".to_owned(), kind.into());
            message = data;
        }
        serde_json::from_value(Value::Object(message))
            .map_err(|error| format!("{error}; a command is subscribe, unsubscribe, ack or forget"))
    }
}

/// A number, or a text of one.
fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let written = Written::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("a position is a whole number, or a text of one"))?;
    match written {
        Written::Number(position) => Ok(Some(position)),
        Written::Text(text) => match text.parse() {
            Ok(position) => Ok(Some(position)),
            Err(_) => Err(serde::de::Error::custom(format!("{text:?} is no position: a whole number"))),
        },
    }
}

/// What the node says that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// What is subscribed now, and behind which position it begins.
    Subscribed { patterns: Vec<String>, position: u64, name: Option<String>, slow: Slow },
    /// What is left.
    Unsubscribed { patterns: Vec<String> },
    /// Everything up to here is acknowledged, and that is kept.
    Acked { position: u64 },
    /// There is nothing of this name any more.
    Forgotten { name: String },
    /// Of these positions events did not come.
    Gap(Gap),
    /// A message was not understood, or cannot be done; nothing has changed.
    Error { code: &'static str, detail: String },
}

/// Events that a client does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    /// How many that it wanted; `None` where nobody knows.
    pub(super) events: Option<u64>,
    pub(super) reason: &'static str,
}

impl From<&Missing> for Gap {
    fn from(missing: &Missing) -> Self {
        Self { from: missing.from, to: missing.to, events: None, reason: missing.reason }
    }
}

impl Said {
    /// Its word.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Acked { .. } => "acked",
            Self::Forgotten { .. } => "forgotten",
            Self::Gap(_) => "gap",
            Self::Error { .. } => "error",
        }
    }

    /// All but its word.
    pub(super) fn data(&self) -> Value {
        match self {
            Self::Subscribed { patterns, position, name, slow } => {
                let mut data = json!({"patterns": patterns, "position": position.to_string(), "slow": slow.as_str()});
                if let Some(name) = name {
                    data["name"] = name.as_str().into();
                }
                data
            }
            Self::Unsubscribed { patterns } => json!({"patterns": patterns}),
            Self::Acked { position } => json!({"position": position.to_string()}),
            Self::Forgotten { name } => json!({"name": name}),
            Self::Gap(gap) => {
                let mut data = json!({"from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason});
                if let Some(events) = gap.events {
                    data["events"] = events.to_string().into();
                }
                data
            }
            Self::Error { code, detail } => json!({"code": code, "detail": detail}),
        }
    }

    /// As a message.
    pub(super) fn text(&self, dialect: Dialect) -> Utf8Bytes {
        let mut data = self.data();
        let message = match dialect {
            Dialect::Plain => {
                data["type"] = self.kind().into();
                data
            }
            Dialect::Cloud => json!({
                "specversion": "1.0",
                "id": Uuid::now_v7().to_string(),
                "source": SOURCE,
                "type": format!("{TYPE_PREFIX}{}", self.kind()),
                "data": data,
            }),
        };
        message.to_string().into()
    }
}

/// An event of the store as a message.
pub(super) fn event(stored: &StoredEvent, dialect: Dialect) -> Utf8Bytes {
    let mut out = Vec::with_capacity(512);
    match dialect {
        Dialect::Cloud => {
            passage::write_line(&stored.meta(), LastHop::Position(stored.position().get()), &mut out);
            // The line feed.
            out.pop();
        }
        Dialect::Plain => plain(stored, &mut out),
    }
    String::from_utf8(out).expect("JSON was written").into()
}

/// The shape without a subprotocol.
#[derive(Serialize)]
struct PlainEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    event_type: &'a str,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<PlainPayload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    metadata: Map<String, Value>,
    timestamp: &'a str,
    position: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PlainPayload<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

fn plain(stored: &StoredEvent, out: &mut Vec<u8>) {
    let meta = stored.meta();
    let payload = meta.payload();
    let (mut shown, mut base64) = (None, None);
    match (payload.encoding(), payload.text()) {
        (Encoding::Json, Some("")) => {}
        (Encoding::Json, Some(text)) => match serde_json::from_str(text) {
            Ok(json) => shown = Some(PlainPayload::Json(json)),
            // A program may call JSON what is none.
            Err(_) => shown = Some(PlainPayload::Text(text)),
        },
        (Encoding::Text, Some(text)) => shown = Some(PlainPayload::Text(text)),
        _ => base64 = Some(BASE64.encode(payload.bytes())),
    }
    let mut metadata: Map<String, Value> = meta.metadata().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut of_envelope = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value.into());
        }
    };
    of_envelope("source", Some(meta.source().to_owned()));
    of_envelope("priority", Some(meta.priority().as_str().to_owned()));
    of_envelope("correlation_id", meta.correlation().map(|id| id.to_string()));
    of_envelope("causation_id", meta.causation().map(|id| id.to_string()));
    of_envelope("traceparent", meta.trace_parent().map(str::to_owned));
    if let Some(of) = meta.aggregate() {
        metadata.insert("aggregate".to_owned(), json!({"type": of.kind, "id": of.id, "version": of.version}));
    }
    let id = meta.original_id().map_or_else(|| meta.id().to_string(), str::to_owned);
    let mut timestamp = Vec::with_capacity(32);
    time::write(i64::try_from(meta.unix_ns()).unwrap_or(i64::MAX), &mut timestamp);
    let event = PlainEvent {
        kind: "event",
        event_type: meta.topic(),
        event_id: &id,
        payload: shown,
        payload_base64: base64,
        metadata,
        timestamp: std::str::from_utf8(&timestamp).expect("ASCII"),
        position: stored.position().to_string(),
    };
    serde_json::to_writer(out, &event).expect("a Vec<u8> takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_read_in_both_dialects() {
        let subscribe = Command::Subscribe {
            patterns: vec!["orders.*".to_owned()],
            after: Some(7),
            name: Some("billing".to_owned()),
            slow: None,
        };
        for text in [
            r#"{"type":"subscribe","patterns":["orders.*"],"after":7,"name":"billing"}"#,
            r#"{"type":"subscribe","patterns":["orders.*"],"after":"7","name":"billing"}"#,
            r#"{"specversion":"1.0","id":"1","source":"me","type":"ringmain.live.subscribe","data":{"patterns":["orders.*"],"after":"7","name":"billing"}}"#,
        ] {
            assert_eq!(Command::read(text).as_ref(), Ok(&subscribe), "{text}");
        }
        assert_eq!(
            Command::read(r#"{"type":"ack","position":"18446744073709551615"}"#),
            Ok(Command::Ack { position: Some(u64::MAX) })
        );
    }

    #[test]
    fn what_is_no_command_is_said() {
        for (text, part) in [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "missing field `type`"),
            (r#"{"type":"publish"}"#, "unknown variant `publish`"),
            (r#"{"type":"subscribe"}"#, "missing field `patterns`"),
            (r#"{"type":"subscribe","patterns":["a"],"from":1}"#, "unknown field `from`"),
            (r#"{"type":"ack","position":"-1"}"#, "\"-1\" is no position"),
            (r#"{"type":"ack","position":1.5}"#, "a position is a whole number"),
            (r#"{"type":"ack"}"#, "missing field `position`"),
            (r#"{"specversion":"1.0","type":"orders.placed","data":{}}"#, "begins with"),
            (r#"{"specversion":"1.0","type":"ringmain.live.ack"}"#, "no object in `data`"),
        ] {
            let error = Command::read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_reader(text in "\\PC{0,60}|\\{\"type\":\"(subscribe|ack|unsubscribe)\",\\PC{0,30}\\}") {
            drop(Command::read(&text));
        }
    }
}
