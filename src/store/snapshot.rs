//! The state of an aggregate at one of its versions, so that it need not be made of all its events again.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rkyv::util::AlignedVec;

use crate::{Encoding, Payload};

/// The state of an aggregate at one of its versions. Cheap to clone.
///
/// ```
/// use ringmain::Payload;
/// use ringmain::store::{EventStore, MemoryStore, Snapshot};
/// let store = MemoryStore::new();
/// assert!(store.load_snapshot("order", "7")?.is_none());
///
/// let snapshot = Snapshot::new("order", "7", 10, Payload::json(r#"{"cents": 1999}"#));
/// let refused = store.save_snapshot(&snapshot).unwrap_err();
/// assert!(refused.to_string().contains("is at version 0"), "there are no such events");
/// # Ok::<(), ringmain::store::ReadError>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    kind: Arc<str>,
    id: Arc<str>,
    version: u64,
    schema: u16,
    taken_at: SystemTime,
    encoding: Encoding,
    state: Arc<AlignedVec<16>>,
}

impl Snapshot {
    /// The longest state, in bytes: 16 MiB.
    pub const STATE_BYTES_MAX: usize = 16 << 20;

    /// The state of an aggregate after the event of this version, taken now. The state is copied.
    pub fn new(kind: &str, id: &str, version: u64, state: Payload<'_>) -> Self {
        let mut bytes = AlignedVec::with_capacity(state.bytes().len());
        bytes.extend_from_slice(state.bytes());
        Self {
            kind: kind.into(),
            id: id.into(),
            version,
            schema: 1,
            taken_at: SystemTime::now(),
            encoding: state.encoding(),
            state: Arc::new(bytes),
        }
    }

    /// The version of the state's schema. Default 1.
    #[must_use]
    pub fn with_schema_version(self, schema: u16) -> Self {
        Self { schema, ..self }
    }

    /// When it was taken, for one that comes from elsewhere.
    #[must_use]
    pub fn with_taken_at(self, taken_at: SystemTime) -> Self {
        Self { taken_at, ..self }
    }

    /// What kind of thing it is of.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The version of the aggregate that it shows.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The version of the state's schema.
    pub const fn schema_version(&self) -> u16 {
        self.schema
    }

    /// When it was taken.
    pub const fn taken_at(&self) -> SystemTime {
        self.taken_at
    }

    /// The state, and how it is encoded. It starts on a 16-byte boundary: [`Payload::archived`] reads it in place.
    pub fn state(&self) -> Payload<'_> {
        payload(self.encoding, &self.state)
    }
}

/// Bytes that are encoded in this way.
pub(super) fn payload(encoding: Encoding, bytes: &[u8]) -> Payload<'_> {
    match encoding {
        Encoding::Rkyv => Payload::rkyv(bytes),
        Encoding::Protobuf => Payload::protobuf(bytes),
        Encoding::Json => text(bytes, Payload::json),
        Encoding::Text => text(bytes, Payload::plain_text),
        _ => Payload::raw(bytes),
    }
}

/// Text that a payload was said to be; raw bytes where it is none.
fn text<'a>(bytes: &'a [u8], read: impl FnOnce(&'a str) -> Payload<'a>) -> Payload<'a> {
    std::str::from_utf8(bytes).map_or(Payload::raw(bytes), read)
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("version", &self.version)
            .field("schema", &self.schema)
            .field("encoding", &self.encoding)
            .field("state_bytes", &self.state.len())
            .finish_non_exhaustive()
    }
}

/// Why a snapshot was not kept.
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It shows a version that the store has no event of: loading it would hide the events to come.
    Ahead {
        /// The aggregate's kind.
        kind: String,
        /// Its id.
        id: String,
        /// The version it shows.
        version: u64,
        /// The version the aggregate is at.
        found: u64,
    },
    /// Its state is longer than allowed.
    TooLarge {
        /// Bytes of the state.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The store is full.
    Full {
        /// Which limit.
        limit: &'static str,
        /// What would be needed.
        needed: u64,
        /// The limit.
        max: u64,
    },
    /// What the store keeps snapshots in failed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead { kind, id, version, found } => write!(
                f,
                "the snapshot shows {kind} {id:?} at version {version}, which is at version {found}; append its events first"
            ),
            Self::TooLarge { bytes, max } => {
                write!(f, "the snapshot's state has {bytes} bytes, the limit is {max}; keep less in it")?;
                let can_be_more = *max < Snapshot::STATE_BYTES_MAX;
                if can_be_more { f.write_str(", or raise snapshot_state_bytes_max") } else { Ok(()) }
            }
            Self::Full { limit, needed, max } => {
                write!(f, "the store is full: {needed} would be needed, the limit is {max}; raise {limit}")
            }
            Self::Failed(error) => write!(f, "the snapshot was not kept: {error}"),
        }
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Checks a snapshot against the version of its aggregate that the store knows.
pub(super) fn check(snapshot: &Snapshot, found: u64) -> Result<(), SnapshotError> {
    let (bytes, max) = (snapshot.state.len(), Snapshot::STATE_BYTES_MAX);
    if bytes > max {
        return Err(SnapshotError::TooLarge { bytes, max });
    }
    if snapshot.version > found {
        let (kind, id) = (snapshot.kind().to_owned(), snapshot.id().to_owned());
        return Err(SnapshotError::Ahead { kind, id, version: snapshot.version, found });
    }
    Ok(())
}

/// Nanoseconds of Unix time; the nearest that there is for what is too far away.
pub(super) fn unix_ns(time: SystemTime) -> i64 {
    let ns = |since: Duration| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|error| -ns(error.duration()), ns)
}

/// The time of so many nanoseconds of Unix time.
pub(super) fn time(unix_ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(unix_ns.unsigned_abs());
    if unix_ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
