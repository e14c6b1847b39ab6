//! The endings of a subscription under way: who handles its events, and where.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll};

use crate::delivery::{
    Context, Custom, Delivery, Handler, HandlerId, Interest, Mailbox, Notice, Outcome, State, SubscriptionState,
    TimedCall, Typed, Untyped,
};
use crate::event::{Event, Meta, Payload, Topic};
use crate::routing::Pattern;
use crate::sync::primitive::thread::Builder;
use crate::worker::{Engine, call_behind_mailbox};

use super::super::subscribe_error::SubscribeError;
use super::super::subscription::Subscription;
use super::Subscribe;
use super::make::Puller;

impl<I: Interest> Subscribe<I> {
    /// Calls `handler` on the worker for each event, which it reads in place. It must be short: a slow one delays
    /// everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handler(self, handler: impl Handler<I>) -> Result<Subscription, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| handler.id());
        self.inline(id, |known_as| Box::new(Custom { handler, known_as, interest: PhantomData::<fn(I)> }))
    }

    /// A queue of one's own, to pull events from on any thread or async runtime.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn mailbox(self) -> Result<Mailbox<I>, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new("mailbox"));
        self.queued(id, Puller::Anybody)
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handler_on(self, thread: &str, mut handler: impl Handler<I>) -> Result<Subscription, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| handler.id());
        self.on_thread(thread, id, move |delivery, meta, context| {
            delivery.event().map(|event| handler.handle(event, meta, context))
        })
    }

    fn on_thread(
        self,
        thread: &str,
        handler_id: HandlerId,
        mut call: impl FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, crate::DecodeError> + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        if thread.contains('\0') {
            return Err(SubscribeError::Thread(format!("{thread:?} has a zero byte, which no thread name may have")));
        }
        let shared = Arc::clone(&self.shared);
        let mut mailbox = self.queued(handler_id, Puller::Handler)?;
        let id = mailbox.id();
        let state = shared.control().find(id).cloned().ok_or(SubscribeError::ShuttingDown)?;
        let engine = Arc::clone(&shared.engine);
        let subscription = Arc::clone(&state);
        let spawned = Builder::new().name(thread.to_owned()).spawn(move || {
            // What waits when the subscription ends is not its to take: an instance gives that back to its service.
            while subscription.state() != State::Closed
                && let Ok(delivery) = mailbox.recv()
            {
                if delivery.is_held_at_end() {
                    delivery.discard();
                    continue;
                }
                let Some(_calling) = subscription.calls().begin(engine.barrier) else {
                    delivery.discard();
                    break;
                };
                settle_by(&engine, &subscription, delivery, &mut call);
            }
        });
        let handle = spawned.map_err(|error| SubscribeError::Thread(error.to_string()))?;
        state.give_thread();
        shared.keep_thread(handle);
        Ok(Subscription::new(&shared, state))
    }
}

impl<E: Event> Subscribe<Topic<E>> {
    /// Calls `handler` on the worker with each event, read in place, and its metadata. It must be short: a slow one
    /// delays everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle<R, F>(self, handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(&E::Archived, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.inline(id, |known_as| Box::new(Typed::<E, F> { closure: handler, trust: known_as.trust() }))
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on<R, F>(self, thread: &str, mut handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(&E::Archived, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.on_thread(thread, id, move |delivery, meta, _| delivery.event().map(|event| handler(event, meta).into()))
    }
}

impl Subscribe<Pattern> {
    /// Calls `handler` on the worker with each event's payload, in place, and its metadata. It must be short: a slow
    /// one delays everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle<R, F>(self, handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(Payload<'_>, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.inline(id, |_| Box::new(Untyped(handler)))
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on<R, F>(self, thread: &str, mut handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(Payload<'_>, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.on_thread(thread, id, move |_, meta, _| Ok(handler(meta.payload(), meta).into()))
    }
}

impl<I: Interest> Subscribe<I> {
    /// A future that lends each event to the async `handler`, one at a time; spawn it on any runtime. It ends with
    /// the subscription, and dropped it unsubscribes.
    ///
    /// What the handler returns is its word about the event, and counts at once: the delivery is only lent to it, so nothing that it
    /// has started can keep the event open. To answer later, take the events from a [`mailbox`](Self::mailbox), which is a stream: its
    /// [`Delivery`] is owned, may go to another task, has its time [extended](Delivery::extend), and is tried again when it is dropped
    /// without a word.
    ///
    /// ```
    /// use ringmain::Bus;
    ///
    /// let bus = Bus::builder().build()?;
    /// let running = bus.subscribe("mail.*").run(async |delivery| match delivery.payload().text() {
    ///     Some(text) => send(text).await,
    ///     None => Err("it is no text".to_owned()),
    /// })?;
    /// # async fn send(_: &str) -> Result<(), String> { Ok(()) }
    /// # drop(running);
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    ///
    /// While the mailbox is full and holds its lane up, nothing but the end of the handler's future makes room. So what
    /// that future publishes into a full lane, waiting or awaiting, is refused with
    /// [`PublishError::Full`](crate::PublishError::Full) at once; that holds for what is polled as part of it, not for
    /// tasks it spawns and then awaits.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn run<R, F>(self, mut handler: F) -> Result<impl Future<Output = ()> + use<I, R, F>, SubscribeError>
    where
        R: Into<Outcome>,
        F: AsyncFnMut(&Delivery<I>) -> R,
    {
        let shared = Arc::clone(&self.shared);
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        let mut mailbox = self.queued(id, Puller::Handler)?;
        let state = shared.control().find(mailbox.id()).cloned().ok_or(SubscribeError::ShuttingDown)?;
        let engine = Arc::clone(&shared.engine);
        drop(shared);
        Ok(async move {
            let mut known = None;
            while state.state() != State::Closed
                && let Ok(delivery) = mailbox.recv_async().await
            {
                if delivery.is_held_at_end() {
                    delivery.discard();
                    continue;
                }
                let Some(calling) = state.calls().begin(engine.barrier) else {
                    delivery.discard();
                    break;
                };
                // `None`: its time being over, the event was taken away, and the handler's future is dropped. The worker has told of it.
                let outcome = {
                    let call = delivery.begin_call(engine.directory.clock.now());
                    let mut handling = pin!(Some(handler(&delivery)));
                    drop(calling);
                    // Named in each step, on whichever thread: what the handler publishes does not wait for its own mailbox.
                    // Its end is such a step too: drops are the handler's code.
                    let mut step = |context: &mut task::Context<'_>| {
                        delivery.wait(context.waker(), &mut known);
                        if !delivery.is_current() {
                            handling.set(None);
                            return Poll::Ready(None);
                        }
                        let outcome = handling.as_mut().as_pin_mut().expect("it has not ended").poll(context);
                        if outcome.is_ready() {
                            handling.set(None);
                        }
                        outcome.map(Some)
                    };
                    let outcome = poll_fn(|context| state.calls().poll(|| step(context))).await.map(Into::into);
                    let is_overrun = call.is_some_and(TimedCall::end);
                    outcome.filter(|_| !is_overrun)
                };
                let is_cancelled = outcome.is_none();
                let outcome = outcome.unwrap_or_else(|| Outcome::Failed("its time was over".to_owned()));
                if let Outcome::Failed(error) | Outcome::Reject(error) = &outcome
                    && !is_cancelled
                {
                    let (event, name) = (delivery.meta().id(), &state.name);
                    engine.notice(&Notice::HandlerFailed { subscription: state.id, name, event, error });
                }
                delivery.settle(&outcome);
            }
        })
    }
}

/// Calls a handler behind a mailbox and settles the delivery.
pub(super) fn settle_by<I: Interest>(
    engine: &Engine,
    subscription: &SubscriptionState,
    delivery: Delivery<I>,
    call: &mut impl FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, crate::DecodeError>,
) {
    let meta = delivery.meta();
    let lag = || delivery.queued_behind();
    let now = engine.directory.clock.now();
    let timed = delivery.begin_call(now);
    let (outcome, _) = call_behind_mailbox(now, engine, subscription, &meta, lag, |meta, scene| {
        call(&delivery, meta, &Context { scene, meta, skipped: delivery.skipped() })
    });
    // Nobody could take the event away, so its word counts.
    timed.map(TimedCall::end);
    delivery.settle(&outcome);
}
