//! Events from others' webhooks: what came, and its signature, made into an event. Whoever has the connection routes to it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::super::event_type;
use super::super::super::health::Health;
use super::super::{Service, Work};
use super::signature::{SIGNATURE_HEADER, Secret};
use crate::{EventId, Payload, PublishError, Publisher, Topic, TopicError};

/// A source of events over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The last part of its path, and what its events are called after: 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// What the sender signs with; any of several, so that one can take the place of another. At least one.
    pub secrets: Vec<Secret>,
    /// The header that has the signature. Default [`SIGNATURE_HEADER`].
    pub signature_header: String,
    /// The type of its events. Default `external.webhook.` and the name.
    pub event_type: String,
    /// The header whose value goes on with the type, `x-github-event` for example. Default none.
    pub type_header: Option<String>,
    /// The header that names a delivery, `x-github-delivery` for example: one that comes again has the same event id. Default none.
    pub id_header: Option<String>,
    /// Bytes that a body has at most. Default 1 MiB.
    pub body_bytes_max: usize,
}

impl WebhookOptions {
    /// The defaults, for a name and a secret.
    pub fn new(name: impl Into<String>, secret: Secret) -> Self {
        let name = name.into();
        Self {
            event_type: format!("external.webhook.{name}"),
            name,
            secrets: vec![secret],
            signature_header: SIGNATURE_HEADER.to_owned(),
            type_header: None,
            id_header: None,
            body_bytes_max: 1 << 20,
        }
    }
}

/// Why there is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WebhookError {
    /// It is not set up as it has to be.
    Options(&'static str),
    /// There is no signature, or not the one that the secret makes. Which is not said.
    Signature,
    /// The body is too long.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        body_bytes_max: usize,
    },
    /// The body is said to be JSON, and is none.
    Json(String),
    /// No type of an event can be made of the header.
    Type(TopicError),
}

impl WebhookError {
    /// The status of an answer that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::Options(_) => 500,
            Self::Signature => 401,
            Self::TooLong { .. } => 413,
            Self::Json(_) | Self::Type(_) => 400,
        }
    }
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(said) => f.write_str(said),
            Self::Signature => {
                f.write_str("the signature is not that of this body; sign it with the secret of this webhook")
            }
            Self::TooLong { bytes, body_bytes_max } => {
                write!(f, "the body has {bytes} bytes, the limit is {body_bytes_max}; raise body_bytes_max")
            }
            Self::Json(said) => write!(f, "the body is not the JSON that content-type says it is: {said}"),
            Self::Type(error) => write!(f, "the type: {error}"),
        }
    }
}

impl Error for WebhookError {}

/// An event that came by a webhook. Its data is borrowed from the body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Webhook<'b> {
    /// Its type.
    pub event_type: String,
    /// `webhook:` and the name.
    pub source: String,
    /// What the sender calls the delivery.
    pub id: Option<String>,
    /// The media type that the sender gave.
    pub content_type: Option<String>,
    /// The body.
    pub data: Payload<'b>,
}

impl Webhook<'_> {
    /// Publishes it, as the policy of the publisher says.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&self, publisher: &mut Publisher) -> Result<EventId, PublishError> {
        let mut event = publisher.event().source(&self.source);
        if let Some(id) = &self.id {
            event = match id.parse() {
                Ok(id) => event.id(id),
                Err(_) => event.foreign_id(&self.source, id),
            };
        }
        if let Some(content_type) = &self.content_type {
            event = event.metadata("datacontenttype", content_type);
        }
        event.publish(self.event_type.as_str(), self.data)
    }
}

/// Requests since the last check of health.
#[derive(Debug, Default)]
struct Seen {
    signed: u64,
    unsigned: u64,
}

/// A source of events over HTTP, as a function of headers and body.
#[derive(Debug)]
pub struct WebhookIngress {
    options: WebhookOptions,
    seen: Mutex<Seen>,
}

impl WebhookIngress {
    /// As the options say.
    ///
    /// # Errors
    /// [`WebhookError::Options`] without a secret or with a name that is none; [`WebhookError::Type`].
    pub fn new(options: WebhookOptions) -> Result<Self, WebhookError> {
        let name = &options.name;
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_letter) {
            return Err(WebhookError::Options("the name of a webhook has 1 to 64 letters, digits, '-' and '_'"));
        }
        if options.secrets.is_empty() || options.secrets.iter().any(Secret::is_empty) {
            return Err(WebhookError::Options("a webhook needs a secret, or anybody could send events; give it one"));
        }
        Topic::check(&options.event_type).map_err(WebhookError::Type)?;
        Ok(Self { options, seen: Mutex::default() })
    }

    /// The last part of its path.
    pub fn path(&self) -> &str {
        &self.options.name
    }

    /// Bytes that a body has at most: more need not be read.
    pub fn body_bytes_max(&self) -> usize {
        self.options.body_bytes_max
    }

    /// What can be said before the body is there: whether a request is signed at all.
    ///
    /// # Errors
    /// [`WebhookError::Signature`].
    pub fn check<'h>(&self, header: impl Fn(&str) -> Option<&'h str>) -> Result<(), WebhookError> {
        if header(&self.options.signature_header).is_none_or(str::is_empty) {
            self.seen().unsigned += 1;
            return Err(WebhookError::Signature);
        }
        Ok(())
    }

    /// Makes an event of a request, of which `header` gives the headers by their names in lower case.
    ///
    /// # Errors
    /// See [`WebhookError`]. The signature is looked at before anything that the sender could have made up.
    pub fn receive<'h, 'b>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &'b [u8],
    ) -> Result<Webhook<'b>, WebhookError> {
        let (options, bytes) = (&self.options, body.len());
        if bytes > options.body_bytes_max {
            return Err(WebhookError::TooLong { bytes, body_bytes_max: options.body_bytes_max });
        }
        let signature = header(&options.signature_header).unwrap_or_default();
        // All are tried, so that the time does not say which of them is right.
        let verified = options.secrets.iter().fold(false, |found, secret| secret.verifies(body, signature) | found);
        if !verified {
            self.seen().unsigned += 1;
            return Err(WebhookError::Signature);
        }
        self.seen().signed += 1;
        let event_type = match options.type_header.as_deref().and_then(&header) {
            None => Cow::Borrowed(options.event_type.as_str()),
            Some(more) => Cow::Owned(format!("{}.{}", options.event_type, more.trim().replace('.', "-"))),
        };
        let event_type = event_type::sanitise(&event_type).map_err(WebhookError::Type)?.into_owned();
        let content_type = header("content-type").map(str::trim).filter(|text| !text.is_empty());
        let media_type =
            content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
        let is_json = media_type.ends_with("/json") || media_type.ends_with("+json");
        let data = match std::str::from_utf8(body) {
            Ok(text) if is_json => {
                serde_json::from_str::<serde::de::IgnoredAny>(text)
                    .map_err(|error| WebhookError::Json(error.to_string()))?;
                Payload::json(text)
            }
            Err(error) if is_json => return Err(WebhookError::Json(error.to_string())),
            Ok(text) if media_type.starts_with("text/") => Payload::plain_text(text),
            _ => Payload::raw(body),
        };
        let id = options.id_header.as_deref().and_then(&header).map(str::trim).filter(|id| !id.is_empty());
        Ok(Webhook {
            event_type,
            source: format!("webhook:{}", options.name),
            id: id.map(str::to_owned),
            content_type: content_type.filter(|_| !is_json).map(str::to_owned),
            data,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for WebhookIngress {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn kind(&self) -> &str {
        "webhook"
    }

    fn health(&self) -> Work<'_, Health> {
        Box::pin(async {
            match std::mem::take(&mut *self.seen()) {
                Seen { signed: 0, unsigned: requests @ 1.. } => Health::Degraded(format!(
                    "{requests} requests since the last check, none of them signed with the secret of this webhook"
                )),
                _ => Health::Healthy,
            }
        })
    }
}
