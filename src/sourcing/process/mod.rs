//! Process managers: events of several things, brought together by a key, move a state machine that says what happens next.
//!
//! ```text
//!   event store ──► correlate ──► instance ──► react ──► one change of state: instance, cursor, outbox
//!        ▲                                                              │
//!        └──────────── append, version expected ◄───────────────────────┘   then the outbox is emptied
//! ```
//!
//! What goes out is appended by version, so that doing it again after a crash is a conflict that says it was done.

mod error;

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::store::{
    AppendError, BATCH_EVENTS_MAX, Bookmark, EventStore, ExpectedVersion, Leased, Position, Query, STATE_PAGE_MAX,
    StateChange, StateKind, StateStore, StoredEvent, StoredEventRef, Upcasters,
};
use crate::{Aggregate, EventId, Frame, FrameError, Outgoing, Pattern, PublishError, Publisher};

use super::persist::{self, ID_BYTES_MAX, Mark, NAME_BYTES_MAX, Persist};

pub use error::ProcessError;

const INSTANCE: Mark = *b"ringmain proc\0\0\x01";
const OUTBOX: Mark = *b"ringmain outb\0\0\x01";
/// What positions of process managers begin with, among all cursors.
const CURSOR: &[u8] = b"process";
/// Events that a step reads.
const STEP_EVENTS: usize = 256;

/// Brings events together by a key, and says what happens next.
pub trait ProcessManager {
    /// Its name, 1 to 255 bytes: the kind of aggregate that its events are of.
    const NAME: &'static str;
    /// The state of one instance. Its default is the state before the first event.
    type State: Persist + Default;

    /// The instance that an event is for, 1 to 512 bytes; `None` when it is for none.
    fn correlate(&self, event: &StoredEventRef<'_>) -> Option<String>;

    /// Moves an instance on, and says what goes out. It does nothing else: whatever it does is done again after a crash.
    ///
    /// # Errors
    /// When the event cannot be handled. Nothing of it is kept, and it is the next again.
    fn react(
        &self,
        state: &mut Self::State,
        event: &StoredEventRef<'_>,
        out: &mut Outputs<'_>,
    ) -> Result<Reaction, Box<dyn Error + Send + Sync>>;
}

/// What an event meant to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing: its state stays, and nothing goes out.
    Ignored,
    /// Its state is kept.
    Kept,
    /// It has ended and is forgotten. Another event of its key begins a new one.
    Ended,
}

/// Events and commands that go out because of an event.
pub struct Outputs<'a> {
    publisher: &'a mut Publisher,
    kind: &'static str,
    id: &'a str,
    version: u64,
    causation: EventId,
    correlation: EventId,
    frames: Vec<Frame>,
}

impl Outputs<'_> {
    /// Adds an event: end the outgoing one with [`Outgoing::to_frame`]. Its aggregate is the instance, its cause the event
    /// that is handled; it belongs to the same story, which begins with that event if it belongs to none. Of one event at most
    /// 1,024 go out, with at most 1 MiB together.
    ///
    /// # Errors
    /// When the event breaks a limit of the bus.
    pub fn emit(
        &mut self,
        make: impl FnOnce(Outgoing<'_>) -> Result<Frame, PublishError>,
    ) -> Result<EventId, PublishError> {
        let version = self.version + self.frames.len() as u64 + 1;
        let aggregate = Aggregate { kind: self.kind, id: self.id, version };
        let event = self.publisher.event().aggregate(aggregate);
        let frame = make(event.causation(self.causation).correlation(self.correlation))?;
        let id = frame.meta().id();
        self.frames.push(frame);
        Ok(id)
    }
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Instance {
    /// How many events of it went out.
    version: u64,
    data: Vec<u8>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Outbox {
    /// The version before the first of them.
    version: u64,
    frames: Vec<Vec<u8>>,
}

/// Runs the instances of a process manager. One at a time for each name. Every event is handled once, and what goes out is
/// appended once, whatever fails.
///
/// Nothing wakes it: call [`step`](Self::step) after appends, or now and then.
pub struct Processes<M> {
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    publisher: Publisher,
    manager: M,
    pattern: Option<Pattern>,
    upcasters: Option<Arc<Upcasters>>,
    bookmark: Bookmark,
    skips_missing: bool,
    /// The outbox may not be empty, nor the bookmark what was kept.
    is_pending: bool,
    /// The store is known to be the one that the bookmark is of.
    is_checked: bool,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Processed {
    /// Events that an instance was moved by.
    pub handled: usize,
    /// Events that went out.
    pub emitted: usize,
    /// Positions that were left out: their events cannot be read, and the process manager [skips](Processes::skip_missing) them.
    pub missing: u64,
    /// Whether there is more.
    pub has_more: bool,
}

impl<M: ProcessManager> Processes<M> {
    /// Goes on behind the last event that was handled; the first time, with the first event.
    ///
    /// # Errors
    /// When the name is empty or too long, or the state cannot be read.
    pub fn open(
        manager: M,
        store: Arc<dyn EventStore>,
        state: Arc<dyn StateStore>,
        publisher: Publisher,
    ) -> Result<Self, ProcessError> {
        check("name of the process manager", M::NAME, NAME_BYTES_MAX)?;
        let state = Leased::take(state, &format!("process manager {:?}", M::NAME)).map_err(ProcessError::Lease)?;
        let bookmark = kept::<M>(&*state)?;
        let (pattern, upcasters, skips_missing, is_pending, is_checked) = (None, None, false, true, false);
        Ok(Self {
            store,
            state,
            publisher,
            manager,
            pattern,
            upcasters,
            bookmark,
            skips_missing,
            is_pending,
            is_checked,
        })
    }

    /// Goes on behind events that cannot be read, since they are damaged or a retention has removed them; each position is counted in
    /// [`Processed::missing`]. Default: the step fails, and so does the next.
    #[must_use]
    pub fn skip_missing(self) -> Self {
        Self { skips_missing: true, ..self }
    }

    /// Looks at events of these topics only. Default: all.
    #[must_use]
    pub fn pattern(self, pattern: Pattern) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// Brings events of older schema versions to the current one before they are looked at. Default: they are as they are.
    #[must_use]
    pub fn upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters: Some(upcasters), ..self }
    }

    /// The last event that it has looked at.
    pub fn position(&self) -> Option<Position> {
        self.bookmark.position()
    }

    /// The state of an instance; `None` when there is none of this key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<M::State>, ProcessError> {
        let Some(instance) = self.instance(id)? else { return Ok(None) };
        M::State::of_bytes(&instance.data).map(Some).map_err(|error| ProcessError::Data { id: id.to_owned(), error })
    }

    /// Handles the next events, at most 256, and appends what goes out.
    ///
    /// # Errors
    /// See [`ProcessError`]; events before the one that failed are handled, and the next step begins where this one ended.
    pub fn step(&mut self) -> Result<Processed, ProcessError> {
        if !self.is_checked {
            self.bookmark.check(&*self.store).map_err(ProcessError::Read)?;
            self.is_checked = true;
        }
        self.empty_outbox()?;
        let begun = self.bookmark.position();
        let head = self.store.head().map_err(ProcessError::Read)?;
        let Some(head) = head.filter(|head| Some(*head) > begun) else { return Ok(Processed::default()) };
        let mut query = Query::new().limit(STEP_EVENTS).to_position(head).reading_on(begun);
        query = if let Some(pattern) = &self.pattern { query.pattern(pattern.clone()) } else { query };
        let (mut processed, mut failed) = (Processed::default(), None);
        let store = Arc::clone(&self.store);
        let visited = store.visit(&query, &mut |event| match self.handle_current(event, &mut processed) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        });
        let next = match visited {
            Ok(next) => next,
            Err(error) => match error.behind().filter(|_| self.skips_missing) {
                Some(behind) => {
                    let missing = behind.get() - begun.map_or(0, Position::get);
                    self.keep(&[], self.at(behind)?)?;
                    return Ok(Processed { missing, has_more: true, ..Processed::default() });
                }
                None => return Err(ProcessError::Read(error)),
            },
        };
        if let Some(error) = failed {
            return Err(error);
        }
        processed.has_more = next.is_some();
        // Where there is no more, all up to the head was looked at.
        let reached = next.unwrap_or(head);
        if self.bookmark.position() < Some(reached) {
            self.keep(&[], self.at(reached)?)?;
        }
        Ok(processed)
    }

    /// Handles an event in the current version of its schema.
    fn handle_current(&mut self, event: StoredEventRef<'_>, processed: &mut Processed) -> Result<(), ProcessError> {
        let position = event.position();
        let current = self.upcasters.as_ref().map(|upcasters| upcasters.event(event)).transpose();
        let current = current.map_err(|error| ProcessError::Upcast { position, error: Box::new(error) })?.flatten();
        if let Some(emitted) = self.handle(&current.as_ref().map_or(event, StoredEvent::view))? {
            processed.handled += 1;
            processed.emitted += emitted;
        }
        Ok(())
    }

    /// The bookmark of a position.
    fn at(&self, position: Position) -> Result<Bookmark, ProcessError> {
        Bookmark::at(&*self.store, position).map_err(ProcessError::Read)
    }

    /// Lets the instance that an event is for react to it. Returns how many events went out, if it is for one.
    fn handle(&mut self, event: &StoredEventRef<'_>) -> Result<Option<usize>, ProcessError> {
        let Some(id) = self.manager.correlate(event) else { return Ok(None) };
        check("key of an instance", &id, ID_BYTES_MAX)?;
        let (version, mut state) = match self.instance(&id)? {
            Some(Instance { version, data }) => {
                let state = M::State::of_bytes(&data);
                (version, state.map_err(|error| ProcessError::Data { id: id.clone(), error })?)
            }
            None => (self.version_of(&id)?, M::State::default()),
        };
        let (position, meta) = (event.position(), event.meta());
        let correlation = meta.correlation().unwrap_or(meta.id());
        let (publisher, kind, frames) = (&mut self.publisher, M::NAME, Vec::new());
        let mut out = Outputs { publisher, kind, id: &id, version, causation: meta.id(), correlation, frames };
        let reaction = self.manager.react(&mut state, event, &mut out);
        let frames = out.frames;
        let reaction = reaction.map_err(|error| ProcessError::React { position, error })?;
        // In the outbox it would be refused again and again.
        sound(&frames, Aggregate { kind, id: &id, version })
            .map_err(|error| ProcessError::React { position, error: error.into() })?;
        if reaction == Reaction::Ignored {
            return Ok(None);
        }
        let key = persist::key(M::NAME, &id);
        let data = state.to_bytes().map_err(|error| ProcessError::Data { id: id.clone(), error })?;
        let instance = persist::write(&INSTANCE, &Instance { version: version + frames.len() as u64, data });
        let bytes = frames.iter().map(|frame| frame.bytes().to_vec()).collect();
        let outbox = persist::write(&OUTBOX, &Outbox { version, frames: bytes });
        let mut changes = vec![match reaction {
            Reaction::Ended => StateChange::Remove { kind: StateKind::PROCESS, key: &key },
            _ => StateChange::Put { kind: StateKind::PROCESS, key: &key, value: &instance },
        }];
        if !frames.is_empty() {
            changes.push(StateChange::Put { kind: StateKind::OUTBOX, key: &key, value: &outbox });
            self.is_pending = true;
        }
        self.keep(&changes, Bookmark::of(*event))?;
        if !frames.is_empty() {
            self.send(&key, version, &frames)?;
            self.is_pending = false;
        }
        Ok(Some(frames.len()))
    }

    /// Keeps changes and the bookmark in one piece, when the events that they come from are durable.
    fn keep(&mut self, changes: &[StateChange<'_>], reached: Bookmark) -> Result<(), ProcessError> {
        let (key, value) = (cursor_key(M::NAME), reached.to_bytes());
        let cursor = StateChange::Put { kind: StateKind::CURSOR, key: &key, value: &value };
        self.store.sync().map_err(ProcessError::Sync)?;
        let changes = [changes, &[cursor]].concat();
        // Whatever the store says, or if it panics, it may have been kept: then the next step looks.
        let was_pending = std::mem::replace(&mut self.is_pending, true);
        self.state.apply(&changes, self.state.state_durability()).map_err(ProcessError::Keep)?;
        (self.bookmark, self.is_pending) = (reached, was_pending);
        Ok(())
    }

    /// Appends what goes out, unless it was appended before; then it is out of the outbox.
    fn send(&self, key: &[u8], version: u64, frames: &[Frame]) -> Result<(), ProcessError> {
        let last = version + frames.len() as u64;
        let expected = if version == 0 { ExpectedVersion::New } else { ExpectedVersion::Exact(version) };
        let word = self.store.durability();
        let appended = match self.store.append(frames, expected, word) {
            // All that went out before was removed by a retention. This was not: it is behind the cursor.
            Err(AppendError::Conflict { found: 0, .. }) => self.store.append(frames, ExpectedVersion::Any, word),
            appended => appended,
        };
        match appended {
            Ok(_) => {}
            Err(AppendError::Conflict { found, .. }) if found == last => {}
            Err(AppendError::AlreadyExists { version: found, .. }) if found == last => {}
            Err(error) => return Err(ProcessError::Append(error)),
        }
        let change = StateChange::Remove { kind: StateKind::OUTBOX, key };
        self.state.apply(&[change], self.state.state_durability()).map_err(ProcessError::Keep)
    }

    /// Appends what was to go out when a process died or a store failed.
    fn empty_outbox(&mut self) -> Result<(), ProcessError> {
        if !self.is_pending {
            return Ok(());
        }
        // What was kept may be more than is known here.
        self.bookmark = kept::<M>(&*self.state)?;
        let prefix = persist::prefix(M::NAME);
        let page = self.state.list(StateKind::OUTBOX, &prefix, STATE_PAGE_MAX).map_err(ProcessError::ReadState)?;
        for (key, value) in page.entries {
            let Some(id) = key.strip_prefix(&*prefix) else { break };
            let broken = || ProcessError::Record { id: String::from_utf8_lossy(id).into_owned() };
            let outbox: Outbox = persist::read(&OUTBOX, &value).ok_or_else(broken)?;
            let frames: Result<Vec<_>, FrameError> =
                outbox.frames.iter().map(|bytes| Frame::copied_from(bytes)).collect();
            self.send(&key, outbox.version, &frames.map_err(|_| broken())?)?;
        }
        self.is_pending = false;
        Ok(())
    }

    fn instance(&self, id: &str) -> Result<Option<Instance>, ProcessError> {
        let value = self.state.get(StateKind::PROCESS, &persist::key(M::NAME, id)).map_err(ProcessError::ReadState)?;
        let Some(value) = value else { return Ok(None) };
        persist::read(&INSTANCE, &value).map(Some).ok_or_else(|| ProcessError::Record { id: id.to_owned() })
    }

    /// How many events went out of instances of this key that have ended.
    fn version_of(&self, id: &str) -> Result<u64, ProcessError> {
        let query = Query::new().aggregate(M::NAME, id).newest_first().limit(1);
        match query.stream(&*self.store).next().transpose().map_err(ProcessError::Read)? {
            Some(event) => Ok(event.meta().aggregate().map_or(0, |aggregate| aggregate.version)),
            None => Ok(0),
        }
    }
}

/// How far it has come, as it was kept.
fn kept<M: ProcessManager>(state: &dyn StateStore) -> Result<Bookmark, ProcessError> {
    let kept = state.get(StateKind::CURSOR, &cursor_key(M::NAME)).map_err(ProcessError::ReadState)?;
    let record = || ProcessError::Record { id: String::new() };
    kept.map_or(Ok(Bookmark::START), |bytes| Bookmark::of_bytes(&bytes).ok_or_else(record))
}

fn cursor_key(name: &str) -> Vec<u8> {
    [CURSOR, &persist::prefix(name)].concat()
}

/// Whether what goes out can be appended behind this version of the instance.
fn sound(frames: &[Frame], instance: Aggregate<'_>) -> Result<(), String> {
    if frames.len() > BATCH_EVENTS_MAX {
        return Err(format!("{} events would go out, the limit is {BATCH_EVENTS_MAX}", frames.len()));
    }
    for (frame, version) in frames.iter().zip(instance.version + 1..) {
        let meta = frame.meta();
        if meta.aggregate() != Some(Aggregate { version, ..instance }) {
            return Err(format!("{} would go out with another aggregate than its instance; leave it", meta.topic()));
        }
    }
    Ok(())
}

fn check(what: &'static str, name: &str, max: usize) -> Result<(), ProcessError> {
    match name.len() {
        bytes if bytes == 0 || bytes > max => Err(ProcessError::Name { what, bytes, max }),
        _ => Ok(()),
    }
}

impl<M: ProcessManager> fmt::Debug for Processes<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("name", &M::NAME).field("bookmark", &self.bookmark).finish_non_exhaustive()
    }
}

impl fmt::Debug for Outputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs").field("id", &self.id).field("frames", &self.frames).finish_non_exhaustive()
    }
}
