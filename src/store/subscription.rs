//! Subscriptions to a store that outlive their process: each has a name, and a cursor that is kept under it.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, CursorError};
use super::{
    DeadLetterQueue, Durability, EventStore, Position, Query, ReadError, ReliableSubscription,
    ReliableSubscriptionError, StateStore, StoredEvent,
};

/// What keys of its cursors begin with.
const CURSOR: &[u8] = b"subscription";

/// Events of a store from where it was the last time, then those that are appended, in the order of their positions.
///
/// Each event comes at least once: what was not [acknowledged](Self::ack) comes again after the subscription was opened anew, in
/// this process or another. It is pulled, on any thread; who is slow slows nobody, and misses nothing. One at a time has a
/// name.
///
/// An event may come as soon as it is written. After the loss of power a store may end before what came last; a cursor beyond its
/// end is cut when the subscription is opened: so open it before others append, or what they append up to the cursor is passed over.
///
/// ```
/// use ringmain::store::{Durability, DurableSubscription, EventStore, ExpectedVersion, MemoryStore, Query};
/// use ringmain::{Bus, Pattern, Payload};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let bus = Bus::builder().build()?;
/// let store = Arc::new(MemoryStore::new()); // State and events of one that lasts: a `LogStore`.
/// let order = bus.publisher()?.event().to_frame("orders.placed", Payload::json(r#"{"id": 7}"#))?;
/// store.append(&[order], ExpectedVersion::Any, Durability::Accepted)?;
///
/// let orders = Query::new().pattern(Pattern::new("orders.*")?);
/// let billing = || DurableSubscription::builder(store.clone(), store.clone(), "billing").query(orders.clone()).open();
/// let event = billing()?.recv_deadline(Duration::from_secs(1))?;
/// println!("{}", event.payload().text().unwrap_or_default());
/// drop(event); // The process ended here: it comes again.
///
/// let mut again = billing()?;
/// let event = again.recv_deadline(Duration::from_secs(1))?;
/// again.ack(event.position())?;
/// assert_eq!(again.acknowledged(), Some(event.position()));
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DurableSubscription {
    store: Arc<dyn EventStore>,
    query: Query,
    cursor: Cursor,
    acknowledged: Option<Position>,
    /// The last event that was given out.
    given: Option<Position>,
    /// How far the store was looked at; what is meant of that and was not given out is in the page.
    looked_at: Option<Position>,
    page: VecDeque<StoredEvent>,
}

/// A durable subscription under way: to all events, from the first on, unless it is told otherwise.
#[must_use = "nothing is subscribed until `open`"]
pub struct DurableSubscriptionBuilder {
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    name: String,
    query: Query,
    word: Option<Durability>,
}

impl DurableSubscription {
    /// Begins a subscription of this name, 1 to 255 bytes: to events of `store`, with its cursor in `state`.
    pub fn builder(
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        name: impl Into<String>,
    ) -> DurableSubscriptionBuilder {
        DurableSubscriptionBuilder { store, state, name: name.into(), query: Query::new(), word: None }
    }

    /// The position up to which everything is acknowledged; `None` = nothing is.
    pub fn acknowledged(&self) -> Option<Position> {
        self.acknowledged
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::Read`]. What is damaged is said once, and the next call goes on behind it.
    pub fn try_recv(&mut self) -> Result<Option<StoredEvent>, DurableSubscriptionError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.given = Some(event.position());
                return Ok(Some(event));
            }
            let head = self.store.head().map_err(DurableSubscriptionError::Read)?;
            let Some(head) = head.filter(|head| self.looked_at.is_none_or(|looked_at| looked_at < *head)) else {
                return Ok(None);
            };
            self.look(head)?;
        }
    }

    /// Waits for the next event, at most `limit`.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::TimedOut`]; else as [`try_recv`](Self::try_recv).
    pub fn recv_deadline(&mut self, limit: Duration) -> Result<StoredEvent, DurableSubscriptionError> {
        let begun = Instant::now();
        loop {
            if let Some(event) = self.try_recv()? {
                return Ok(event);
            }
            let left = limit.saturating_sub(begun.elapsed());
            self.store.wait_behind(self.looked_at, left).map_err(DurableSubscriptionError::Read)?;
            if begun.elapsed() >= limit {
                return Err(DurableSubscriptionError::TimedOut { after: limit });
            }
        }
    }

    /// Says that everything up to this position is handled, and keeps that. A position that was acknowledged already changes
    /// nothing.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::NotGiven`], [`DurableSubscriptionError::Cursor`]; then what was acknowledged before counts.
    ///
    /// # Cost
    /// A write to the store of state, as durable as the subscription was told. Acknowledge the last of several events for fewer.
    pub fn ack(&mut self, position: Position) -> Result<(), DurableSubscriptionError> {
        if self.acknowledged >= Some(position) {
            return Ok(());
        }
        if self.given < Some(position) {
            return Err(DurableSubscriptionError::NotGiven { position, given: self.given });
        }
        // Behind the last event there may have been others that are not meant.
        let is_last = self.given == Some(position) && self.page.is_empty();
        let position = if is_last { self.looked_at.max(Some(position)) } else { Some(position) };
        self.cursor.keep(position).map_err(DurableSubscriptionError::Cursor)?;
        self.acknowledged = position;
        Ok(())
    }

    /// Goes back to what is acknowledged: what was given out since comes again.
    pub fn rewind(&mut self) {
        self.page.clear();
        (self.given, self.looked_at) = (self.acknowledged, self.acknowledged);
    }

    /// Reads on, up to a position.
    fn look(&mut self, head: Position) -> Result<(), DurableSubscriptionError> {
        let query = self.query.clone();
        let query = match self.looked_at {
            Some(looked_at) => query.behind(looked_at),
            None => query,
        };
        match self.store.query(&query.up_to(head)) {
            Ok(page) => {
                self.looked_at = page.next.or(Some(head));
                self.page = page.events.into();
                Ok(())
            }
            Err(error) => {
                let behind = error.behind();
                self.looked_at = behind.max(self.looked_at);
                Err(DurableSubscriptionError::Read(error))
            }
        }
    }
}

impl DurableSubscriptionBuilder {
    /// Opens it as one that has a handler called, counts the attempts in the store of state, and gives up what fails too often: to this
    /// queue, which is in the same store.
    ///
    /// # Errors
    /// See [`ReliableSubscriptionError`].
    pub fn open_reliable(self, letters: DeadLetterQueue) -> Result<ReliableSubscription, ReliableSubscriptionError> {
        let (name, state) = (self.name.clone(), Arc::clone(&self.state));
        let word = self.word.unwrap_or_else(|| state.state_durability().min(Durability::Written));
        let subscription = self.open().map_err(ReliableSubscriptionError::Subscription)?;
        ReliableSubscription::new(subscription, name, state, word, letters)
    }

    /// Only events that a query means, oldest first. Its limit is that of what is read at once.
    pub fn query(mut self, query: Query) -> Self {
        self.query = query.oldest_first();
        self
    }

    /// What an acknowledgement has to survive. Default: the end of the process, where the store of state keeps that.
    pub fn durability(mut self, word: Durability) -> Self {
        self.word = Some(word);
        self
    }

    /// Opens it where it was.
    ///
    /// # Errors
    /// See [`DurableSubscriptionError`].
    pub fn open(self) -> Result<DurableSubscription, DurableSubscriptionError> {
        let Self { store, state, name, query, word } = self;
        let word = word.unwrap_or_else(|| state.state_durability().min(Durability::Written));
        let cursor = Cursor::new(state, CURSOR, &name, word).map_err(DurableSubscriptionError::Cursor)?;
        let head = store.head().map_err(DurableSubscriptionError::Read)?;
        let acknowledged = cursor.within(head).map_err(DurableSubscriptionError::Cursor)?;
        let page = VecDeque::new();
        let (given, looked_at) = (acknowledged, acknowledged);
        Ok(DurableSubscription { store, query, cursor, acknowledged, given, looked_at, page })
    }
}

/// Why a durable subscription has no event to give, or did not take an acknowledgement.
#[derive(Debug)]
#[non_exhaustive]
pub enum DurableSubscriptionError {
    /// No event came in time.
    TimedOut {
        /// How long it waited.
        after: Duration,
    },
    /// The store could not be read.
    Read(ReadError),
    /// The cursor was not read, or not kept.
    Cursor(CursorError),
    /// A position was acknowledged behind the last event that was given out.
    NotGiven {
        /// The position.
        position: Position,
        /// Of the last event given out, or acknowledged before.
        given: Option<Position>,
    },
}

impl fmt::Display for DurableSubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "no event came within {after:?}; wait longer"),
            Self::Read(error) => error.fmt(f),
            Self::Cursor(error) => error.fmt(f),
            Self::NotGiven { position, given } => write!(
                f,
                "position {position} was acknowledged, and events were given out up to {}; acknowledge what was handled",
                given.map_or(0, Position::get)
            ),
        }
    }
}

impl Error for DurableSubscriptionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Cursor(error) => Some(error),
            Self::TimedOut { .. } | Self::NotGiven { .. } => None,
        }
    }
}

impl fmt::Debug for DurableSubscriptionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableSubscriptionBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for DurableSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableSubscription").field("acknowledged", &self.acknowledged).finish_non_exhaustive()
    }
}
