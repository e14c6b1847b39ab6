//! Asking for events: which, in what order, how many at once.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{EventId, Meta, Pattern};

use super::{EventStore, Position, ReadError, StoredEvent, StoredEventRef};

/// In which order events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Order {
    /// By rising position.
    #[default]
    OldestFirst,
    /// By falling position.
    NewestFirst,
}

/// Which events are meant: those that meet everything that was asked for, all when nothing was.
///
/// ```
/// use ringmain::Pattern;
/// use ringmain::store::Query;
/// use std::time::{Duration, SystemTime};
///
/// let hour = Duration::from_secs(3_600);
/// let recent = Query::new()
///     .pattern(Pattern::new("orders.**")?)
///     .source("service:shop")
///     .created_from(SystemTime::now() - hour)
///     .newest_first()
///     .limit(20);
/// # let _ = recent;
/// # Ok::<(), ringmain::PatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    pattern: Option<Pattern>,
    source: Option<String>,
    correlation: Option<EventId>,
    aggregate: Option<(String, String)>,
    after_version: u64,
    created_from: Option<u64>,
    created_before: Option<u64>,
    from: Option<Position>,
    to: Option<Position>,
    behind: Option<Position>,
    order: Order,
    limit: Option<usize>,
}

impl Query {
    /// The most events that a page may have.
    pub const EVENTS_MAX: usize = 10_000;
    /// Events that a page has unless a limit is set.
    pub const EVENTS_DEFAULT: usize = 1_000;

    /// All events, oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events whose topic matches.
    #[must_use]
    pub fn pattern(self, pattern: Pattern) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// Events of this source.
    #[must_use]
    pub fn source(self, source: impl Into<String>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Events that belong to this story.
    #[must_use]
    pub fn correlation(self, id: EventId) -> Self {
        Self { correlation: Some(id), ..self }
    }

    /// Events of this aggregate.
    #[must_use]
    pub fn aggregate(self, kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { aggregate: Some((kind.into(), id.into())), ..self }
    }

    /// Events of an aggregate after this version of it. With 0, the default, also events of none.
    #[must_use]
    pub fn after_version(self, version: u64) -> Self {
        Self { after_version: version, ..self }
    }

    /// Events created at this time or later. It is the event's own time that counts, not when it was appended.
    #[must_use]
    pub fn created_from(self, time: SystemTime) -> Self {
        Self { created_from: Some(unix_ns(time)), ..self }
    }

    /// Events created before this time.
    #[must_use]
    pub fn created_before(self, time: SystemTime) -> Self {
        Self { created_before: Some(unix_ns(time)), ..self }
    }

    /// Events at this position and behind it. Where they are removed that is an error: [`ReadError::Removed`].
    #[must_use]
    pub fn from_position(self, position: Position) -> Self {
        Self { from: Some(position), ..self }
    }

    /// Events up to this position and at it.
    #[must_use]
    pub fn to_position(self, position: Position) -> Self {
        Self { to: Some(position), ..self }
    }

    /// Events behind this position, in the order of the query: where a page before it ended. Oldest first, events that were removed
    /// meanwhile are an error: [`ReadError::Removed`].
    #[must_use]
    pub fn behind(self, position: Position) -> Self {
        Self { behind: Some(position), ..self }
    }

    /// For who reads on, oldest first: events behind this position. With `None` from the very first on, if no other begin is asked for;
    /// where that was removed it is an error: [`ReadError::Removed`].
    #[must_use]
    pub fn reading_on(self, position: Option<Position>) -> Self {
        match position {
            Some(position) => self.oldest_first().behind(position),
            None => Self { from: self.from.or(Some(Position::FIRST)), ..self.oldest_first() },
        }
    }

    /// The latest events first.
    #[must_use]
    pub fn newest_first(self) -> Self {
        Self { order: Order::NewestFirst, ..self }
    }

    /// Events of a page, from 1 to 10,000. Default 1,000.
    #[must_use]
    pub fn limit(self, events: usize) -> Self {
        Self { limit: Some(events), ..self }
    }

    /// The same, oldest first.
    pub(super) fn oldest_first(self) -> Self {
        Self { order: Order::OldestFirst, ..self }
    }

    /// The same, and nothing behind a position.
    pub(super) fn up_to(self, position: Position) -> Self {
        let to = self.to.map_or(position, |to| to.min(position));
        self.to_position(to)
    }

    /// Reads page after page, each of so many events as the limit says, to the end.
    pub fn stream(self, store: &dyn EventStore) -> Events<'_> {
        Events { store, query: Some(self), page: Vec::new().into_iter() }
    }

    /// Lends event after event, page after page, to the end or until `look` breaks: the fastest way to read a store.
    ///
    /// ```
    /// use ringmain::store::{MemoryStore, Query};
    /// use std::ops::ControlFlow;
    ///
    /// let store = MemoryStore::new();
    /// let (mut events, mut bytes) = (0, 0);
    /// Query::new().visit(&store, |event| {
    ///     events += 1;
    ///     bytes += event.payload().bytes().len();
    ///     ControlFlow::Continue(())
    /// })?;
    /// # assert_eq!((events, bytes), (0, 0));
    /// # Ok::<(), ringmain::store::ReadError>(())
    /// ```
    ///
    /// # Errors
    /// See [`ReadError`]; all events before what cannot be read were lent.
    ///
    /// # Cost
    /// See [`EventStore::visit`].
    pub fn visit(
        self,
        store: &dyn EventStore,
        mut look: impl FnMut(StoredEventRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut query = Some(self);
        while let Some(asked) = query {
            let mut flow = ControlFlow::Continue(());
            let next = store.visit(&asked, &mut |event| {
                flow = look(event);
                flow
            })?;
            query = next.filter(|_| flow.is_continue()).map(|next| asked.behind(next));
        }
        Ok(())
    }

    /// The pattern asked for, if any.
    pub fn pattern_asked(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }

    /// The source asked for, if any.
    pub fn source_asked(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The version of an aggregate behind which its events are asked for; 0 = all.
    pub const fn after_version_asked(&self) -> u64 {
        self.after_version
    }

    /// The correlation asked for, if any.
    pub fn correlation_asked(&self) -> Option<EventId> {
        self.correlation
    }

    /// Kind and id of the aggregate asked for, if any.
    pub fn aggregate_asked(&self) -> Option<(&str, &str)> {
        self.aggregate.as_ref().map(|(kind, id)| (&**kind, &**id))
    }

    /// The order asked for.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// First and last position that can be meant, where reading is to go on included; `None` when none can.
    pub fn positions(&self) -> Option<(Position, Position)> {
        let end = Position::new(u64::MAX).expect("not 0");
        let (mut first, mut last) = (self.from.unwrap_or(Position::FIRST), self.to.unwrap_or(end));
        match (self.behind, self.order) {
            (None, _) => {}
            (Some(behind), Order::OldestFirst) => first = first.max(Position::new(behind.get().checked_add(1)?)?),
            (Some(behind), Order::NewestFirst) => last = last.min(Position::new(behind.get() - 1)?),
        }
        (first <= last).then_some((first, last))
    }

    /// Whether all events are there that the query may mean, if the oldest that a store has is at `first`: for those who write a
    /// store that removes events. A query that does not say where to begin means what there is, and so does one for the newest first.
    ///
    /// # Errors
    /// [`ReadError::Removed`].
    pub fn check_first(&self, first: Position) -> Result<(), ReadError> {
        if self.order == Order::NewestFirst || (self.from.is_none() && self.behind.is_none()) {
            return Ok(());
        }
        match self.positions() {
            Some((from, _)) if from < first => Err(ReadError::Removed { from, first }),
            _ => Ok(()),
        }
    }

    /// Events that a page may have.
    ///
    /// # Errors
    /// When the limit asked for is 0 or above [`EVENTS_MAX`](Self::EVENTS_MAX).
    pub fn events_max(&self) -> Result<usize, ReadError> {
        match self.limit.unwrap_or(Self::EVENTS_DEFAULT) {
            asked if asked == 0 || asked > Self::EVENTS_MAX => Err(ReadError::Limit { asked, max: Self::EVENTS_MAX }),
            limit => Ok(limit),
        }
    }

    /// Whether an event is meant, its position aside: for stores to ask where no index of theirs answers.
    pub fn means(&self, event: &StoredEvent) -> bool {
        self.means_meta(&event.meta())
    }

    /// Whether every event is meant, its position aside.
    pub(super) fn means_all(&self) -> bool {
        let Self { pattern, source, correlation, aggregate, after_version, created_from, created_before, .. } = self;
        let is_of_any = pattern.is_none() && source.is_none() && correlation.is_none() && aggregate.is_none();
        is_of_any && *after_version == 0 && created_from.is_none() && created_before.is_none()
    }

    pub(super) fn means_meta(&self, meta: &Meta<'_>) -> bool {
        let is_of_any = self.aggregate.is_none() && self.after_version == 0;
        let aggregate = if is_of_any { None } else { meta.aggregate() };
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(meta.topic()))
            && self.source.as_ref().is_none_or(|source| source == meta.source())
            && self.correlation.is_none_or(|id| meta.correlation() == Some(id))
            && self.aggregate_asked().is_none_or(|asked| aggregate.is_some_and(|of| (of.kind, of.id) == asked))
            && (self.after_version == 0 || aggregate.is_some_and(|of| of.version > self.after_version))
            && self.created_from.is_none_or(|from| meta.unix_ns() >= from)
            && self.created_before.is_none_or(|before| meta.unix_ns() < before)
    }
}

/// Nanoseconds of Unix time; 0 for what was before, and the end of all time for what is too far ahead.
fn unix_ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()).unwrap_or(u64::MAX)
}

/// Events that a query means, in its order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events; fewer than the limit also where there are more.
    pub events: Vec<StoredEvent>,
    /// Where to go on, with [`Query::behind`]; `None` when there is nothing more to look at. A page may be empty and say
    /// where to go on: it looked at events, and none of them was meant.
    pub next: Option<Position>,
}

/// All events that a query means, read page by page. It ends with an error, or with the last event there is when it comes
/// to it.
#[must_use = "nothing is read until it is iterated"]
pub struct Events<'s> {
    store: &'s dyn EventStore,
    /// The next page's; `None` when there is none.
    query: Option<Query>,
    page: std::vec::IntoIter<StoredEvent>,
}

impl Iterator for Events<'_> {
    type Item = Result<StoredEvent, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.page.next() {
                return Some(Ok(event));
            }
            let query = self.query.take()?;
            match self.store.query(&query) {
                Ok(page) => {
                    self.query = page.next.map(|next| query.behind(next));
                    self.page = page.events.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("query", &self.query).finish_non_exhaustive()
    }
}
