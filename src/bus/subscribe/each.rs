//! Handlers on threads that are replaced when they hang: one handler a thread, made by the subscriber's function.

use std::any::type_name;
use std::sync::{Arc, Weak};

use crate::delivery::{
    Context, Crew, Delivery, DeliveryMode, Handler, HandlerId, Interest, Mailbox, MailboxShared, Outcome,
    REPLACEMENTS_MAX, Sink, State, SubscriptionState,
};
use crate::event::{DecodeError, Event, Meta, Payload, Topic};
use crate::routing::Pattern;
use crate::sync::primitive::ArrayQueue;
use crate::sync::primitive::thread::{self, Builder};
use crate::sync::waker::of_this_thread;
use crate::worker::Engine;

use super::super::Shared;
use super::super::subscribe_error::SubscribeError;
use super::super::subscription::Subscription;
use super::Subscribe;
use super::endings::settle_by;
use super::make::Puller;

impl<I: Interest> Subscribe<I> {
    /// As [`handler_on`](Self::handler_on), with a thread that is replaced when its handler hangs: `make` makes a handler for each
    /// thread, on that thread.
    ///
    /// It needs reliable delivery, for only there can an event be taken away from its handler. When an attempt has lasted for the mode's
    /// timeout, or [`handler_timeout`](Self::handler_timeout) if that is shorter, the event is taken away and the thread
    /// reported: [`Notice::HandlerHung`](crate::Notice::HandlerHung). If it is still in the same call as long again later, a fresh
    /// thread with a fresh handler consumes the mailbox: [`Notice::HandlerReplaced`](crate::Notice::HandlerReplaced). The old one,
    /// should its handler return, ends without another event, and what it says is [too late](crate::Settled::TooLate). There are at
    /// most [`replacements_max`](Self::replacements_max) of them; a handler that hangs after that is said to stay:
    /// [`Notice::HandlerNotReplaced`](crate::Notice::HandlerNotReplaced).
    ///
    /// `make` itself is not watched: one that hangs makes no handler, and one that panics ends the subscription.
    ///
    /// The next thread is there before it is needed, so a subscription has one that sleeps. A shutdown waits for threads that hang
    /// as for any handler, until its deadline.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handler_on_each<H, F>(self, thread: &str, make: F) -> Result<Subscription, SubscribeError>
    where
        H: Handler<I>,
        F: Fn() -> H + Send + Sync + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(type_name::<H>()));
        self.on_threads(thread, id, move || {
            let mut handler = make();
            move |delivery: &Delivery<I>, meta: &Meta<'_>, context: &Context<'_>| {
                delivery.event().map(|event| handler.handle(event, meta, context))
            }
        })
    }

    /// How many threads may follow the first one of [`handle_on_each`](Subscribe::handle_on_each), from 0 to 64. Default 3.
    pub fn replacements_max(mut self, threads: u32) -> Self {
        self.replacements_max = threads;
        self
    }

    fn on_threads<C, F>(self, thread: &str, handler_id: HandlerId, make: F) -> Result<Subscription, SubscribeError>
    where
        C: FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, DecodeError> + 'static,
        F: Fn() -> C + Send + Sync + 'static,
    {
        let (replacements_max, max) = (self.replacements_max, REPLACEMENTS_MAX);
        if replacements_max > max {
            return Err(SubscribeError::ReplacementsMax { replacements_max, max });
        }
        if !matches!(self.mode, DeliveryMode::Reliable { .. }) {
            return Err(SubscribeError::Untimed);
        }
        if thread.contains('\0') {
            return Err(SubscribeError::Thread(format!("{thread:?} has a zero byte, which no thread name may have")));
        }
        let shared = Arc::clone(&self.shared);
        let inbox = self.queued(handler_id, Puller::Handler)?;
        let state = shared.control().find(inbox.id()).cloned().ok_or(SubscribeError::ShuttingDown)?;
        let Sink::Mailbox(mailbox, _) = &state.sink else { return Err(SubscribeError::Untimed) };
        let crew = Arc::new(Crew::new(replacements_max));
        mailbox.set_crew(Arc::clone(&crew));
        let post = Post {
            crew,
            inbox: ArrayQueue::new(1),
            make,
            mailbox: Arc::clone(mailbox),
            engine: Arc::clone(&shared.engine),
            shared: Arc::downgrade(&shared),
            thread: thread.to_owned(),
            subscription: Arc::clone(&state),
        };
        let post = Arc::new(post);
        drop(post.inbox.push(inbox));
        post.spawn(0, &shared)?;
        state.give_thread();
        if replacements_max > 0 {
            post.call_standby(1);
        }
        Ok(Subscription::new(&shared, state))
    }
}

impl<E: Event> Subscribe<Topic<E>> {
    /// As [`handle_on`](Self::handle_on), with a thread that is replaced when its handler hangs, as
    /// [`handler_on_each`](Self::handler_on_each) says: `make` makes a handler for each thread, on that thread.
    ///
    /// ```
    /// use ringmain::{Bus, DeliveryMode, Topic};
    /// use std::time::Duration;
    ///
    /// # #[derive(rkyv::Archive, rkyv::Serialize)] struct OrderPlaced { id: u64 }
    /// # const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");
    /// # fn connect() {}
    /// let bus = Bus::builder().build()?;
    /// let timeout = Duration::from_secs(2);
    /// let _billing = bus.subscribe(ORDER_PLACED).mode(DeliveryMode::Reliable { timeout }).replacements_max(1).handle_on_each(
    ///     "billing",
    ///     || {
    ///         let connection = connect();
    ///         move |order, _| println!("bill {} by {connection:?}", order.id)
    ///     },
    /// )?;
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on_each<R, H, F>(self, thread: &str, make: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        H: FnMut(&E::Archived, &Meta<'_>) -> R + 'static,
        F: Fn() -> H + Send + Sync + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(type_name::<H>()));
        self.on_threads(thread, id, move || {
            let mut handler = make();
            move |delivery: &Delivery<_>, meta: &Meta<'_>, _: &Context<'_>| {
                delivery.event().map(|event| handler(event, meta).into())
            }
        })
    }
}

impl Subscribe<Pattern> {
    /// As [`handle_on`](Self::handle_on), with a thread that is replaced when its handler hangs, as
    /// [`handler_on_each`](Self::handler_on_each) says: `make` makes a handler for each thread, on that thread.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on_each<R, H, F>(self, thread: &str, make: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        H: FnMut(Payload<'_>, &Meta<'_>) -> R + 'static,
        F: Fn() -> H + Send + Sync + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(type_name::<H>()));
        self.on_threads(thread, id, move || {
            let mut handler = make();
            move |_: &Delivery<_>, meta: &Meta<'_>, _: &Context<'_>| Ok(handler(meta.payload(), meta).into())
        })
    }
}

/// What the threads of one subscription share.
struct Post<I: Interest, F> {
    crew: Arc<Crew>,
    /// Where the mailbox is while its thread is in a call.
    inbox: ArrayQueue<Mailbox<I>>,
    make: F,
    mailbox: Arc<MailboxShared>,
    subscription: Arc<SubscriptionState>,
    engine: Arc<Engine>,
    shared: Weak<Shared>,
    thread: String,
}

impl<I, C, F> Post<I, F>
where
    I: Interest,
    C: FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, DecodeError> + 'static,
    F: Fn() -> C + Send + Sync + 'static,
{
    fn spawn(self: &Arc<Self>, shift: u32, shared: &Shared) -> Result<(), SubscribeError> {
        let post = Arc::clone(self);
        let name = if shift == 0 { self.thread.clone() } else { format!("{}-{shift}", self.thread) };
        let spawned = Builder::new().name(name).spawn(move || post.serve(shift));
        shared.keep_thread(spawned.map_err(|error| SubscribeError::Thread(error.to_string()))?);
        Ok(())
    }

    /// Has a thread stand by for this shift, or says that there is none.
    fn call_standby(self: &Arc<Self>, shift: u32) {
        let spawned = self.shared.upgrade().is_some_and(|shared| self.spawn(shift, &shared).is_ok());
        if spawned {
            self.crew.stands_by(shift);
        } else {
            self.crew.ends_before(shift);
        }
    }

    fn serve(self: Arc<Self>, shift: u32) {
        if shift > 0 {
            if !self.stand_by(shift) {
                return;
            }
            self.subscription.calls().relieve();
            if shift < self.crew.max() {
                self.call_standby(shift + 1);
            }
        }
        let Some(mut inbox) = self.inbox.pop() else { return };
        let mut call = (self.make)();
        while self.subscription.state() != State::Closed
            && let Ok(delivery) = inbox.recv()
        {
            if delivery.is_held_at_end() {
                delivery.discard();
                continue;
            }
            let Some(calling) = self.subscription.calls().begin(self.engine.barrier) else {
                delivery.discard();
                break;
            };
            drop(self.inbox.push(inbox));
            let word = self.crew.begin();
            if delivery.is_current() {
                settle_by(&self.engine, &self.subscription, delivery, &mut call);
            } else {
                // It was taken away before the handler had it.
                delivery.settle(&Outcome::Release);
            }
            if !self.crew.end(word) {
                calling.leave();
                return;
            }
            drop(calling);
            inbox = self.inbox.pop().expect("who is not relieved finds the mailbox where it was left");
        }
    }

    /// Sleeps until this shift is on duty; false when the subscription ends before.
    fn stand_by(&self, shift: u32) -> bool {
        let waker = of_this_thread();
        loop {
            self.mailbox.wait_for_relief(&waker);
            if self.crew.is_called(shift) {
                return true;
            }
            if !self.mailbox.custody().is_closed() {
                thread::park();
            } else if self.crew.leaves(shift) {
                return false;
            } else {
                // The worker is at its next step.
                thread::yield_now();
            }
        }
    }
}
