//! Asking for records: whose, of what, when.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{EventId, Pattern, PatternError};

use super::super::{EventStore, Events, Query, StoredEvent};
use super::{AuditError, KIND, TOPIC, change};

/// Which records of an audit trail are meant: those that meet everything that was asked for, oldest first; all when nothing was.
///
/// ```
/// use ringmain::store::{AuditQuery, MemoryStore};
///
/// let store = MemoryStore::new(); // Of another process, perhaps: no bus is needed to ask.
/// for record in AuditQuery::new().actor("ada").action("rule.*")?.newest_first().stream(&store) {
///     println!("{}", record?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is read until `stream`"]
pub struct AuditQuery(Query);

impl Default for AuditQuery {
    fn default() -> Self {
        Self::new()
    }
}

impl AuditQuery {
    /// All records.
    pub fn new() -> Self {
        Self(Query::new().pattern(Pattern::new("ringmain.audit.**").expect("it is a pattern")))
    }

    /// Of what this actor did.
    pub fn actor(self, name: impl Into<String>) -> Self {
        Self(self.0.source(name))
    }

    /// Of this action, or of those that match a pattern: `rule.added`, `rule.*`.
    ///
    /// # Errors
    /// When it is no pattern.
    pub fn action(self, pattern: &str) -> Result<Self, PatternError> {
        Ok(Self(self.0.pattern(Pattern::new(&format!("{TOPIC}{pattern}"))?)))
    }

    /// Of this object.
    pub fn object(self, name: impl Into<String>) -> Self {
        Self(self.0.aggregate(KIND, name))
    }

    /// Of what was done at this time or later.
    pub fn from(self, time: SystemTime) -> Self {
        Self(self.0.created_from(time))
    }

    /// Of what was done before this time.
    pub fn before(self, time: SystemTime) -> Self {
        Self(self.0.created_before(time))
    }

    /// The latest first.
    pub fn newest_first(self) -> Self {
        Self(self.0.newest_first())
    }

    /// The records, read from the store page by page.
    pub fn stream(self, store: &dyn EventStore) -> AuditRecords<'_> {
        AuditRecords(self.0.stream(store))
    }

    /// The same as a query of events: to export them, to count them, to go on behind a position.
    pub fn to_query(&self) -> Query {
        self.0.clone()
    }
}

/// Records of an audit trail, in the order of their query.
#[derive(Debug)]
#[must_use = "nothing is read until it is iterated"]
pub struct AuditRecords<'s>(Events<'s>);

impl Iterator for AuditRecords<'_> {
    type Item = Result<AuditRecord, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(AuditError::Read).and_then(AuditRecord::read))
    }
}

/// One record of an audit trail.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    event: StoredEvent,
    before: Option<String>,
    after: Option<String>,
}

impl AuditRecord {
    /// The record that an event of a store is.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] when it is none.
    pub fn read(event: StoredEvent) -> Result<Self, AuditError> {
        let of_trail =
            event.meta().topic().starts_with(TOPIC) && event.meta().aggregate().is_some_and(|of| of.kind == KIND);
        let said = event.payload().text().filter(|_| of_trail).and_then(change::read);
        let (before, after) = said.ok_or(AuditError::Malformed { position: event.position().get() })?;
        Ok(Self { event, before, after })
    }

    /// Who did it.
    pub fn actor(&self) -> String {
        self.event.meta().source().to_owned()
    }

    /// What was done, such as `rule.added`.
    pub fn action(&self) -> String {
        self.event.meta().topic().strip_prefix(TOPIC).unwrap_or_default().to_owned()
    }

    /// What it was done to, such as `rule large-orders`.
    pub fn object(&self) -> String {
        self.event.meta().aggregate().map_or_else(String::new, |of| of.id.to_owned())
    }

    /// The how manieth record of its object it is, from 1 and without gaps: who removes one from a copy of the trail leaves a gap.
    pub fn version(&self) -> u64 {
        self.event.meta().aggregate().map_or(0, |of| of.version)
    }

    /// When it was done, by the wall clock.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.event.meta().unix_ns())
    }

    /// What was before, as text; `None` when there was nothing.
    pub fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// What is after, as text; `None` when there is nothing any more.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Names the record.
    pub fn id(&self) -> EventId {
        self.event.meta().id()
    }

    /// What it follows from: the record of an action that failed, or the event that was published.
    pub fn cause(&self) -> Option<EventId> {
        self.event.meta().causation()
    }

    /// The record as the store has it.
    pub const fn event(&self) -> &StoredEvent {
        &self.event
    }
}

impl fmt::Display for AuditRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} by {}", self.event.position(), self.object(), self.action(), self.actor())?;
        match (&self.before, &self.after) {
            (None, None) => Ok(()),
            (None, Some(after)) => write!(f, ": {after}"),
            (Some(before), None) => write!(f, ": {before} is gone"),
            (Some(before), Some(after)) => write!(f, ": {before} became {after}"),
        }
    }
}
