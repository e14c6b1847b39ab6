//! The names of a bus: type and source ids in frames, texts at the edges.
//!
//! Ids are handed out once and never change, so readers look texts up without a lock.

use std::any::TypeId;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ahash::{AHashMap, AHashSet};

use crate::clock::{Clock, unix_now};

const CHUNK: usize = 256;

/// Texts of [`CHUNK`] ids in a row, made when the first is handed out.
type Chunk = Box<[OnceLock<Arc<str>>]>;

/// An append-only list of texts with ids from 1. Id 0 is "not listed": its text travels in the frame.
#[derive(Debug)]
struct Names {
    ids: Mutex<AHashMap<Arc<str>, u32>>,
    chunks: Box<[OnceLock<Chunk>]>,
    max: usize,
}

impl Names {
    fn new(max: usize) -> Self {
        let chunks = (0..(max + 1).div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self { ids: Mutex::default(), chunks, max }
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    /// The id of `text`; a new one where there is room, else 0.
    fn intern(&self, text: &str) -> u32 {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = ids.get(text) {
            return id;
        }
        if ids.len() >= self.max {
            return 0;
        }
        let id = ids.len() + 1;
        let text: Arc<str> = text.into();
        let chunk = self.chunks[id / CHUNK].get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        chunk[id % CHUNK].set(Arc::clone(&text)).expect("ids are handed out once, under the lock");
        ids.insert(text, id as u32);
        id as u32
    }

    /// The id that the next new text will get; 0 when there is no room.
    fn next_id(&self) -> u32 {
        let known = self.known();
        if known >= self.max { 0 } else { known as u32 + 1 }
    }

    fn known(&self) -> usize {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[inline]
    fn get(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        self.chunks.get(id / CHUNK)?.get()?.get(id % CHUNK)?.get().map(AsRef::as_ref)
    }
}

/// A topic that two Rust types claim. One word, so that results of publishing stay short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeConflict(&'static Conflict);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Conflict {
    topic: &'static str,
    known_as: &'static str,
    asked_as: &'static str,
}

impl TypeConflict {
    /// Conflicts are kept for ever, each once: there are no more than the program has topics and types.
    #[cold]
    fn new(conflict: Conflict) -> Self {
        static MET: Mutex<Option<AHashSet<&'static Conflict>>> = Mutex::new(None);
        let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
        let met = met.get_or_insert_default();
        if let Some(known) = met.get(&conflict) {
            return Self(known);
        }
        let kept: &'static Conflict = Box::leak(Box::new(conflict));
        met.insert(kept);
        Self(kept)
    }
}

impl fmt::Display for TypeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { topic, known_as, asked_as } = self.0;
        write!(
            f,
            "topic {topic:?} carries {known_as} on this bus and cannot also carry {asked_as}; use another topic name"
        )
    }
}

impl std::error::Error for TypeConflict {}

/// The Rust type of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RustType {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
}

impl RustType {
    #[inline]
    pub(crate) fn of<E: 'static>() -> Self {
        Self { id: TypeId::of::<E>(), name: std::any::type_name::<E>() }
    }
}

/// Types, sources and the clock of one bus: what turns the numbers of a frame into words.
#[derive(Debug)]
pub(crate) struct Directory {
    types: Names,
    sources: Names,
    rust_types: Mutex<AHashMap<u32, RustType>>,
    pub(crate) clock: Clock,
    /// Its frames are of any bus and any day.
    is_portable: bool,
}

impl Directory {
    pub(crate) fn new(types_max: usize, sources_max: usize, clock: Clock) -> Self {
        let (types, sources) = (Names::new(types_max), Names::new(sources_max));
        Self { types, sources, rust_types: Mutex::default(), clock, is_portable: false }
    }

    /// Of frames whose names are written out and whose instants are nanoseconds of Unix time.
    pub(crate) fn portable() -> Self {
        Self { is_portable: true, ..Self::new(0, 0, Clock::of_unix_time()) }
    }

    /// The instant of the call, as its frames count.
    pub(crate) fn now(&self) -> u64 {
        if self.is_portable { unix_now() } else { self.clock.now() }
    }

    /// An instant of its frames in nanoseconds of Unix time.
    pub(crate) fn unix_ns(&self, instant: u64) -> u64 {
        // Of a portable frame also one that no clock reaches.
        if self.is_portable { instant } else { self.clock.unix_ns(instant) }
    }

    pub(crate) fn type_id(&self, name: &str) -> Option<u32> {
        self.types.find(name)
    }

    /// The id of a checked topic name, or 0 when the bus knows `types_max` names already.
    pub(crate) fn intern_type(&self, name: &str) -> u32 {
        self.types.intern(name)
    }

    /// The id that the next new topic name will get. Names are made under the control plane's lock, so that it stays.
    pub(crate) fn next_type_id(&self) -> u32 {
        self.types.next_id()
    }

    pub(crate) fn type_name(&self, id: u32) -> Option<&str> {
        self.types.get(id)
    }

    pub(crate) fn intern_source(&self, text: &str) -> u32 {
        self.sources.intern(text)
    }

    pub(crate) fn source_id(&self, text: &str) -> Option<u32> {
        self.sources.find(text)
    }

    pub(crate) fn source_name(&self, id: u32) -> Option<&str> {
        self.sources.get(id)
    }

    /// Ties the Rust type to the topic, or finds that it already carries another.
    pub(crate) fn bind(&self, type_id: u32, topic: &'static str, rust: RustType) -> Result<(), TypeConflict> {
        if type_id == 0 {
            return Ok(());
        }
        let mut types = self.rust_types.lock().unwrap_or_else(PoisonError::into_inner);
        let known = types.entry(type_id).or_insert(rust);
        if known.id == rust.id {
            return Ok(());
        }
        Err(TypeConflict::new(Conflict { topic, known_as: known.name, asked_as: rust.name }))
    }

    /// Whether further names get id 0.
    pub(crate) fn is_full(&self) -> bool {
        self.types_known() >= self.types.max
    }

    /// Topics that may have a number.
    pub(crate) fn types_max(&self) -> usize {
        self.types.max
    }

    /// Sources that may have a number.
    pub(crate) fn sources_max(&self) -> usize {
        self.sources.max
    }

    /// Topics that have a number.
    pub(crate) fn types_known(&self) -> usize {
        self.types.known()
    }

    /// Sources that have a number.
    pub(crate) fn sources_known(&self) -> usize {
        self.sources.known()
    }
}
