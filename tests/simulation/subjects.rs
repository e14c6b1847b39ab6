//! What is published: topics, payloads small and large, envelopes.

use std::time::Duration;

use ringmain::{EventId, Outgoing, Priority, Topic};
use rkyv::{Archive, Serialize};

use crate::draw::Draw;
use crate::services::SERVICES;

/// Its own archive: copied into its slot as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize)]
pub(crate) struct Small {
    pub(crate) token: u64,
    pub(crate) twice: u64,
}

/// With a tail, which may need a block.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize)]
pub(crate) struct Large {
    pub(crate) token: u64,
    pub(crate) body: Vec<u8>,
}

pub(crate) const SMALL: Topic<Small> = Topic::new("sim.small");
pub(crate) const LARGE: Topic<Large> = Topic::new("sim.large");
pub(crate) const NAMES: [&str; 7] =
    ["orders.placed", "orders.eu.failed", "metrics.cpu", "stock", "a.b.c.failed", "sim.small", "sim.large"];
pub(crate) const PATTERNS: [&str; 10] = [
    "*",
    "**",
    "orders.*",
    "orders.**",
    "**.failed",
    "metrics.cpu",
    "sim.*",
    "stock",
    "nobody.speaks.of.this",
    "orders.placed",
];
pub(crate) const SOURCES: [&str; 3] = ["service:till", "filesystem:watcher", "a-source-of-its-own"];

pub(crate) const PAYLOAD_BYTES_MAX: usize = 4_000;

/// The type of a typed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Small,
    Large,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Small(Small),
    Large(Large),
    Text(String),
    Raw(Vec<u8>),
}

impl Content {
    pub(crate) fn draw(draw: &mut Draw) -> (&'static str, Self) {
        let bytes = match draw.below(20) {
            0..12 => draw.below(40),
            12..16 => 100 + draw.below(500),
            16..19 => 1_000 + draw.below(2_500),
            _ => PAYLOAD_BYTES_MAX + 500,
        };
        let token = draw.next();
        let body = || (0..bytes as u64).map(|at| (token.wrapping_mul(at + 1) >> 32) as u8).collect();
        match draw.below(6) {
            0 => (SMALL.name(), Self::Small(Small { token, twice: token.wrapping_mul(2) })),
            1 => (LARGE.name(), Self::Large(Large { token, body: body() })),
            2 => (draw.pick(&NAMES), Self::Text(format!("{token:016x}").repeat(bytes / 16))),
            _ => (draw.pick(&NAMES), Self::Raw(body())),
        }
    }

    /// How a typed subscription reads it.
    pub(crate) fn shape(&self) -> Option<Shape> {
        match self {
            Self::Small(_) => Some(Shape::Small),
            Self::Large(_) => Some(Shape::Large),
            Self::Text(_) | Self::Raw(_) => None,
        }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        let bytes = match self {
            Self::Small(_) => 16,
            Self::Large(large) => large.body.len(),
            Self::Text(text) => text.len(),
            Self::Raw(bytes) => bytes.len(),
        };
        bytes > PAYLOAD_BYTES_MAX
    }
}

/// One event to be published.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) topic: &'static str,
    pub(crate) content: Content,
    pub(crate) priority: Priority,
    pub(crate) id: Option<EventId>,
    pub(crate) source: Option<&'static str>,
    pub(crate) expires_after: Option<Duration>,
    pub(crate) not_before: Option<Duration>,
    pub(crate) correlation: Option<EventId>,
    pub(crate) attempt: u8,
    pub(crate) metadata: Option<&'static str>,
    /// Services that it names.
    pub(crate) targets: Vec<&'static str>,
    /// Nanoseconds since 1970; only what is shown depends on it.
    pub(crate) created_at: Option<u64>,
}

impl Spec {
    /// Topic, payload and priority.
    pub(crate) fn plain(draw: &mut Draw) -> Self {
        let (topic, content) = Content::draw(draw);
        Self {
            topic,
            content,
            priority: draw.pick(&Priority::ALL),
            id: None,
            source: None,
            expires_after: None,
            not_before: None,
            correlation: None,
            attempt: 1,
            metadata: None,
            targets: Vec::new(),
            created_at: None,
        }
    }

    /// With much to say.
    pub(crate) fn dressed(draw: &mut Draw) -> Self {
        let mut spec = Self::plain(draw);
        spec.id = draw.one_in(6).then(|| EventId::from(u128::from(draw.next()) << 64 | u128::from(draw.next())));
        spec.source = draw.one_in(4).then(|| draw.pick(&SOURCES));
        spec.expires_after = draw.one_in(2).then(|| some_time(draw));
        spec.not_before = draw.one_in(3).then(|| some_time(draw));
        spec.correlation = draw.one_in(4).then(|| EventId::from(u128::from(draw.next())));
        spec.attempt = 1 + draw.below(3) as u8;
        spec.metadata = draw.one_in(4).then_some("ada");
        for _ in 0..draw.pick(&[0, 0, 1, 1, 2]) {
            spec.targets.push(draw.pick(&SERVICES));
        }
        spec.created_at = draw.one_in(8).then(|| draw.next() >> 3);
        spec
    }

    pub(crate) fn dress<'p>(&self, mut event: Outgoing<'p>) -> Outgoing<'p> {
        event = event.priority(self.priority).attempt(self.attempt);
        if let Some(id) = self.id {
            event = event.id(id);
        }
        if let Some(source) = self.source {
            event = event.source(source);
        }
        if let Some(time) = self.expires_after {
            event = event.expires_after(time);
        }
        if let Some(time) = self.not_before {
            event = event.not_before(time);
        }
        if let Some(id) = self.correlation {
            event = event.correlation(id);
        }
        if let Some(user) = self.metadata {
            event = event.metadata("user", user);
        }
        for target in &self.targets {
            event = event.target(target);
        }
        if let Some(unix_ns) = self.created_at {
            event = event.created_at_unix_ns(unix_ns);
        }
        event
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!((self.expires_after, self.not_before), (Some(deadline), Some(due)) if deadline < due)
    }
}

/// From nothing to an hour, most of it short.
pub(crate) fn some_time(draw: &mut Draw) -> Duration {
    match draw.below(8) {
        0 => Duration::ZERO,
        1..5 => Duration::from_micros(draw.below(5_000) as u64),
        5..7 => Duration::from_millis(draw.below(20_000) as u64),
        _ => Duration::from_secs(draw.below(3_600) as u64),
    }
}

/// Evaluates an expression with the topic and payload of a [`Content`] under two names.
macro_rules! with_subject {
    ($content:expr, $name:expr, |$topic:ident, $payload:ident| $call:expr) => {
        match $content {
            $crate::subjects::Content::Small(value) => {
                let ($topic, $payload) = (ringmain::Topic::<$crate::subjects::Small>::new($name), value);
                $call
            }
            $crate::subjects::Content::Large(value) => {
                let ($topic, $payload) = (ringmain::Topic::<$crate::subjects::Large>::new($name), value);
                $call
            }
            $crate::subjects::Content::Text(text) => {
                let ($topic, $payload) = ($name, ringmain::Payload::plain_text(text));
                $call
            }
            $crate::subjects::Content::Raw(bytes) => {
                let ($topic, $payload) = ($name, ringmain::Payload::raw(bytes));
                $call
            }
        }
    };
}
pub(crate) use with_subject;
