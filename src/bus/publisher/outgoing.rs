//! The envelope of an event, and the verbs that publish it.

use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use crate::event::{Aggregate, Encode, EnvelopeError, EventId, EventSource, Frame, Meta, Priority, ServiceTarget, Tag};

use super::super::Explanation;
use super::{Detour, Envelope, Miss, PublishError, Publisher, Subject, Waiting};

/// An event under way to be published: its envelope. End it with one of the publishing verbs.
#[must_use = "nothing is published until one of the publishing verbs is called"]
pub struct Outgoing<'p> {
    pub(super) publisher: &'p mut Publisher,
    pub(super) envelope: Envelope,
}

impl<'p> Outgoing<'p> {
    /// How urgent it is. Default Normal.
    #[inline]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.envelope.priority = priority;
        self
    }

    /// An id from outside. Default: a new version 7 UUID.
    pub fn id(mut self, id: EventId) -> Self {
        self.envelope.id = Some(id);
        self
    }

    /// The text of an id from outside that is no UUID: the event gets [`EventId::from_foreign`] of it, and the text
    /// travels along.
    pub fn foreign_id(mut self, source: &str, id: &str) -> Self {
        self.publisher.extension.text(Tag::OriginalId, "id", id, 1024);
        self.envelope.id = Some(EventId::from_foreign(source, id));
        self
    }

    /// When it was created, in nanoseconds of Unix time, for an event from outside. Default: now. It is shown by the
    /// wall clock, so a step of that clock while the event is under way moves it as well.
    pub fn created_at_unix_ns(mut self, unix_ns: u64) -> Self {
        self.envelope.time = self.publisher.engine.directory.clock.instant_of(unix_ns);
        self
    }

    /// Who published, when it is not this publisher's source.
    pub fn source(mut self, source: &str) -> Self {
        let (bytes, max) = (source.len(), EventSource::BYTES_MAX);
        if bytes > max {
            // Not interned: the directory keeps what it knows for ever.
            self.publisher.extension.reject(EnvelopeError::Field { field: "source", bytes, max });
            return self;
        }
        let known = self.publisher.sources.get(source).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.publisher.engine.directory.intern_source(source);
            if id != 0 {
                self.publisher.sources.insert(source.into(), id);
            }
            id
        });
        if id == 0 {
            self.publisher.extension.text(Tag::Source, "source", source, max);
        }
        self.envelope.source_id = id;
        self
    }

    /// What it belongs to: the same id on all events of one story.
    pub fn correlation(self, id: EventId) -> Self {
        self.publisher.extension.id(Tag::Correlation, id);
        self
    }

    /// The event that caused it.
    pub fn causation(self, id: EventId) -> Self {
        self.publisher.extension.id(Tag::Causation, id);
        self
    }

    /// The aggregate that changed.
    pub fn aggregate(self, aggregate: Aggregate<'_>) -> Self {
        self.publisher.extension.aggregate(aggregate);
        self
    }

    /// Nobody wants it later than this long from now: it is then counted as expired instead of delivered.
    pub fn expires_after(mut self, time: Duration) -> Self {
        self.envelope.deadline = self.publisher.engine.directory.clock.after(time);
        self
    }

    /// It is due this long from now, and waits with the timers until then (at most `scheduled_max` events do).
    pub fn not_before(mut self, time: Duration) -> Self {
        let due = self.publisher.engine.directory.clock.after(time);
        self.publisher.extension.number(Tag::NotBefore, due);
        self.envelope.due = due;
        self
    }

    /// Which attempt at delivery this is, for an event that comes again. Default 1.
    pub fn attempt(mut self, attempt: u8) -> Self {
        self.envelope.attempt = attempt;
        self
    }

    /// The version of the payload's schema. Default 1.
    pub fn schema_version(mut self, version: u16) -> Self {
        self.envelope.schema = version;
        self
    }

    /// The version of the payload's schema as a text, such as `2.1.0-beta`.
    pub fn schema_text(self, version: &str) -> Self {
        self.publisher.extension.text(Tag::SchemaText, "schema version", version, 255);
        self
    }

    /// A service it is meant for; may be given up to 16 times.
    pub fn target<'t>(self, service: impl Into<ServiceTarget<'t>>) -> Self {
        self.publisher.extension.target(service.into());
        self
    }

    /// The W3C `traceparent` it travels with.
    pub fn trace_parent(self, traceparent: &str) -> Self {
        self.publisher.extension.text(Tag::TraceParent, "traceparent", traceparent, 255);
        self
    }

    /// A free entry; up to 32.
    pub fn metadata(self, key: &str, value: &str) -> Self {
        self.publisher.extension.metadata(key, value);
        self
    }

    /// What each subscription would do with this event, and why; nothing is published. Predicates are asked, on this
    /// thread.
    ///
    /// # Errors
    /// When the event is invalid.
    pub fn explain<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<Vec<Explanation>, PublishError> {
        self.checked();
        let (header, mut block) = self.publisher.encode(&topic, &payload, &self.envelope)?;
        let publisher = self.publisher;
        let rest = match &mut block {
            Some(block) => block.bytes(),
            None => &publisher.scratch[..],
        };
        let shared = &publisher.shared;
        let meta = Meta::new(&header, rest, 0, &shared.engine.directory).map_err(|_| PublishError::Encode)?;
        Ok(shared.explain(topic.name(), meta.source(), self.envelope.priority, Some(&meta)))
    }

    /// The event as a frame; nothing is published. To keep it first and publish it then, with
    /// [`Publisher::publish_frame`].
    ///
    /// # Errors
    /// When the event is invalid.
    ///
    /// # Cost
    /// Allocates the frame. A payload longer than a slot takes a block of the pool meanwhile.
    pub fn to_frame<S: Subject<P>, P: Encode + Copy>(mut self, topic: S, payload: P) -> Result<Frame, PublishError> {
        self.checked();
        if self.envelope.time == 0 {
            self.envelope.time = self.publisher.engine.directory.clock.now();
        }
        let Self { publisher, envelope } = self;
        let encoded = publisher.encode(&topic, &payload, &envelope);
        let (header, mut block) = publisher.settle(encoded)?;
        let rest = match &mut block {
            Some(block) => block.bytes(),
            None => &publisher.scratch[..],
        };
        let directory = &publisher.shared.engine.directory;
        let meta = Meta::new(&header, rest, 0, directory).map_err(|_| PublishError::Encode)?;
        Ok(Frame::of(&meta))
    }

    fn checked(&mut self) {
        let Envelope { deadline, due, .. } = self.envelope;
        if deadline != 0 && deadline < due {
            self.publisher.extension.reject(EnvelopeError::DeadlineBeforeDue);
        }
    }

    /// Publishes; at a full lane it does what the [`FullPolicy`](crate::FullPolicy) says.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing of a refused event is in the bus.
    #[inline]
    pub fn publish<S: Subject<P>, P: Encode + Copy>(mut self, topic: S, payload: P) -> Result<EventId, PublishError> {
        match self.at_once(&topic, &payload) {
            Ok(id) => Ok(id),
            Err(miss) => {
                let limit = self.publisher.policy.wait_limit();
                self.publish_after_a_miss(miss, limit, topic, payload)
            }
        }
    }

    /// Publishes, or fails at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    #[inline]
    pub fn try_publish<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        match self.at_once(&topic, &payload) {
            Ok(id) => Ok(id),
            Err(miss) => self.publish_after_a_miss(miss, None, topic, payload),
        }
    }

    /// Publishes, waiting at most `limit`. On a worker thread it does not wait: the lane would wait for itself.
    ///
    /// # Errors
    /// See [`PublishError`].
    #[inline]
    pub fn publish_deadline<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
        limit: Duration,
    ) -> Result<EventId, PublishError> {
        match self.at_once(&topic, &payload) {
            Ok(id) => Ok(id),
            Err(miss) => self.publish_after_a_miss(miss, Some(limit), topic, payload),
        }
    }

    /// Publishes, awaiting room; on any async runtime. Dropped before it is ready, it has published nothing. Polled where
    /// it would wait for itself, it is [`PublishError::Full`] at once: on a worker, and in the future of a
    /// [`run`](crate::Subscribe::run) handler whose own full mailbox holds the lane up.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_async<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        let priority = self.envelope.priority;
        let short = self.at_once(&topic, &payload);
        match short.or_else(|miss| self.publisher.after_a_miss(miss, &topic, &payload, priority)) {
            Ok(id) => return Ok(id),
            Err(detour) => self.publisher.needs = detour.needs(),
        }
        self.checked();
        let envelope = self.envelope;
        let waiting = Waiting(self.publisher);
        let result =
            poll_fn(|context| waiting.0.poll_trying(context, |publisher| publisher.once(&topic, &payload, &envelope)))
                .await;
        waiting.0.settle(result)
    }

    /// The short way, for an event that has nothing to say but its priority.
    #[inline(always)]
    fn at_once<S: Subject<P>, P: Encode>(&mut self, topic: &S, payload: &P) -> Result<EventId, Miss> {
        let Self { publisher, envelope } = self;
        if !envelope.is_plain(publisher.source_id) || !publisher.extension.is_empty() {
            return Err(Miss::LongWay);
        }
        publisher.at_once(topic, payload, envelope.priority)
    }

    /// Goes on with the short way where that can help, else the long way, waiting at most `limit`.
    #[cold]
    #[inline(never)]
    fn publish_after_a_miss<S: Subject<P>, P: Encode + Copy>(
        self,
        miss: Miss,
        limit: Option<Duration>,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        match self.publisher.after_a_miss(miss, &topic, &payload, self.envelope.priority) {
            Ok(id) => Ok(id),
            Err(detour) => self.publish_after(detour, limit, topic, payload),
        }
    }

    /// The long way, waiting at most `limit`. A full lane that the short way has met is not met again unless it may
    /// be waited for: then the event is encoded and stamped first, so that its time counts from before the wait.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_after<S: Subject<P>, P: Encode + Copy>(
        mut self,
        detour: Detour,
        limit: Option<Duration>,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let Self { publisher, envelope } = self;
        let full = match (limit, detour) {
            (Some(_), _) => None,
            (None, Detour::Full(full)) => Some(full),
            (None, Detour::LongWay | Detour::TooLong(_)) => publisher.finds_full(&topic, &envelope),
        };
        if let Some(full) = full {
            return Err(publisher.refuse(envelope.priority, full, payload));
        }
        publisher.needs = detour.needs();
        let result = match limit {
            Some(limit) => publisher.keep_trying(limit, |publisher| publisher.once(&topic, &payload, &envelope)),
            None => publisher.once(&topic, &payload, &envelope),
        };
        publisher.settle(result)
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("priority", &self.envelope.priority).finish_non_exhaustive()
    }
}

impl Outgoing<'_> {
    /// Encodes the event and adds it to the publisher's batch, without publishing.
    pub(in crate::bus) fn into_batch<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: &S,
        payload: &P,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let publisher = self.publisher;
        let encoded = match self.envelope.due {
            0 => publisher.encode(topic, payload, &self.envelope),
            _ => Err(PublishError::ScheduledInBatch),
        };
        let (header, block) = publisher.settle(encoded)?;
        let bytes = if block.is_some() { 0 } else { header.rest_bytes() };
        Ok(publisher.collected.add(header, block, &publisher.scratch[..bytes]))
    }

    pub(in crate::bus) fn has_priority(&self) -> Priority {
        self.envelope.priority
    }
}
