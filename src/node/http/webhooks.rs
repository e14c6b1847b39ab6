//! `POST /v1/webhooks/{name}`: events that others send in their own form, and sign.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::json;

use super::answer::{self, Answer};
use super::events::{keep, not_valid};
use super::extract::{InPath, Plain};
use super::problem::{Kind, Problem};
use crate::Frame;
use crate::node::core::Core;
use crate::node::services::ServiceState;
use crate::node::services::builtin::{Webhook, WebhookError, WebhookIngress};

pub(super) async fn receive(Plain(app): Plain, InPath(name): InPath<String>, request: Request) -> Answer {
    let ingress = app.core.webhooks.iter().find(|ingress| ingress.path() == name);
    let ingress = ingress.ok_or_else(|| Problem::not_found(format!("there is no webhook {name:?}")))?;
    if !runs(&app.core, ingress) {
        return Err(Problem::unavailable(format!("the webhook {name} is stopped")));
    }
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    ingress.check(header).map_err(|error| refused(&error))?;
    let held = app.read_unsigned(&parts.headers, body, ingress.body_bytes_max()).await?;
    let frame = frame(&app.core, &ingress.receive(header, &held.bytes).map_err(|error| refused(&error))?)?;
    let id = frame.meta().original_id().map_or_else(|| frame.meta().id().to_string(), str::to_owned);
    let word = app.core.word();
    keep(&app.core, vec![frame], word).await?;
    let word = app.core.word_told(word).to_string();
    Ok(answer::json(StatusCode::ACCEPTED, &json!({"ids": [id], "durability": word})))
}

fn runs(core: &Core, ingress: &Arc<WebhookIngress>) -> bool {
    use crate::node::services::Service;
    core.services.get(ingress.name()).is_some_and(|status| status.state == ServiceState::Running)
}

/// The event of a request, to be stored.
fn frame(core: &Core, webhook: &Webhook<'_>) -> Result<Frame, Problem> {
    let mut framer = core.framer();
    let mut event = framer.event().source(&webhook.source);
    if let Some(id) = &webhook.id {
        event = match id.parse() {
            Ok(id) => event.id(id),
            Err(_) => event.foreign_id(&webhook.source, id),
        };
    }
    if let Some(content_type) = &webhook.content_type {
        event = event.metadata("datacontenttype", content_type);
    }
    event.to_frame(webhook.event_type.as_str(), webhook.data).map_err(|error| not_valid(0, &error))
}

fn refused(error: &WebhookError) -> Problem {
    let kind = match error {
        WebhookError::Signature => Kind::Unauthorized,
        WebhookError::TooLong { .. } => Kind::TooLarge,
        _ => Kind::MalformedEvent,
    };
    Problem::new(kind, error)
}
