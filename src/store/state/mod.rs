//! Small state beside the events: what cannot be made of them again, or would take too long to make.

mod error;

use std::fmt;
use std::ops::Deref;

use rkyv::util::AlignedVec;

use super::{Durability, Lease, LeaseError};

pub use error::{StateError, StateReadError};

/// Bytes that a key may have.
pub const STATE_KEY_BYTES_MAX: usize = 1_024;
/// Bytes that a value may have: 1 MiB.
pub const STATE_VALUE_BYTES_MAX: usize = 1 << 20;
/// Changes that may be made in one piece.
pub const STATE_CHANGES_MAX: usize = 1_024;
/// Bytes of keys and values that may be changed in one piece: 16 MiB.
pub const STATE_BATCH_BYTES_MAX: usize = 16 << 20;
/// Entries that a page may have.
pub const STATE_PAGE_MAX: usize = 1_000;
/// A page ends with the entry that brings its keys and values to so many bytes: 4 MiB.
pub const STATE_PAGE_BYTES: usize = 4 << 20;

/// Keeps values by kind and key: cursors, sagas, processes, read models. Calls block; any number of threads may make them.
///
/// ```
/// use ringmain::store::{Durability, MemoryStore, StateChange, StateKind, StateStore};
/// let store = MemoryStore::new();
/// let (kind, key) = (StateKind::own(1), b"breakfast".as_slice());
/// store.apply(&[StateChange::Put { kind, key, value: b"tea" }], Durability::Accepted)?;
/// assert_eq!(&*store.get(kind, key)?.unwrap(), b"tea");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateStore: Send + Sync {
    /// Makes changes, all of them or none, and returns when `durability` is met. Of several changes of a key the last
    /// holds. Whoever reads after that sees them. No changes are nothing to do.
    ///
    /// # Errors
    /// See [`StateError`]; nothing was changed unless it says otherwise.
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError>;

    /// The value of a key; `None` when it has none.
    ///
    /// # Errors
    /// See [`StateReadError`].
    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError>;

    /// The keys of a kind with their values, in the order of their bytes: from `from` on, at most `limit` (1 to
    /// [`STATE_PAGE_MAX`]) of them. With `&[]` from the first on. They are as they all were at one moment.
    ///
    /// # Errors
    /// See [`StateReadError`].
    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError>;

    /// The strongest word that is kept for state.
    fn state_durability(&self) -> Durability;

    /// Takes a name, 1 to 1,024 bytes: nobody else has it until the lease is dropped or this process has ended, also by `kill -9`. Where
    /// several processes share the store that holds across all of them. A name is no key: it stands for whatever its owners agree on.
    ///
    /// # Errors
    /// See [`LeaseError`]; [`LeaseError::Taken`] names the owner.
    fn lease(&self, name: &str) -> Result<Lease, LeaseError>;

    /// As [`apply`](Self::apply), if the lease of this store is still one's own, in one piece with the changes.
    ///
    /// # Errors
    /// [`StateError::Lease`] when somebody else has taken the name; nothing was changed. Else as `apply`.
    fn apply_under(
        &self,
        lease: &Lease,
        changes: &[StateChange<'_>],
        durability: Durability,
    ) -> Result<(), StateError> {
        // A store of one process gives no name away while it is held.
        let _ = lease;
        self.apply(changes, durability)
    }
}

/// What a key is the key of. Keys of different kinds are different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKind(u32);

impl StateKind {
    /// Snapshots of aggregates, which the store on disk keeps beside the others.
    pub(super) const SNAPSHOT: Self = Self(1);
    /// Positions of those who read on: subscriptions, projections, process managers.
    pub const CURSOR: Self = Self(2);
    /// Events that subscriptions gave up on.
    pub const DEAD_LETTER: Self = Self(3);
    /// What is to happen at a time.
    pub const TIMER: Self = Self(4);
    /// Sagas that have not ended.
    pub const SAGA: Self = Self(5);
    /// Instances of process managers.
    pub const PROCESS: Self = Self(6);
    /// Events that are to be appended to an event store.
    pub const OUTBOX: Self = Self(7);
    /// Sagas that have ended.
    pub const SAGA_ENDED: Self = Self(8);
    /// Read models.
    pub const VIEW: Self = Self(9);
    /// Events that were handled and may come again.
    pub const HANDLED: Self = Self(11);
    /// Subscriptions that are made again at the next start.
    pub const SUBSCRIPTION: Self = Self(12);
    /// Where dead letters go on that are too long for one value.
    pub const DEAD_LETTER_PART: Self = Self(10);
    /// The last numbers that dead letters and timers were given.
    pub const NUMBER: Self = Self(16);
    /// Attempts at events that are under way.
    pub const ATTEMPT: Self = Self(17);

    /// Kinds of aggregates that are made of their events, which the store on disk keeps beside the others.
    pub(super) const SOURCED: Self = Self(18);

    /// One of your own.
    pub const fn own(number: u16) -> Self {
        Self(0x1_0000 + number as u32)
    }

    pub(super) const fn of_number(number: u32) -> Self {
        Self(number)
    }

    /// The number that is written.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match *self {
            Self::SNAPSHOT => "snapshot",
            Self::CURSOR => "cursor",
            Self::DEAD_LETTER => "dead letter",
            Self::DEAD_LETTER_PART => "part of a dead letter",
            Self::HANDLED => "handled event",
            Self::NUMBER => "last number",
            Self::ATTEMPT => "attempt",
            Self::TIMER => "timer",
            Self::SAGA => "saga",
            Self::PROCESS => "process",
            Self::OUTBOX => "outbox",
            Self::SAGA_ENDED => "ended saga",
            Self::VIEW => "view",
            Self::SUBSCRIPTION => "subscription",
            Self::SOURCED => "kind of aggregates",
            Self(other) => return write!(f, "kind {other}"),
        })
    }
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange<'a> {
    /// It has this value from now on.
    Put {
        /// What it is the key of.
        kind: StateKind,
        /// The key, up to [`STATE_KEY_BYTES_MAX`].
        key: &'a [u8],
        /// Its value, up to [`STATE_VALUE_BYTES_MAX`].
        value: &'a [u8],
    },
    /// It has no value from now on, if it had one.
    Remove {
        /// What it is the key of.
        kind: StateKind,
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> StateChange<'a> {
    /// What the key is the key of.
    pub const fn kind(&self) -> StateKind {
        let (Self::Put { kind, .. } | Self::Remove { kind, .. }) = self;
        *kind
    }

    /// The key.
    pub const fn key(&self) -> &'a [u8] {
        let (Self::Put { key, .. } | Self::Remove { key, .. }) = self;
        key
    }

    /// The value it has then.
    pub const fn value(&self) -> Option<&'a [u8]> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Remove { .. } => None,
        }
    }
}

/// A value as it was put. Its first byte is at an address that is a multiple of 16, so archives are read in place.
pub struct StateValue(AlignedVec<16>);

impl StateValue {
    /// For those who write a store: copies the bytes.
    pub fn copied_from(bytes: &[u8]) -> Self {
        // One without room would not be aligned.
        let mut aligned = AlignedVec::with_capacity(bytes.len().max(1));
        aligned.extend_from_slice(bytes);
        Self(aligned)
    }
}

impl Clone for StateValue {
    fn clone(&self) -> Self {
        Self::copied_from(self)
    }
}

impl Deref for StateValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StateValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateValue").field("bytes", &self.0.len()).finish()
    }
}

/// Keys of a kind with their values, in order.
#[derive(Debug, Clone)]
pub struct StatePage {
    /// Keys and values; fewer than the limit also where there are more.
    pub entries: Vec<(Box<[u8]>, StateValue)>,
    /// Where to go on; `None` when there is nothing more.
    pub next: Option<Box<[u8]>>,
}

impl StatePage {
    /// For those who write a store: the page that these entries, which are in order, begin with.
    ///
    /// # Errors
    /// The first error among them, or a limit that no page has.
    pub fn collect(
        entries: impl IntoIterator<Item = Result<(Box<[u8]>, StateValue), StateReadError>>,
        limit: usize,
    ) -> Result<Self, StateReadError> {
        let (mut page, mut room) = (Self { entries: Vec::new(), next: None }, PageRoom::of(limit)?);
        for entry in entries {
            let (key, value) = entry?;
            if !room.take(key.len() + value.len()) {
                page.next = Some(key);
                break;
            }
            page.entries.push((key, value));
        }
        Ok(page)
    }
}

/// What a page has room for yet.
#[derive(Debug, Clone, Copy)]
pub struct PageRoom {
    entries: usize,
    bytes: usize,
}

impl PageRoom {
    /// That of a page of at most so many entries.
    ///
    /// # Errors
    /// A limit that no page has.
    pub fn of(limit: usize) -> Result<Self, StateReadError> {
        if limit == 0 || limit > STATE_PAGE_MAX {
            return Err(StateReadError::Limit { asked: limit, max: STATE_PAGE_MAX });
        }
        Ok(Self { entries: limit, bytes: STATE_PAGE_BYTES })
    }

    /// Whether it has room for an entry, which takes so many bytes of it.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let has_room = self.entries > 0 && self.bytes > 0;
        if has_room {
            self.entries -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        has_room
    }
}

/// Checks changes against the limits that all stores have and one that this one has, and the word against the strongest that
/// it keeps.
pub(super) fn check(
    changes: &[StateChange<'_>],
    batch_bytes_max: usize,
    asked: Durability,
    kept: Durability,
) -> Result<(), StateError> {
    if asked > kept {
        return Err(StateError::Durability { asked, kept });
    }
    if changes.len() > STATE_CHANGES_MAX {
        return Err(StateError::TooMany { changes: changes.len(), max: STATE_CHANGES_MAX });
    }
    let mut batch_bytes = 0;
    for change in changes {
        let (kind, bytes, max) = (change.kind(), change.key().len(), STATE_KEY_BYTES_MAX);
        if bytes > max {
            return Err(StateError::KeyTooLong { kind, bytes, max });
        }
        batch_bytes += bytes;
        let (bytes, max) = (change.value().map_or(0, <[u8]>::len), STATE_VALUE_BYTES_MAX);
        if bytes > max {
            return Err(StateError::ValueTooLong { kind, bytes, max });
        }
        batch_bytes += bytes;
    }
    if batch_bytes > batch_bytes_max {
        return Err(StateError::BatchTooLong { bytes: batch_bytes, max: batch_bytes_max });
    }
    Ok(())
}
