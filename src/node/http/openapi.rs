//! `/openapi.json`: the interface described by OpenAPI 3.1, with every status that a handler can answer.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::answer;
use super::params::Params;
use super::problem::{Kind, Problem};

/// One thing that can be asked.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    params: Vec<Value>,
    body: Option<Value>,
    answers: Vec<(StatusCode, &'static str, Value)>,
    problems: &'static [Kind],
}

/// What every request can be answered.
const ALWAYS: [Kind; 4] = [Kind::Malformed, Kind::Unauthorized, Kind::Forbidden, Kind::TooMany];

pub(super) async fn describe(request: Request) -> Result<Response<Body>, Problem> {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| document().to_string().into_bytes());
    Params::read(request.uri(), &[])?;
    Ok(answer::text(StatusCode::OK, answer::JSON, TEXT.clone()))
}

/// The whole description.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method;
        path[method] = operation.described();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ringmain",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A node of an event bus",
            "description": "Events in and out as CloudEvents 1.0, and everything that can be seen and done from outside. \
                Errors are problem details (RFC 9457).",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

impl Operation {
    fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (params, body, answers) = Default::default();
        Self { method: "get", path, id, summary, params, body, answers, problems: &[] }
    }

    fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self { method: "post", ..Self::get(path, id, summary) }
    }

    fn param(mut self, name: &str, about: &str, schema: Value) -> Self {
        self.params.push(json!({"name": name, "in": "query", "description": about, "schema": schema}));
        self
    }

    fn body(self, content: Value) -> Self {
        Self { body: Some(json!({"required": true, "content": content})), ..self }
    }

    /// What it answers when all is well.
    fn answers(mut self, status: StatusCode, about: &'static str, content: Value) -> Self {
        self.answers.push((status, about, content));
        self
    }

    fn problems(self, problems: &'static [Kind]) -> Self {
        Self { problems, ..self }
    }

    fn described(self) -> Value {
        let Self { id, summary, params, body, answers, problems, .. } = self;
        let mut responses: Map<String, Value> = Map::new();
        for (status, about, content) in answers {
            let mut response = json!({"description": about, "content": content});
            if id == "queryEvents" {
                response["headers"] = json!({"Link": {
                    "description": "The next page, where there is one: `<…>; rel=\"next\"`",
                    "schema": {"type": "string"},
                }});
            }
            responses.insert(status.as_str().to_owned(), response);
        }
        let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
        for kind in ALWAYS.iter().chain(problems) {
            let reason = kind.status().canonical_reason().unwrap_or_default();
            let response = responses.entry(kind.status().as_str());
            // Where a status has an answer of its own, that is it.
            response.or_insert_with(|| json!({"description": reason, "content": problem}));
        }
        let mut described = json!({"operationId": id, "summary": summary, "responses": responses});
        if !params.is_empty() {
            described["parameters"] = params.into();
        }
        if let Some(body) = body {
            described["requestBody"] = body;
        }
        described
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn as_json(schema: Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn operations() -> Vec<Operation> {
    let events = json!({"type": "array", "items": reference("CloudEvent")});
    let number = |min: u64| json!({"type": "integer", "minimum": min});
    vec![
        Operation::get("/v1/events", "queryEvents", "Events of the store, a page at a time")
            .param("type", "A pattern: `*` is one segment, `**` any number", json!({"type": "string", "default": "**"}))
            .param("source", "Of this source", json!({"type": "string"}))
            .param("correlation", "Of this correlation", json!({"type": "string", "format": "uuid"}))
            .param("after", "Behind this position, where an earlier page ended", number(0))
            .param("limit", "Events of the page, at most `http.page_max`", number(1))
            .param("order", "By position", json!({"enum": ["oldest", "newest"], "default": "oldest"}))
            .param("wait", "Seconds to wait for events where there are none, at most `http.wait_max`", number(0))
            .answers(StatusCode::OK, "The events", json!({
                "application/json": {"schema": events},
                "application/cloudevents-batch+json": {"schema": events},
            }))
            .problems(&[Kind::Gone, Kind::Failed, Kind::Unavailable]),
        Operation::post("/v1/events", "publishEvents", "Publishes one event or several, all of them or none")
            .body(json!({
                "application/cloudevents+json": {"schema": reference("NewCloudEvent")},
                "application/cloudevents-batch+json": {"schema": {"type": "array", "items": reference("NewCloudEvent")}},
                "application/json": {"schema": {"anyOf": [
                    reference("NewEvent"), {"type": "array", "items": reference("NewEvent")},
                ]}},
            }))
            .answers(StatusCode::ACCEPTED, "They are kept as said, and will be delivered", as_json(reference("Accepted")))
            .problems(&[Kind::Timeout, Kind::TooLarge, Kind::MediaType, Kind::Unavailable]),
        Operation::get("/health/live", "live", "Whether the process answers")
            .answers(StatusCode::OK, "It does", as_json(json!({
                "type": "object", "required": ["status"], "properties": {"status": {"const": "live"}},
            }))),
        Operation::get("/health/ready", "ready", "Whether the node takes events")
            .answers(StatusCode::OK, "It does", as_json(reference("Ready")))
            .answers(StatusCode::SERVICE_UNAVAILABLE, "It does not", as_json(reference("Ready"))),
        Operation::get("/openapi.json", "describe", "This description")
            .answers(StatusCode::OK, "It", as_json(json!({"type": "object"}))),
    ]
}

fn schemas() -> Value {
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
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| format!("urn:ringmain:problem:{}", kind.word())).collect();
    json!({
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
            "required": ["status", "node", "bus", "services"],
            "properties": {
                "status": {"enum": ["ready", "not ready"]},
                "node": {"enum": ["starting", "running", "stopping", "stopped"]},
                "bus": {
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
    })
}
