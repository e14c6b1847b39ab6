//! Who answers: handlers whose word is published, to the one who asked.

use std::any::type_name;
use std::sync::Arc;

use crate::bus::{Publisher, Shared, Subscribe, SubscribeError, Subscription};
use crate::delivery::{HandlerId, Outcome};
use crate::event::{Event, Meta, Topic};

/// Publishes answers.
struct Replies<A: Event> {
    topic: Topic<A>,
    publisher: Publisher,
}

impl<A: Event> Replies<A> {
    fn new(shared: &Arc<Shared>, topic: Topic<A>) -> Result<Self, SubscribeError> {
        shared.bind(topic)?;
        let publisher = Publisher::new(Arc::clone(shared)).map_err(SubscribeError::of_publisher)?;
        Ok(Self { topic, publisher })
    }

    /// Answers the query in hand. An answer that finds no room is a failed attempt at its query.
    fn send(&mut self, query: &Meta<'_>, answer: &A) -> Outcome {
        let event = self.publisher.event().priority(query.priority()).correlation(query.id()).causation(query.id());
        event.publish(self.topic, answer).map(drop).into()
    }
}

impl<Q: Event> Subscribe<Topic<Q>> {
    /// Answers each query on the worker: what `respond` returns is published on the topic `answer`, at the query's priority, with
    /// the query's id as correlation and causation, so that its [`Requester`](crate::Requester) gets it and no other. It must be
    /// short, as any inline handler.
    ///
    /// A responder that panics, or cannot read the query, answers nothing, and the requester's time runs out; by reliable
    /// delivery the query is tried again first, and an answer may come of that. One that finds no room for its answer has failed
    /// at the query, with a [`Notice::HandlerFailed`](crate::Notice::HandlerFailed).
    ///
    /// # Errors
    /// See [`SubscribeError`]. A responder has a publisher of its own.
    pub fn respond<A, F>(mut self, answer: Topic<A>, mut respond: F) -> Result<Subscription, SubscribeError>
    where
        A: Event,
        F: FnMut(&Q::Archived, &Meta<'_>) -> A + Send + 'static,
    {
        let mut replies = Replies::new(&self.shared, answer)?;
        self.handler_id.get_or_insert_with(|| HandlerId::new(type_name::<F>()));
        self.handle(move |query, meta| replies.send(meta, &respond(query, meta)))
    }

    /// As [`respond`](Self::respond), on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub fn respond_on<A, F>(
        mut self,
        thread: &str,
        answer: Topic<A>,
        mut respond: F,
    ) -> Result<Subscription, SubscribeError>
    where
        A: Event,
        F: FnMut(&Q::Archived, &Meta<'_>) -> A + Send + 'static,
    {
        let mut replies = Replies::new(&self.shared, answer)?;
        self.handler_id.get_or_insert_with(|| HandlerId::new(type_name::<F>()));
        self.handle_on(thread, move |query, meta| replies.send(meta, &respond(query, meta)))
    }
}
