//! The live interface in the words of AsyncAPI 3.0.

use serde_json::{Map, Value, json};

use super::message::{CLOUDEVENTS, Gap, Said, TYPE_PREFIX};
use super::options::Slow;
use super::socket::CLOSE_CODES;

/// A message of a client, with an example.
struct Sent {
    kind: &'static str,
    summary: &'static str,
    example: Value,
    fields: Value,
    required: &'static [&'static str],
}

/// The description, to be served at `/asyncapi.json`.
pub fn asyncapi() -> Value {
    let mut messages = Map::new();
    for sent in sent() {
        messages.insert(sent.kind.to_owned(), message(&sent));
    }
    for said in said() {
        messages.insert(said.kind().to_owned(), message_said(&said));
    }
    messages.insert("event".to_owned(), event());
    let names = |names: &[&str], channel: &str| -> Vec<Value> {
        names.iter().map(|name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")})).collect()
    };
    let in_channel = |names: &[&str]| -> Map<String, Value> {
        let part = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")}));
        names.iter().map(part).collect()
    };
    let commands: Vec<_> = sent().iter().map(|sent| sent.kind).collect();
    let answers: Vec<_> = said().iter().map(Said::kind).chain(["event"]).collect();
    let all: Vec<_> = commands.iter().chain(&answers).copied().collect();
    let codes: Vec<_> = CLOSE_CODES.iter().map(|(code, meaning)| format!("* {code}: {meaning}")).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "ringmain live events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events of the store as they come, in the order of their positions. Whoever comes back says after which position.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {"host": "localhost:8080", "protocol": "ws", "description": "The node that serves this description."},
        },
        "channels": {
            "live": {
                "address": "/v1/events/live",
                "title": "WebSocket",
                "description": format!(
                    "With the subprotocol {CLOUDEVENTS} each message is a CloudEvent; what is no event of the store has a type that begins with {TYPE_PREFIX}. Without it each message is an object with a `type`. Close codes:\n{}",
                    codes.join("\n"),
                ),
                "messages": in_channel(&all),
                "bindings": {"ws": {"method": "GET", "query": query(&["spill", "conflate", "close"])}},
            },
            "stream": {
                "address": "/v1/events/stream",
                "title": "Server-Sent Events",
                "description": "The id of each event is its position; the header Last-Event-ID says after which one to go on.",
                "messages": in_channel(&["event", "gap"]),
                "bindings": {"http": {}},
            },
        },
        "operations": {
            "command": {
                "action": "receive",
                "channel": {"$ref": "#/channels/live"},
                "messages": names(&commands, "live"),
            },
            "live": {
                "action": "send",
                "channel": {"$ref": "#/channels/live"},
                "messages": names(&answers, "live"),
            },
            "stream": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "messages": names(&["event", "gap"], "stream"),
            },
        },
        "components": {"messages": messages},
    })
}

fn query(slow: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "A pattern; may be given more than once."},
            "after": position("Behind this position; what comes from now on without it."),
            "slow": {"type": "string", "enum": slow},
        },
    })
}

fn position(description: &str) -> Value {
    json!({"type": "string", "pattern": "^[0-9]+$", "description": description})
}

fn patterns() -> Value {
    json!({
        "type": "array",
        "items": {"type": "string"},
        "description": "Names of types with dots; `*` is one segment, `**` any number of them, a lone `*` everything.",
    })
}

/// What clients say.
fn sent() -> [Sent; 4] {
    [
        Sent {
            kind: "subscribe",
            summary: "Events that match one of these patterns, too.",
            example: json!({"type": "subscribe", "patterns": ["orders.*"], "after": "100"}),
            fields: json!({
                "patterns": patterns(),
                "after": position("With the first subscription: behind this position; 0 is from the first event on."),
                "name": {"type": "string", "description": "With the first subscription: reliably. What is not acknowledged comes again when a client subscribes under this name."},
                "slow": {"type": "string", "enum": ["spill", "conflate", "close"]},
            }),
            required: &["type", "patterns"],
        },
        Sent {
            kind: "unsubscribe",
            summary: "These patterns no longer.",
            example: json!({"type": "unsubscribe", "patterns": ["orders.*"]}),
            fields: json!({"patterns": patterns()}),
            required: &["type", "patterns"],
        },
        Sent {
            kind: "ack",
            summary: "Everything up to this position is handled.",
            example: json!({"type": "ack", "position": "101"}),
            fields: json!({"position": position("Of an event that came.")}),
            required: &["type", "position"],
        },
        Sent {
            kind: "forget",
            summary: "The name of this client no longer: nothing is kept for it, and nothing more comes.",
            example: json!({"type": "forget"}),
            fields: json!({}),
            required: &["type"],
        },
    ]
}

/// One of each that the node says.
fn said() -> [Said; 6] {
    let patterns = vec!["orders.*".to_owned()];
    let name = Some("billing".to_owned());
    [
        Said::Subscribed { patterns: patterns.clone(), position: 100, name, slow: Slow::Spill },
        Said::Unsubscribed { patterns },
        Said::Acked { position: 101 },
        Said::Forgotten { name: "billing".to_owned() },
        Said::Gap(Gap { from: 102, to: 140, events: Some(12), reason: "conflated" }),
        Said::Error { code: "malformed", detail: "the message is no JSON object".to_owned() },
    ]
}

fn summary(said: &Said) -> &'static str {
    match said {
        Said::Subscribed { .. } => "What is subscribed now; events behind this position come.",
        Said::Unsubscribed { .. } => "What is subscribed still.",
        Said::Acked { .. } => "Everything up to this position is acknowledged, and that is kept.",
        Said::Forgotten { .. } => "There is nothing of this name any more; a subscription under it is a new one.",
        Said::Gap(_) => {
            "Between these positions events do not come: so many, where it is known, and why (conflated, removed, damaged)."
        }
        Said::Error { .. } => "A message was not understood, or cannot be done; nothing has changed.",
    }
}

fn message(sent: &Sent) -> Value {
    let mut properties = sent.fields.clone();
    properties["type"] = json!({"const": sent.kind});
    json!({
        "name": sent.kind,
        "summary": sent.summary,
        "contentType": "application/json",
        "payload": {"type": "object", "required": sent.required, "properties": properties, "additionalProperties": false},
        "examples": [{"payload": sent.example}],
    })
}

fn message_said(said: &Said) -> Value {
    let mut example = said.data();
    example["type"] = said.kind().into();
    let mut properties: Map<String, Value> = Map::new();
    for (name, value) in example.as_object().expect("it is one") {
        let of_array = || json!({"type": "array", "items": {"type": "string"}});
        properties.insert(name.clone(), if value.is_array() { of_array() } else { json!({"type": "string"}) });
    }
    properties["type"] = json!({"const": said.kind()});
    json!({
        "name": said.kind(),
        "summary": summary(said),
        "contentType": "application/json",
        "payload": {"type": "object", "required": ["type"], "properties": properties},
        "examples": [{"payload": example}],
    })
}

fn event() -> Value {
    let text = || json!({"type": "string"});
    json!({
        "name": "event",
        "summary": "An event of the store.",
        "contentType": "application/json",
        "payload": {"oneOf": [
            {
                "title": "CloudEvent",
                "type": "object",
                "required": ["specversion", "id", "source", "type", "position"],
                "properties": {
                    "specversion": {"const": "1.0"}, "id": text(), "source": text(), "type": text(), "time": text(),
                    "position": position("Its place in the store."), "data": {}, "data_base64": text(),
                },
            },
            {
                "title": "Plain",
                "type": "object",
                "required": ["type", "event_type", "event_id", "metadata", "timestamp", "position"],
                "properties": {
                    "type": {"const": "event"}, "event_type": text(), "event_id": text(), "payload": {},
                    "payload_base64": text(), "metadata": {"type": "object"}, "timestamp": text(),
                    "position": position("Its place in the store."),
                },
            },
        ]},
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::{Command, Dialect};
    use super::*;

    #[test]
    fn every_message_that_is_described_is_one_and_every_one_is_described() {
        let text = asyncapi().to_string();
        let described: Value = serde_json::from_str(&text).expect("it is JSON");
        let messages = described["components"]["messages"].as_object().expect("messages");
        for sent in sent() {
            let example = messages[sent.kind]["examples"][0]["payload"].to_string();
            let command = Command::read(&example).expect("an example is a command");
            // Whoever adds one comes here.
            let kind = match command {
                Command::Subscribe { .. } => "subscribe",
                Command::Unsubscribe { .. } => "unsubscribe",
                Command::Ack { .. } => "ack",
                Command::Forget {} => "forget",
            };
            assert_eq!(kind, sent.kind);
        }
        for said in said() {
            let plain: Value = serde_json::from_str(&said.text(Dialect::Plain)).expect("it is JSON");
            assert_eq!(messages[said.kind()]["examples"][0]["payload"], plain);
            let cloud: Value = serde_json::from_str(&said.text(Dialect::Cloud)).expect("it is JSON");
            assert_eq!(cloud["type"], format!("{TYPE_PREFIX}{}", said.kind()));
        }
        assert_eq!(messages.len(), sent().len() + said().len() + 1);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let described = asyncapi();
        let mut found = Vec::new();
        references(&described, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let path = reference.strip_prefix('#').expect("within the document");
            assert!(described.pointer(path).is_some(), "{reference}");
        }
        for code in CLOSE_CODES {
            let text = described["channels"]["live"]["description"].as_str().expect("a text");
            assert!(text.contains(&code.0.to_string()));
        }
    }
}
