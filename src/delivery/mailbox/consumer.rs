//! The consumer's end of a mailbox: to pull from, blocking or async.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::event::KnownAs;
use crate::ring::{DrainOrder, Serve};
use crate::sync::primitive::thread;
use crate::sync::waker::of_this_thread;

use super::super::{Delivery, Interest, Pass, SubscriptionId};
use super::MailboxShared;

/// Nothing to take at the moment, or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is queued, or what is queued is held: the subscription is paused, its circuit breaker open, or its rate reached.
    Empty,
    /// The subscription has ended and everything queued was taken.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => {
                "nothing to take now: the mailbox is empty, or what is queued is held, for its subscription is paused, its breaker open or its rate spent (Bus::explain says which); wait with recv, recv_deadline or recv_async"
            }
            Self::Closed => "the subscription has ended and its mailbox is empty",
        })
    }
}

impl std::error::Error for TryRecvError {}

/// No event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// Not within the time given.
    TimedOut {
        /// That time.
        after: Duration,
    },
    /// The subscription has ended and everything queued was taken.
    Closed,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(
                f,
                "no event to take within {after:?}: none came, or what is queued is held, for its subscription is paused, its breaker open or its rate spent (Bus::explain says which); wait longer, or resume it"
            ),
            Self::Closed => f.write_str("the subscription has ended and its mailbox is empty"),
        }
    }
}

impl std::error::Error for RecvError {}

/// How a mailbox ends its subscription when it is dropped.
pub(crate) type Farewell = Box<dyn FnOnce(bool) + Send>;

/// The consumer's end of a subscription with a mailbox. Dropped, it unsubscribes.
///
/// More urgent events come first, events of one priority in order. It is also a
/// [`Stream`](https://docs.rs/futures-core) of deliveries, on any async runtime.
pub struct Mailbox<I: Interest> {
    id: SubscriptionId,
    shared: Arc<MailboxShared>,
    order: DrainOrder,
    known_as: KnownAs,
    farewell: Option<Farewell>,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Mailbox<I> {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Arc<MailboxShared>,
        order: DrainOrder,
        known_as: KnownAs,
        farewell: Farewell,
    ) -> Self {
        Self { id, shared, order, known_as, farewell: Some(farewell), interest: PhantomData }
    }

    /// The subscription's id.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Events waiting.
    pub fn len(&self) -> usize {
        self.shared.custody.queued() as usize
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next event, if there is one.
    ///
    /// # Errors
    /// `Empty` when nothing is queued or the subscription is paused; `Closed` when nothing will come any more.
    ///
    /// # Cost
    /// Lock-free, no allocation.
    pub fn try_recv(&mut self) -> Result<Delivery<I>, TryRecvError> {
        let custody = &self.shared.custody;
        let closed = custody.is_closed();
        if self.shared.is_paused() && !closed {
            return Err(TryRecvError::Empty);
        }
        loop {
            let Some(Serve { lane, .. }) = self.order.next(custody.ready()) else {
                return Err(if closed { TryRecvError::Closed } else { TryRecvError::Empty });
            };
            // The worker of a closed mailbox may be gone, and nobody would tell when it is held no more.
            let pass = if closed { Pass::Free } else { self.shared.ask() };
            if pass == Pass::Held {
                return Err(TryRecvError::Empty);
            }
            self.order.served(lane, 1);
            if let Some(hold) = self.shared.take_by(pass, lane) {
                return Ok(Delivery::new(hold, Arc::clone(&self.shared), self.known_as));
            }
        }
    }

    /// Waits for the next event, as long as it takes.
    ///
    /// # Errors
    /// `Closed` when nothing will come any more.
    pub fn recv(&mut self) -> Result<Delivery<I>, RecvError> {
        self.recv_until(None)
    }

    /// Waits for the next event, at most `limit`.
    ///
    /// # Errors
    /// `TimedOut` or `Closed`.
    pub fn recv_deadline(&mut self, limit: Duration) -> Result<Delivery<I>, RecvError> {
        self.recv_until(Some(limit))
    }

    fn recv_until(&mut self, limit: Option<Duration>) -> Result<Delivery<I>, RecvError> {
        match self.try_recv() {
            Ok(delivery) => return Ok(delivery),
            Err(TryRecvError::Closed) => return Err(RecvError::Closed),
            Err(TryRecvError::Empty) => {}
        }
        let clock = self.shared.directory.clock.clone();
        let begun = clock.now();
        let waker = of_this_thread();
        loop {
            self.shared.consumer.wait(&waker);
            match self.try_recv() {
                Ok(delivery) => return Ok(delivery),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Empty) => {}
            }
            match limit {
                None => thread::park(),
                Some(after) => {
                    let waited = Duration::from_nanos(clock.now().saturating_sub(begun));
                    match after.checked_sub(waited).filter(|left| !left.is_zero()) {
                        None => return Err(RecvError::TimedOut { after }),
                        Some(left) => thread::park_timeout(left),
                    }
                }
            }
        }
    }

    fn poll_recv(&mut self, context: &mut task::Context<'_>) -> Poll<Option<Delivery<I>>> {
        for registered in [false, true] {
            match self.try_recv() {
                Ok(delivery) => return Poll::Ready(Some(delivery)),
                Err(TryRecvError::Closed) => return Poll::Ready(None),
                Err(TryRecvError::Empty) if !registered => self.shared.consumer.wait(context.waker()),
                Err(TryRecvError::Empty) => {}
            }
        }
        Poll::Pending
    }

    /// Waits for the next event without blocking the thread, on any async runtime. Cancel-safe.
    ///
    /// # Errors
    /// `Closed` when nothing will come any more.
    pub async fn recv_async(&mut self) -> Result<Delivery<I>, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await.ok_or(RecvError::Closed)
    }

    /// Blocks for each next event, until the subscription ends.
    pub fn iter(&mut self) -> Iter<'_, I> {
        Iter { mailbox: self }
    }
}

impl<I: Interest> Stream for Mailbox<I> {
    type Item = Delivery<I>;

    fn poll_next(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Delivery<I>>> {
        self.get_mut().poll_recv(context)
    }
}

impl<'m, I: Interest> IntoIterator for &'m mut Mailbox<I> {
    type Item = Delivery<I>;
    type IntoIter = Iter<'m, I>;

    fn into_iter(self) -> Iter<'m, I> {
        self.iter()
    }
}

impl<I: Interest> Drop for Mailbox<I> {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(farewell) = self.farewell.take() {
            farewell(std::thread::panicking());
        }
    }
}

impl<I: Interest> fmt::Debug for Mailbox<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("id", &self.id).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Blocking iterator over a mailbox.
#[derive(Debug)]
pub struct Iter<'m, I: Interest> {
    mailbox: &'m mut Mailbox<I>,
}

impl<I: Interest> Iterator for Iter<'_, I> {
    type Item = Delivery<I>;

    fn next(&mut self) -> Option<Delivery<I>> {
        self.mailbox.recv().ok()
    }
}
