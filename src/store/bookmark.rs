//! How far a reader of a store has come: a position, and which event was there.

use crate::EventId;

use super::{EventStore, Position, Query, ReadError, StoredEventRef};

/// How far a reader of a store has come: the last position that it has looked at, and the id of the event there. After the
/// store has lost its end, was put back from a backup, or is another one, that position may hold another event, and what is behind
/// it be passed over: the id tells.
///
/// Keep it as a value of [`StateKind::CURSOR`](super::StateKind::CURSOR) after [`EventStore::sync`]: a
/// [`LogStore`](super::LogStore) then removes nothing behind it that is kept for long.
///
/// ```
/// use ringmain::store::{Bookmark, Durability, EventStore, ExpectedVersion, MemoryStore, Position, ReadError};
/// use ringmain::{Bus, Payload};
///
/// let bus = Bus::builder().build()?;
/// let mut publisher = bus.publisher()?;
/// let mut with_one_event = || -> Result<_, Box<dyn std::error::Error>> {
///     let store = MemoryStore::new();
///     let order = publisher.event().to_frame("orders.placed", Payload::json(r#"{"id": 7}"#))?;
///     store.append(&[order], ExpectedVersion::Any, Durability::Accepted)?;
///     Ok(store)
/// };
/// let (store, another) = (with_one_event()?, with_one_event()?);
///
/// let kept = Bookmark::at(&store, Position::FIRST)?.to_bytes();
/// let bookmark = Bookmark::of_bytes(&kept).expect("it was kept");
/// bookmark.check(&store)?;
/// assert!(matches!(bookmark.check(&another), Err(ReadError::Diverged { .. })));
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    position: Option<Position>,
    event: Option<EventId>,
}

impl Bookmark {
    /// Bytes that it is kept in.
    pub const BYTES: usize = 24;
    /// Before the first event.
    pub const START: Self = Self { position: None, event: None };

    /// At an event.
    pub fn of<'e>(event: impl Into<StoredEventRef<'e>>) -> Self {
        let event = event.into();
        Self { position: Some(event.position()), event: Some(event.meta().id()) }
    }

    /// At a position of a store, whose event is looked up. One that cannot be read, or was removed, has no id, and
    /// is not told from another.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cost
    /// Reads one event.
    pub fn at(store: &dyn EventStore, position: Position) -> Result<Self, ReadError> {
        let query = Query::new().from_position(position).to_position(position).limit(1);
        let event = match store.query(&query) {
            Ok(page) => page.events.first().map(|event| event.meta().id()),
            Err(error) if error.behind().is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { position: Some(position), event })
    }

    /// The last position that was looked at; `None` = it stands before the first event.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// The id of the event there, if it is known.
    pub const fn event(&self) -> Option<EventId> {
        self.event
    }

    /// Checks that a store has this event at this position.
    ///
    /// # Errors
    /// [`ReadError::Diverged`] when it has another, or ends before; any other when it fails.
    ///
    /// # Cost
    /// Reads one event.
    pub fn check(&self, store: &dyn EventStore) -> Result<(), ReadError> {
        let Some(position) = self.position else { return Ok(()) };
        if store.head()? < Some(position) {
            return Err(ReadError::Diverged { bookmark: *self, found: None });
        }
        let found = Self::at(store, position)?.event;
        match (self.event, found) {
            (Some(event), Some(other)) if event != other => Err(ReadError::Diverged { bookmark: *self, found }),
            _ => Ok(()),
        }
    }

    /// As it is kept: the position, 0 = before the first, then the id, zeros = not known; little-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.position.map_or(0, Position::get).to_le_bytes());
        if let Some(event) = self.event {
            bytes[8..].copy_from_slice(event.as_bytes());
        }
        bytes
    }

    /// As it was kept; `None` when these bytes are no bookmark.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, id) = bytes.split_first_chunk::<8>()?;
        let id: [u8; 16] = id.try_into().ok()?;
        let event = (id != [0; 16]).then(|| EventId::from_bytes(id));
        Some(Self { position: Position::new(u64::from_le_bytes(*number)), event })
    }
}
