//! Durable subscriptions that count their attempts at an event in the store: also one that kills the process comes to an end.
//!
//! ```text
//!   log ──► event ──► attempt n is kept ──► handler ──┬── ack ──► cursor
//!                          ▲                          ├── failed, panicked ──► when it is due again is kept ──┐
//!                          └──────────────────────────┼────────────────────────────────────────────────────────┘
//!                          └── the process died ◄─────┤
//!                                                     └── rejected, or that was the last attempt ──► dead letter ──► cursor
//! ```

mod error;
mod record;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::sync::contain::contained;
use crate::{DeadReason, Outcome, RetryPolicy};

use super::handled::{Begun, HandledWindow};
use super::letters::{DeadLetterQueue, NewLetter};
use super::name::Name;
use super::state::{StateChange, StateError, StateKind, StateStore};
use super::{Durability, DurableSubscription, DurableSubscriptionError, Position, StoredEvent, steady_now};
use record::{Phase, Record};

pub use error::ReliableSubscriptionError;

/// The longest wait that a handler may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 86_400);

/// A [`DurableSubscription`] that calls a handler for each event until it is handled or a dead letter, and goes on behind it only then.
///
/// Each attempt is kept in the store before it begins. So the count outlives the process, and an event on which the process dies, again and
/// again, has no more attempts than the [`RetryPolicy`] says: then it is a dead letter with its reason, its attempts, its last
/// error and all its bytes, and what is behind it goes on. When an event is to be tried again outlives the process, too.
///
/// Events are handled one at a time, in the order of their positions: while one waits to be tried again, those behind it wait. Each is
/// handled at least once. One that was acknowledged by the handler comes again if the process dies before that is kept; with
/// [`dedup`](Self::dedup), one that is brought again at another position does not.
///
/// ```
/// use ringmain::store::{
///     Attempted, DeadLetterQueue, Durability, DurableSubscription, EventStore, ExpectedVersion, MemoryStore, StoredEvent,
/// };
/// use ringmain::{Bus, Payload, RetryPolicy};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let store = Arc::new(MemoryStore::new()); // One that lasts: a `LogStore`.
/// let bus = Bus::builder().build()?;
/// let order = bus.publisher()?.event().to_frame("orders.placed", Payload::json(r#"{"id": 7}"#))?;
/// store.append(&[order.clone()], ExpectedVersion::Any, Durability::Accepted)?;
///
/// let letters = DeadLetterQueue::open("letters", store.clone())?;
/// let billing = DurableSubscription::builder(store.clone(), store.clone(), "billing").open_reliable(letters.clone())?;
/// let mut billing = billing.retry(RetryPolicy::default().attempts_max(2).delays(Duration::ZERO, Duration::ZERO));
/// let limit = Duration::from_secs(1);
/// let bill = |event: &StoredEvent, attempt: u8| Err::<(), _>(format!("no bill for {}: {attempt}", event.position()));
/// let first = billing.handle_deadline(limit, bill)?;
/// assert!(matches!(first, Attempted::Retry { .. }));
/// let second = billing.handle_deadline(limit, bill)?;
/// assert!(matches!(second, Attempted::Dead { letter: 1, .. }));
///
/// let letter = letters.get(1)?.expect("it is there");
/// assert_eq!((letter.attempts(), letter.error(), letter.frame()), (2, Some("no bill for 1: 2"), &order));
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// Two writes to the store of state an event, as durable as the subscription was told: its attempt, and its acknowledgement. One more
/// for each attempt that fails.
pub struct ReliableSubscription {
    subscription: DurableSubscription,
    name: String,
    record: Kept,
    letters: DeadLetterQueue,
    retry: RetryPolicy,
    handled: Option<HandledWindow>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    in_hand: Option<InHand>,
    /// What the last process kept of the event that it had in hand.
    left: Option<Record>,
}

/// Where the record of the event in hand is kept.
struct Kept {
    name: Name,
    word: Durability,
}

/// The event that is next to be handled, or is.
struct InHand {
    event: StoredEvent,
    record: Record,
    /// It is to be a dead letter, and is not yet.
    dying: Option<DeadReason>,
    /// It is settled, and is to be acknowledged.
    settled: Option<Attempted>,
}

/// What became of an event that was in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempted {
    /// The handler has acknowledged it.
    Acked,
    /// It was settled before: by a process that died before it could go on, or within the window of [`dedup`](ReliableSubscription::dedup).
    /// The handler was not called.
    Repeated,
    /// It is tried again, not before this time. Events behind it wait.
    Retry {
        /// When.
        due: SystemTime,
    },
    /// It is a dead letter.
    Dead {
        /// The number of the letter.
        letter: u64,
        /// Why.
        reason: DeadReason,
    },
}

impl ReliableSubscription {
    pub(super) fn new(
        subscription: DurableSubscription,
        name: String,
        state: Arc<dyn StateStore>,
        word: Durability,
        letters: DeadLetterQueue,
    ) -> Result<Self, ReliableSubscriptionError> {
        if !letters.is_in(&state) {
            return Err(ReliableSubscriptionError::OtherStore);
        }
        let owned = Name::claim(&name, StateKind::ATTEMPT, state).map_err(ReliableSubscriptionError::Name)?;
        let record = Kept { name: owned, word };
        let left = record.read()?;
        let clock = Box::new(steady_now);
        let (retry, handled, in_hand) = (RetryPolicy::default(), None, None);
        Ok(Self { subscription, name, record, letters, retry, handled, clock, in_hand, left })
    }

    /// How often an event is tried, and how long it waits in between. Default: [`RetryPolicy::default`].
    #[must_use]
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// Passes over events that were handled within a window, and keeps there which were.
    #[must_use]
    pub fn dedup(self, window: HandledWindow) -> Self {
        Self { handled: Some(window), ..self }
    }

    /// The clock that delays go by. Default: [`steady_now`]. In the next process a delay goes on by the wall clock; one that was set back ends it.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// The position up to which everything is settled; `None` = nothing is.
    pub fn acknowledged(&self) -> Option<Position> {
        self.subscription.acknowledged()
    }

    /// When the event in hand is tried again; `None` when none waits for that.
    pub fn next_due(&self) -> Option<SystemTime> {
        let in_hand = self.in_hand.as_ref().filter(|in_hand| in_hand.settled.is_none());
        in_hand.and_then(|in_hand| in_hand.record.due())
    }

    /// Makes the next attempt, if an event is there that is due: calls `handler` with the event and the number of the attempt, from 1.
    ///
    /// A handler that panics has failed. An [`Outcome::Release`] does not count as an attempt; the event comes again after the
    /// delay of the first failure, and is a dead letter when that was too often.
    ///
    /// # Errors
    /// See [`ReliableSubscriptionError`]. The next call goes on where this one failed. The handler was called, and is called again for the event,
    /// only if what it said was not kept.
    pub fn try_handle<R: Into<Outcome>>(
        &mut self,
        handler: impl FnOnce(&StoredEvent, u8) -> R,
    ) -> Result<Option<Attempted>, ReliableSubscriptionError> {
        if self.in_hand.is_none() {
            let event = self.subscription.try_recv().map_err(ReliableSubscriptionError::Subscription)?;
            let Some(event) = event else { return Ok(None) };
            self.take(event);
        }
        if self.wait_left().is_some() { Ok(None) } else { self.attempt(handler).map(Some) }
    }

    /// Makes the next attempt as [`try_handle`](Self::try_handle) does, and waits until an event is there that is due, at most `limit`.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::TimedOut`] as the subscription's error; else as `try_handle`.
    pub fn handle_deadline<R: Into<Outcome>>(
        &mut self,
        limit: Duration,
        handler: impl FnOnce(&StoredEvent, u8) -> R,
    ) -> Result<Attempted, ReliableSubscriptionError> {
        let begun = Instant::now();
        if self.in_hand.is_none() {
            let event = self.subscription.recv_deadline(limit).map_err(ReliableSubscriptionError::Subscription)?;
            self.take(event);
        }
        while let Some(wait) = self.wait_left() {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let timed_out = DurableSubscriptionError::TimedOut { after: limit };
                return Err(ReliableSubscriptionError::Subscription(timed_out));
            }
            thread::sleep(wait.min(left));
        }
        self.attempt(handler)
    }

    /// Takes an event in hand, with what the last process left of it.
    fn take(&mut self, event: StoredEvent) {
        let is_same = |left: &Record| left.position == event.position() && left.id == event.meta().id();
        let (mut dying, mut settled) = (None, None);
        let record = match self.left.take().filter(is_same) {
            Some(mut record) => {
                match record.phase {
                    Phase::Begun => {
                        record.failed(&format!("the process ended in attempt {}", record.attempts));
                        dying = self.retry.is_spent(record.attempts).then_some(DeadReason::AttemptsExhausted);
                    }
                    Phase::Waiting => {}
                    Phase::Settled => settled = Some(Attempted::Repeated),
                }
                record
            }
            None => Record::new(event.position(), event.meta().id()),
        };
        self.in_hand = Some(InHand { event, record, dying, settled });
    }

    /// How long the event in hand has to wait yet; `None` when it is due.
    fn wait_left(&self) -> Option<Duration> {
        let in_hand = self.in_hand.as_ref()?;
        in_hand.record.wait((self.clock)())
    }

    /// Does what is next with the event in hand.
    fn attempt<R: Into<Outcome>>(
        &mut self,
        handler: impl FnOnce(&StoredEvent, u8) -> R,
    ) -> Result<Attempted, ReliableSubscriptionError> {
        let Self { record: kept, retry, handled, clock, in_hand, .. } = self;
        let in_hand = in_hand.as_mut().expect("an event was taken");
        if in_hand.is_open() {
            let outcome = in_hand.call(kept, handled.as_ref(), clock(), handler)?;
            if let Some(wait) = outcome.and_then(|outcome| in_hand.outcome(&outcome, retry)) {
                let now = clock();
                in_hand.record.wait_until(now, now + wait);
                kept.keep(&in_hand.record)?;
                return Ok(Attempted::Retry { due: now + wait });
            }
        }
        self.settle()
    }

    /// Makes a dead letter of the event in hand if it is to be one, and goes on behind it.
    fn settle(&mut self) -> Result<Attempted, ReliableSubscriptionError> {
        let in_hand = self.in_hand.as_mut().expect("an event was taken");
        let position = in_hand.event.position();
        let attempted = match (in_hand.settled, in_hand.dying) {
            (Some(attempted), _) => attempted,
            (None, reason) => {
                let reason = reason.expect("it is settled, or dying");
                let record = &mut in_hand.record;
                let letter = NewLetter {
                    frame: in_hand.event.frame(),
                    name: &self.name,
                    reason,
                    attempts: record.attempts.into(),
                    error: (!record.error.is_empty()).then_some(&*record.error),
                    error_bytes: record.error_bytes as usize,
                    first_attempt: record.first_attempt(),
                    died: (self.clock)(),
                };
                // The next process knows by the record that the letter is there.
                let settled = record.settled().written();
                let key = self.record.name.key(&[]);
                let change = StateChange::Put { kind: StateKind::ATTEMPT, key: &key, value: &settled };
                let letter = self.letters.keep(&letter, change).map_err(ReliableSubscriptionError::Change)?;
                *in_hand.settled.insert(Attempted::Dead { letter, reason })
            }
        };
        self.subscription.ack(position).map_err(ReliableSubscriptionError::Subscription)?;
        self.in_hand = None;
        Ok(attempted)
    }
}

impl InHand {
    /// Whether it may be attempted.
    fn is_open(&self) -> bool {
        self.settled.is_none() && self.dying.is_none()
    }

    /// Calls the handler; `None` when the event was handled before.
    fn call<R: Into<Outcome>>(
        &mut self,
        kept: &Kept,
        handled: Option<&HandledWindow>,
        now: SystemTime,
        handler: impl FnOnce(&StoredEvent, u8) -> R,
    ) -> Result<Option<Outcome>, ReliableSubscriptionError> {
        let begun = handled.map(|window| window.begin(self.record.id, now)).transpose();
        let handling = match begun.map_err(ReliableSubscriptionError::Read)? {
            None => None,
            Some(Begun::First(handling)) => Some(handling),
            // Nobody else can have it under way: the window is the subscription's own.
            Some(Begun::Handled | Begun::UnderWay) => {
                self.settled = Some(Attempted::Repeated);
                return Ok(None);
            }
        };
        let begun = self.record.begun(now);
        kept.keep(&begun)?;
        self.record = begun;
        let outcome = contained(|| handler(&self.event, self.record.attempts).into());
        let outcome = outcome.unwrap_or_else(|| Outcome::Failed("the handler panicked".to_owned()));
        match handling {
            Some(handling) if outcome == Outcome::Ack => Ok(Some(match handling.keep(&[], kept.word) {
                Ok(()) => Outcome::Ack,
                Err(error) => Outcome::Failed(error.to_string()),
            })),
            _ => Ok(Some(outcome)),
        }
    }

    /// Takes what the handler said. Returns how long the event is to wait; `None` when it has been settled, or is dying.
    fn outcome(&mut self, outcome: &Outcome, retry: &RetryPolicy) -> Option<Duration> {
        let Self { record, .. } = self;
        let seed = record.seed();
        let delay = |attempts: u8| Duration::from_nanos(retry.delay_ns(attempts, seed));
        record.failed(outcome.reason());
        let wait = match outcome {
            Outcome::Ack => {
                self.settled = Some(Attempted::Acked);
                return None;
            }
            Outcome::Reject(_) => {
                self.dying = Some(DeadReason::Rejected);
                return None;
            }
            Outcome::Failed(_) => delay(record.attempts),
            Outcome::RetryAfter(wait) => (*wait).min(RETRY_AFTER_MAX),
            Outcome::Release => {
                record.released();
                delay(1)
            }
        };
        if record.releases > retry.releases_max {
            self.dying = Some(DeadReason::ReleasesExhausted);
        } else if retry.is_spent(record.attempts) {
            self.dying = Some(DeadReason::AttemptsExhausted);
        }
        self.dying.is_none().then_some(wait)
    }
}

impl Kept {
    fn read(&self) -> Result<Option<Record>, ReliableSubscriptionError> {
        let state = self.name.state();
        let kept = state.get(StateKind::ATTEMPT, &self.name.key(&[])).map_err(ReliableSubscriptionError::Read)?;
        kept.map(|kept| Record::read(&kept).ok_or(ReliableSubscriptionError::Record)).transpose()
    }

    fn keep(&self, record: &Record) -> Result<(), ReliableSubscriptionError> {
        let (key, value) = (self.name.key(&[]), record.written());
        let change = StateChange::Put { kind: StateKind::ATTEMPT, key: &key, value: &value };
        let applied: Result<(), StateError> = self.name.state().apply(&[change], self.word);
        applied.map_err(ReliableSubscriptionError::Change)
    }
}

impl fmt::Debug for ReliableSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReliableSubscription")
            .field("name", &self.name)
            .field("acknowledged", &self.acknowledged())
            .finish_non_exhaustive()
    }
}
