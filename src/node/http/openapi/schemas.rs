//! The shapes of what goes in and out.

use serde_json::{Value, json};

use super::super::problem::Kind;
use super::reference;

pub(super) fn all() -> Value {
    let attributes = json!({
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$", "maxLength": 255},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "minLength": 1},
        "dataschema": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": "string", "minLength": 1},
        "data": {},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
        "priority": {"enum": ["critical", "high", "normal", "low"]},
        "correlationid": {"type": "string", "minLength": 1},
        "causationid": {"type": "string", "minLength": 1},
        "traceparent": {"type": "string", "minLength": 1},
    });
    let mut kept = attributes.clone();
    kept["position"] = json!({"type": "string", "description": "Its place in the store"});
    let extension = json!({"type": ["string", "boolean", "integer"]});
    let new = |required: &[&str]| {
        json!({
            "type": "object",
            "required": required,
            "properties": attributes,
            "patternProperties": {"^[a-z0-9]+$": true},
            "additionalProperties": false,
            "not": {"required": ["data", "data_base64"]},
        })
    };
    let (text, perhaps, whole) =
        (json!({"type": "string"}), json!({"type": ["string", "null"]}), json!({"type": "integer"}));
    let time = json!({"type": "string", "format": "date-time"});
    let texts = json!({"type": "array", "items": text});
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| format!("urn:ringmain:problem:{}", kind.word())).collect();
    let mut all = json!({
        "CloudEvent": {
            "type": "object",
            "required": ["specversion", "id", "source", "type"],
            "properties": kept,
            "additionalProperties": extension,
        },
        "NewCloudEvent": new(&["specversion", "id", "source", "type"]),
        "NewEvent": new(&["type"]),
        "Accepted": {
            "type": "object",
            "required": ["ids", "durability"],
            "properties": {
                "ids": {"type": "array", "items": {"type": "string"}},
                "durability": {
                    "enum": ["accepted", "written", "durable"],
                    "description": "What the events survive: nothing, the end of the process, the loss of power",
                },
            },
        },
        "Ready": {
            "type": "object",
            "required": ["status", "health", "node", "bus", "services"],
            "properties": {
                "status": {"enum": ["ready", "not ready"]},
                "health": reference("Health"),
                "reason": {"type": ["string", "null"]},
                "node": {"enum": ["starting", "running", "stopping", "stopped"]},
                "bus": {
                    "type": "object",
                    "required": ["health"],
                    "properties": {"health": reference("Health"), "reason": {"type": ["string", "null"]}},
                },
                "store": {
                    "type": "object",
                    "required": ["health"],
                    "properties": {"health": reference("Health"), "reason": {"type": ["string", "null"]}},
                },
                "live": {
                    "type": "object",
                    "required": ["health"],
                    "properties": {"health": reference("Health"), "reason": {"type": ["string", "null"]}},
                },
                "services": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name", "state", "health"],
                    "properties": {
                        "name": {"type": "string"},
                        "state": {"type": "string"},
                        "health": reference("Health"),
                    },
                }},
            },
        },
        "Subscription": {
            "type": "object",
            "required": ["id", "name", "pattern", "paused", "matched", "open", "delivered", "dead_lettered", "dropped"],
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "name": text, "pattern": text, "filters": text, "handler": text,
                "created": time,
                "last_delivered": {"type": ["string", "null"], "format": "date-time"},
                "paused": {"type": "boolean"},
                "breaker": {
                    "type": ["object", "null"],
                    "required": ["state", "failures"],
                    "properties": {
                        "state": {"enum": ["closed", "open", "half-open"]},
                        "failures": whole,
                        "last_failure": {"type": ["string", "null"], "format": "date-time"},
                        "half_opens_at": {"type": ["string", "null"], "format": "date-time"},
                    },
                },
                "takes_replays": {"type": "boolean"},
                "matched": whole, "open": whole, "delivered": whole, "failed": whole, "retried": whole, "dead_lettered": whole,
                "dropped": whole,
            },
        },
        "Rule": {
            "type": "object",
            "required": ["id", "targets"],
            "additionalProperties": false,
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 255},
                "name": {"type": "string", "maxLength": 255},
                "filter": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "event_types": texts, "sources": texts,
                        "priorities": {"type": "array", "items": {"enum": ["critical", "high", "normal", "low"]}},
                    },
                },
                "targets": {"type": "array", "items": text, "minItems": 1, "maxItems": 16},
                "priority": {"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX},
                "enabled": {"type": "boolean", "default": true},
                "conditions": {"type": "array", "items": reference("Condition"), "maxItems": 64},
            },
        },
        "Condition": {
            "description": "A group (`all`, `any`, `not`), or a field and one comparison",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "all": {"type": "array", "items": reference("Condition")},
                "any": {"type": "array", "items": reference("Condition")},
                "not": reference("Condition"),
                "field": text,
                "equals": {}, "not_equals": {}, "less_than": {}, "greater_than": {}, "contains": {},
                "starts_with": text,
                "one_of": {"type": "array"},
                "exists": {"const": true},
            },
        },
        "Explained": {
            "type": "object",
            "required": ["rules", "subscriptions"],
            "properties": {
                "rules": {"type": "array", "items": {
                    "type": "object",
                    "required": ["rule", "name", "matches", "reason"],
                    "properties": {"rule": text, "name": text, "matches": {"type": "boolean"}, "reason": text},
                }},
                "subscriptions": {"type": "array", "items": {
                    "type": "object",
                    "required": ["id", "name", "pattern", "says"],
                    "properties": {"id": text, "name": text, "pattern": text, "says": text},
                }},
            },
        },
        "OtherRules": {
            "type": "object",
            "required": ["rules"],
            "additionalProperties": false,
            "properties": {
                "rules": {"type": "array", "items": reference("Rule")},
                "events": {
                    "description": "To try them with; default: the latest of the store",
                    "type": "array",
                    "items": reference("NewEvent"),
                },
                "type": {"description": "Of the latest events, those that match this pattern", "type": "string"},
                "limit": {"type": "integer", "minimum": 0, "maximum": 10_000},
            },
        },
        "RulesDiff": {
            "type": "object",
            "required": ["samples", "changes"],
            "properties": {
                "samples": whole,
                "changes": {"type": "array", "items": {
                    "type": "object",
                    "required": ["event", "type", "before", "after"],
                    "properties": {"event": text, "type": text, "before": texts, "after": texts},
                }},
            },
        },
        "Service": {
            "type": "object",
            "required": ["name", "kind", "needs", "state", "since", "health", "recoveries", "history"],
            "properties": {
                "name": text, "kind": text, "needs": texts, "state": text, "since": time, "health": reference("Health"),
                "reason": perhaps, "failure": perhaps, "recoveries": whole,
                "history": {"type": "array", "items": {
                    "type": "object",
                    "required": ["time", "health"],
                    "properties": {"time": time, "health": reference("Health"), "reason": perhaps},
                }},
            },
        },
        "Services": {
            "type": "object",
            "required": ["services", "instances"],
            "properties": {
                "services": {"type": "array", "items": reference("Service")},
                "instances": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name", "address", "left_s"],
                    "properties": {"name": text, "address": text, "health_path": perhaps, "left_s": whole},
                }},
            },
        },
        "NewInstance": {
            "type": "object",
            "required": ["name", "address", "lease_s"],
            "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
                "address": {"type": "string", "description": "Host and port"},
                "health_path": perhaps,
                "lease_s": {"type": "integer", "minimum": 1, "maximum": 3_600},
            },
        },
        "Lease": {"type": "object", "required": ["lease", "lease_s"], "properties": {"lease": text, "lease_s": whole}},
        "DeadLetter": {
            "type": "object",
            "required": ["id", "died", "reason", "attempts", "subscription", "event"],
            "properties": {
                "id": whole, "died": time, "reason": text, "attempts": whole,
                "first_attempt": {"type": ["string", "null"], "format": "date-time"},
                "subscription": text, "error": perhaps, "event": reference("CloudEvent"),
            },
        },
        "NewReplay": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "type": {"description": "A pattern", "type": ["string", "null"]},
                "source": perhaps,
                "from": {"description": "A position or a time", "type": ["string", "null"]},
                "to": {"description": "A position or a time", "type": ["string", "null"]},
                "subscription": perhaps,
                "rate": {"description": "Events a second", "type": ["number", "null"], "exclusiveMinimum": 0},
                "dry_run": {"type": "boolean", "default": false},
            },
        },
        "Replay": {
            "type": "object",
            "required": ["id", "state", "asked", "begun", "published", "expired"],
            "properties": {
                "id": whole,
                "state": {"enum": ["running", "done", "cancelled", "failed"]},
                "asked": {"type": "object"},
                "begun": time, "published": whole, "expired": whole, "position": perhaps, "error": perhaps,
            },
        },
        "ReplayEstimate": {
            "type": "object",
            "required": ["events", "bytes", "subscriptions"],
            "properties": {
                "events": whole, "bytes": whole, "first": perhaps, "last": perhaps, "subscriptions": texts,
                "seconds": {"type": ["number", "null"]},
            },
        },
        "Config": {
            "type": "object",
            "required": ["settings", "watch", "subscriptions", "webhooks"],
            "properties": {
                "settings": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name", "value", "origin", "default", "takes", "live", "help"],
                    "properties": {
                        "name": text, "value": text, "origin": text, "default": text, "takes": text, "live": {"type": "boolean"},
                        "help": text,
                    },
                }},
                "watch": texts,
                "subscriptions": {"type": "array", "items": {
                    "type": "object",
                    "required": ["event_type", "handlers", "delivery", "capacity"],
                    "properties": {"event_type": text, "handlers": texts, "delivery": text, "capacity": whole},
                }},
                "webhooks": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name", "secret_file", "event_type"],
                    "properties": {"name": text, "secret_file": text, "event_type": perhaps},
                }},
            },
        },
        "Change": {
            "type": "object",
            "required": ["setting", "from", "to"],
            "properties": {"setting": text, "from": text, "to": text},
        },
        "AuditRecord": {
            "type": "object",
            "required": ["position", "id", "time", "actor", "action", "object", "version"],
            "properties": {
                "position": text, "id": text, "time": time, "actor": text, "action": text, "object": text, "version": whole,
                "before": perhaps, "after": perhaps, "cause": perhaps,
            },
        },
        "Health": {"enum": ["healthy", "degraded", "unhealthy"]},
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"enum": kinds},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "errors": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"index": {"type": "integer"}, "detail": {"type": "string"}},
                }},
            },
        },
    });
    // One literal more would be too long for the macro.
    (all["Overview"], all["Latency"]) = (overview(), latency());
    all
}

/// What the page shows.
fn overview() -> Value {
    let (text, perhaps, whole) =
        (json!({"type": "string"}), json!({"type": ["string", "null"]}), json!({"type": "integer"}));
    let texts = json!({"type": "array", "items": text});
    let stream = object(&[("source", &text), ("type", &text), ("count", &whole)]);
    let subscription = object(&[
        ("id", &text),
        ("name", &text),
        ("types", &texts),
        ("filtered", &json!({"type": "boolean"})),
        ("health", &json!({"enum": ["well", "paused", "open", "half-open"]})),
        ("matched", &whole),
        ("failed", &whole),
        ("dead_lettered", &whole),
        ("open", &whole),
    ]);
    let alert = object(&[("rule", &text), ("subject", &text), ("state", &text), ("severity", &text), ("value", &text)]);
    let flow = object(&[
        ("streams", &array(stream)),
        ("subscriptions", &array(subscription)),
        ("left_out", &object(&[("streams", &whole), ("subscriptions", &whole)])),
        ("balanced", &json!({"type": "boolean"})),
    ]);
    let found =
        object(&[("cut_bytes", &whole), ("cut_may_be_written", &json!({"type": "boolean"})), ("damaged", &whole)]);
    let mut opened = object(&[
        ("state", &json!({"enum": ["whole", "cut", "damaged"]})),
        ("opened_in_ns", &whole),
        ("events", &whole),
        ("segments", &whole),
        ("indexed_events", &whole),
        ("indices_missing", &whole),
        ("indices_removed", &whole),
        ("archives_removed", &whole),
        ("log", &found),
        ("table", &found),
    ]);
    opened["type"] = json!(["object", "null"]);
    opened["description"] = json!("The store as it was found when it was opened; null where it is not in files");
    let lane = object(&[("priority", &text), ("depth", &whole), ("latency", &reference("Latency"))]);
    object(&[
        ("time", &json!({"type": "string", "format": "date-time"})),
        ("version", &text),
        ("node", &text),
        ("health", &reference("Health")),
        ("reason", &perhaps),
        ("store", &opened),
        ("durability", &text),
        ("published", &whole),
        ("delivered", &whole),
        ("failed", &whole),
        ("retried", &whole),
        ("dropped", &whole),
        ("refused", &whole),
        ("unmatched", &whole),
        ("dead_letters", &object(&[("held", &whole), ("redriven", &whole), ("lost", &whole)])),
        ("memory_fill", &json!({"type": "number"})),
        ("clients", &whole),
        ("queue_limit", &whole),
        ("lanes", &array(lane)),
        ("latency", &reference("Latency")),
        ("flow", &flow),
        ("alerts", &array(alert)),
    ])
}

/// All of these are there.
fn object(properties: &[(&str, &Value)]) -> Value {
    let required: Vec<_> = properties.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<_, _> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), (*schema).clone())).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

fn array(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// Of a lane or of all.
fn latency() -> Value {
    let whole = json!({"type": "integer"});
    json!({
        "description": "By stage, in nanoseconds",
        "type": "object",
        "required": ["queue", "route", "handler", "ack", "total"],
        "additionalProperties": {
            "type": "object",
            "required": ["count", "p50", "p95", "p99", "p999", "max"],
            "additionalProperties": whole,
        },
    })
}
