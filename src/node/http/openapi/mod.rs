//! `/openapi.json`: the interface described by OpenAPI 3.1, with every status that a handler can answer.

mod operations;
mod schemas;

use std::sync::LazyLock;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer};
use super::extract::Plain;
use super::problem::Kind;
use crate::node::live::asyncapi;

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

pub(super) async fn describe(_: Plain) -> Answer {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| document().to_string().into_bytes());
    Ok(answer::text(StatusCode::OK, answer::JSON, TEXT.clone()))
}

/// The same of live streams, by AsyncAPI 3.0.
pub(super) async fn describe_live(_: Plain) -> Answer {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| asyncapi().to_string().into_bytes());
    Ok(answer::text(StatusCode::OK, answer::JSON, TEXT.clone()))
}

/// The whole description.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations::all() {
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
            "schemas": schemas::all(),
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

    fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self { method: "put", ..Self::get(path, id, summary) }
    }

    fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self { method: "delete", ..Self::get(path, id, summary) }
    }

    /// What stands in the path.
    fn named(mut self, name: &str, about: &str, schema: Value) -> Self {
        self.params.push(json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema}));
        self
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
            let mut response = json!({"description": about});
            if !content.is_null() {
                response["content"] = content;
            }
            if params.iter().any(|param| param["name"] == "after") {
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
