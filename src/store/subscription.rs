//! Subscriptions to a store that outlive their process: each has a name, and a cursor that is kept under it.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, CursorError};
use super::state::STATE_PAGE_MAX;
use super::{
    Bookmark, DeadLetterQueue, Durability, EventStore, LeaseError, Leased, Position, Query, ReadError,
    ReliableSubscription, ReliableSubscriptionError, StateKind, StateReadError, StateStore, StoredEvent,
};

/// What keys of its cursors begin with.
const CURSOR: &[u8] = b"subscription";
/// Positions that it passes without an event for it before it keeps that.
const PASSED_MIN: u64 = 10_000;

/// Events of a store from where it was the last time, then those that are appended, in the order of their positions.
///
/// Each event comes at least once: what was not [acknowledged](Self::ack) comes again after the subscription was opened anew, in
/// this process or another. It is pulled, on any thread; who is slow slows nobody, and misses nothing. One at a time has a
/// name, in whichever process.
///
/// An event may come as soon as it is written. Its acknowledgement makes it durable before it is kept, so the loss of power takes no
/// event that was acknowledged. A cursor keeps which event it stands at: over another store, or one that was put back from an older copy, the
/// subscription does not open ([`ReadError::Diverged`]) unless it is told [where to begin](DurableSubscriptionBuilder::begin_behind).
///
/// A [`Retention`](super::Retention) of the store that the cursor is kept in waits for it, unless it was told for how long. Events that were
/// removed are said, once, as how many and which ([`ReadError::Removed`]), and the next call goes on behind them.
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
    acknowledged: Bookmark,
    /// The last event that was given out.
    given: Bookmark,
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
    begin: Option<Option<Position>>,
}

impl DurableSubscription {
    /// Begins a subscription of this name, 1 to 255 bytes: to events of `store`, with its cursor in `state`.
    pub fn builder(
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        name: impl Into<String>,
    ) -> DurableSubscriptionBuilder {
        DurableSubscriptionBuilder { store, state, name: name.into(), query: Query::new(), word: None, begin: None }
    }

    /// The names that begin so among those of subscriptions whose cursors `state` has.
    ///
    /// # Errors
    /// See [`StateReadError`].
    ///
    /// # Cost
    /// The keys of all cursors are read.
    pub fn names(state: &dyn StateStore, prefix: &str) -> Result<Vec<String>, StateReadError> {
        let (mut names, mut from) = (Vec::new(), Some(Box::from(CURSOR)));
        while let Some(at) = from.take() {
            let page = state.list(StateKind::CURSOR, &at, STATE_PAGE_MAX)?;
            for (key, _) in &page.entries {
                // Other kinds of cursors are behind.
                let Some([length, rest @ ..]) = key.strip_prefix(CURSOR) else { return Ok(names) };
                let name = rest.get(..usize::from(*length)).and_then(|name| std::str::from_utf8(name).ok());
                names.extend(name.filter(|name| name.starts_with(prefix)).map(str::to_owned));
            }
            from = page.next;
        }
        Ok(names)
    }

    /// The position up to which everything is acknowledged; `None` = nothing is.
    pub fn acknowledged(&self) -> Option<Position> {
        self.acknowledged.position()
    }

    /// How far it has looked. What is there and not given out is not meant, or comes next.
    pub fn looked_at(&self) -> Option<Position> {
        self.looked_at
    }

    /// The next event, if there is one in the next page of the store. `None` also where there is more to
    /// [look at](Self::looked_at): the next call does.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::Read`]. What is damaged or was removed is said once, and the next call goes on behind it.
    /// [`DurableSubscriptionError::Cursor`] as in the cost; the next call tries again.
    ///
    /// # Cost
    /// At most one page is read: so many events as the limit of the query says, or 65,536 of which none is meant. Once 10,000 were passed of
    /// which none was meant, and nothing is to be acknowledged, that is kept as by [`ack`](Self::ack).
    pub fn try_recv(&mut self) -> Result<Option<StoredEvent>, DurableSubscriptionError> {
        if self.page.is_empty() {
            self.keep_passed()?;
            self.look()?;
        }
        let next = self.page.pop_front();
        if let Some(event) = &next {
            self.given = Bookmark::of(event);
        }
        Ok(next)
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
    /// It blocks. A sync of the events, where they are not durable yet: some milliseconds on most disks. A write to the store of state, as
    /// durable as the subscription was told: with [`Durability::Durable`] another sync. One event is read, unless this is the last that was given
    /// out. So acknowledge the last of several events: that is one write and at most two syncs for all of them.
    pub fn ack(&mut self, position: Position) -> Result<(), DurableSubscriptionError> {
        if self.acknowledged.position() >= Some(position) {
            return Ok(());
        }
        let given = self.given.position();
        if given < Some(position) {
            return Err(DurableSubscriptionError::NotGiven { position, given });
        }
        // Behind the last event there may have been others that are not meant.
        let is_last = given == Some(position) && self.page.is_empty();
        let reached =
            if is_last { self.looked_at.map_or(position, |looked_at| looked_at.max(position)) } else { position };
        let bookmark = if given == Some(reached) { Ok(self.given) } else { self.cursor.at(reached) };
        self.keep(bookmark.map_err(DurableSubscriptionError::Cursor)?)
    }

    /// Forgets the subscription: its cursor is removed, and nothing is kept in the store for its sake any more. One of the same name is
    /// a new one.
    ///
    /// # Errors
    /// [`DurableSubscriptionError::Cursor`]; then it is as it was.
    pub fn forget(self) -> Result<(), DurableSubscriptionError> {
        self.cursor.forget().map_err(DurableSubscriptionError::Cursor)
    }

    fn keep(&mut self, bookmark: Bookmark) -> Result<(), DurableSubscriptionError> {
        self.cursor.keep(bookmark).map_err(DurableSubscriptionError::Cursor)?;
        self.acknowledged = bookmark;
        Ok(())
    }

    /// Keeps how far it has looked, where nothing was meant for long: it would look there again, and old events be kept for it.
    fn keep_passed(&mut self) -> Result<(), DurableSubscriptionError> {
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        let passed = number(self.looked_at).saturating_sub(number(self.acknowledged.position()));
        let Some(looked_at) = self.looked_at.filter(|_| passed >= PASSED_MIN) else { return Ok(()) };
        if self.given != self.acknowledged {
            return Ok(());
        }
        let bookmark = self.cursor.at(looked_at).map_err(DurableSubscriptionError::Cursor)?;
        self.keep(bookmark)?;
        self.given = bookmark;
        Ok(())
    }

    /// Goes back to what is acknowledged: what was given out since comes again.
    pub fn rewind(&mut self) {
        self.page.clear();
        (self.given, self.looked_at) = (self.acknowledged, self.acknowledged.position());
    }

    /// Reads the next page.
    fn look(&mut self) -> Result<(), DurableSubscriptionError> {
        let head = self.store.head().map_err(DurableSubscriptionError::Read)?;
        let Some(head) = head.filter(|head| self.looked_at.is_none_or(|looked_at| looked_at < *head)) else {
            return Ok(());
        };
        let query = self.query.clone().reading_on(self.looked_at);
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

    /// Begins behind this position, `None` being before the first event, whatever was kept. Default: where it was, or with the first
    /// event that there is.
    pub fn begin_behind(mut self, position: Option<Position>) -> Self {
        self.begin = Some(position);
        self
    }

    /// Opens it where it was.
    ///
    /// # Errors
    /// See [`DurableSubscriptionError`]; [`CursorError::Store`] with [`ReadError::Diverged`] when the store is not the one that it has read.
    pub fn open(self) -> Result<DurableSubscription, DurableSubscriptionError> {
        let Self { store, state, name, query, word, begin } = self;
        let word = word.unwrap_or_else(|| state.state_durability().min(Durability::Written));
        let state = Leased::take(state, &format!("durable subscription {name:?}"));
        let state = state.map_err(DurableSubscriptionError::Lease)?;
        let cursor = Cursor::new((Arc::clone(&store), state), CURSOR, &name, word);
        let cursor = cursor.map_err(DurableSubscriptionError::Cursor)?;
        let acknowledged = cursor.open(begin).map_err(DurableSubscriptionError::Cursor)?;
        let page = VecDeque::new();
        let (given, looked_at) = (acknowledged, acknowledged.position());
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
    /// Somebody else has a subscription of this name.
    Lease(LeaseError),
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
            Self::Lease(error) => error.fmt(f),
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
            Self::Lease(error) => Some(error),
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
