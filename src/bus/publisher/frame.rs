//! A frame that is published again: the same event, under its own topic, on this bus.

use std::fmt;
use std::time::Duration;

use crate::clock::Clock;
use crate::delivery::SubscriptionId;
use crate::event::{EventId, FLAG_REPLAY, FrameRef, Meta, Priority, Tag};

use super::{Again, Outgoing, PublishError, Publisher, SameTopic};

/// A frame under way to be published. End it with one of the publishing verbs.
///
/// It is the same event as before: id, source, time of creation, deadline, not-before time, priority, correlation, causation,
/// aggregate, schema, targets, trace and metadata are the frame's. Only its attempts at delivery begin anew, and nobody
/// vouches for its payload: typed subscriptions validate it. Where the not-before time has passed it is due at once.
#[must_use = "nothing is published until one of the publishing verbs is called"]
pub struct OutgoingFrame<'p, 'f> {
    publisher: &'p mut Publisher,
    frame: FrameRef<'f>,
    payload: Again<'f>,
    /// The subscription that a replay is for alone.
    replay_to: Option<EventId>,
    priority: Option<Priority>,
    /// Its place in a store.
    position: Option<u64>,
}

impl Publisher {
    /// Begins to publish a frame, with this publisher's rights and limits.
    ///
    /// ```
    /// # use ringmain::{Bus, Frame, Payload, PublishError, Publisher};
    /// fn replay(frames: &[Frame], publisher: &mut Publisher) -> Result<(), PublishError> {
    ///     for frame in frames {
    ///         publisher.frame(frame).as_replay().publish()?;
    ///     }
    ///     Ok(())
    /// }
    /// # let bus = Bus::builder().build()?;
    /// # let mut publisher = bus.publisher()?;
    /// # let frame = publisher.event().to_frame("a", Payload::json("1"))?;
    /// # replay(&[frame], &mut publisher)?;
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn frame<'p, 'f>(&'p mut self, frame: impl Into<FrameRef<'f>>) -> OutgoingFrame<'p, 'f> {
        let frame = frame.into();
        let flags = if frame.meta().is_replay() { FLAG_REPLAY } else { 0 };
        OutgoingFrame {
            publisher: self,
            frame,
            payload: Again { payload: frame.payload(), flags },
            replay_to: None,
            priority: None,
            position: None,
        }
    }

    /// Publishes a frame; at a full lane it does what the [`FullPolicy`](crate::FullPolicy) says. For the other verbs see
    /// [`frame`](Self::frame).
    ///
    /// # Errors
    /// See [`PublishError`]; a frame whose deadline has passed is [`PublishError::Expired`].
    pub fn publish_frame<'f>(&mut self, frame: impl Into<FrameRef<'f>>) -> Result<EventId, PublishError> {
        self.frame(frame).publish()
    }

    /// The event of a frame, but for topic and payload.
    fn event_of(&mut self, meta: &Meta<'_>) -> Result<Outgoing<'_>, PublishError> {
        let (now, unix_now) = self.engine.directory.clock.now_and_unix_ns();
        // An instant to come, by the clock of this bus.
        let ahead = |unix_ns: u64| Clock::later(now, unix_ns.saturating_sub(unix_now));
        let (deadline, due) = (meta.deadline_unix_ns(), meta.due_unix_ns());
        if deadline != 0 && deadline <= unix_now {
            return self.settle(Err(PublishError::Expired { ago: Duration::from_nanos(unix_now - deadline) }));
        }
        let mut event = self.event_like(meta).id(meta.id()).created_at_unix_ns(meta.unix_ns());
        if let Some(causation) = meta.causation() {
            event = event.causation(causation);
        }
        if let Some(original) = meta.original_id() {
            event.publisher.extension.text(Tag::OriginalId, "id", original, original.len());
        }
        if let Some(due) = due {
            let is_due = due <= unix_now;
            let clock = &event.publisher.engine.directory.clock;
            let instant = if is_due { clock.instant_of(due) } else { ahead(due) };
            event.publisher.extension.number(Tag::NotBefore, instant);
            event.envelope.due = if is_due { 0 } else { instant };
        }
        event.envelope.deadline = if deadline == 0 { 0 } else { ahead(deadline) };
        Ok(event)
    }
}

impl OutgoingFrame<'_, '_> {
    /// Marks the event as one that comes again out of a history: [`Meta::is_replay`] says so to handlers, and only subscriptions
    /// that [say it does no harm](crate::Subscribe::replay) are given it.
    pub fn as_replay(self) -> Self {
        Self { payload: Again { flags: FLAG_REPLAY, ..self.payload }, ..self }
    }

    /// As [`as_replay`](Self::as_replay), for one subscription alone. It is given the event if it wants it and takes replays.
    pub fn as_replay_to(self, subscription: SubscriptionId) -> Self {
        Self { replay_to: Some(subscription.0), ..self.as_replay() }
    }

    /// Publishes it at another priority than the frame's.
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// Says its place in the store that it was read from: [`Meta::position`] tells it to handlers, and a journal leaves the event
    /// out, since it is kept already.
    pub fn at_position(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The event, its topic and its payload.
    fn begin(&mut self) -> Result<Outgoing<'_>, PublishError> {
        let mut event = self.publisher.event_of(&self.frame.meta())?;
        if let Some(priority) = self.priority {
            event = event.priority(priority);
        }
        if let Some(id) = self.replay_to {
            event.publisher.extension.id(Tag::ReplayTo, id);
        }
        if let Some(position) = self.position {
            event.publisher.extension.number(Tag::Position, position);
        }
        Ok(event)
    }

    /// Publishes; at a full lane it does what the [`FullPolicy`](crate::FullPolicy) says.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing of a refused event is in the bus.
    pub fn publish(mut self) -> Result<EventId, PublishError> {
        let (frame, payload) = (self.frame, self.payload);
        self.begin()?.publish(SameTopic(frame.meta().topic()), payload)
    }

    /// Publishes, or fails at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn try_publish(mut self) -> Result<EventId, PublishError> {
        let (frame, payload) = (self.frame, self.payload);
        self.begin()?.try_publish(SameTopic(frame.meta().topic()), payload)
    }

    /// Publishes, waiting at most `limit`.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_deadline(mut self, limit: Duration) -> Result<EventId, PublishError> {
        let (frame, payload) = (self.frame, self.payload);
        self.begin()?.publish_deadline(SameTopic(frame.meta().topic()), payload, limit)
    }

    /// Publishes, awaiting room; on any async runtime. Dropped before it is ready, it has published nothing.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_async(mut self) -> Result<EventId, PublishError> {
        let (frame, payload) = (self.frame, self.payload);
        self.begin()?.publish_async(SameTopic(frame.meta().topic()), payload).await
    }
}

impl fmt::Debug for OutgoingFrame<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingFrame").field("frame", &self.frame).finish_non_exhaustive()
    }
}
