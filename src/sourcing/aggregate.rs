//! What decides, and one of them with its version and what is not saved yet.

use std::error::Error;
use std::fmt;

use crate::store::Snapshot;
use crate::{Frame, Outgoing, PublishError};

/// A kind of thing whose state is made of its events. The value itself is the state; its default is the state before the
/// first event.
///
/// Deciding and applying are functions of state and input alone: time and chance come with the command. So the same events
/// give the same state wherever they are read.
pub trait Aggregate: Default {
    /// What kind of thing it is, such as `order`; up to 255 bytes.
    const KIND: &'static str;

    /// What somebody wants to happen.
    type Command;
    /// What has happened.
    type Event;
    /// Why a command is refused.
    type Refusal;

    /// The events that a command leads to; none when there is nothing to do.
    ///
    /// # Errors
    /// When the command is refused in this state.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after an event. What has happened cannot be refused.
    fn apply(&mut self, event: &Self::Event);

    /// Writes an event down: end `outgoing` with [`Outgoing::to_frame`] and the event's topic and payload. Id, time and
    /// aggregate are set.
    ///
    /// # Errors
    /// When the event breaks a limit of the bus.
    fn to_frame(event: &Self::Event, outgoing: Outgoing<'_>) -> Result<Frame, PublishError>;

    /// Reads what [`to_frame`](Self::to_frame) wrote, also what an older version of it wrote.
    ///
    /// # Errors
    /// When it is none of its events, or of a version unknown to it. The aggregate is not loaded then.
    fn of_frame(frame: &Frame) -> Result<Self::Event, Box<dyn Error + Send + Sync>>;

    /// The state at a version, to begin with at the next loading. Default: none is taken.
    ///
    /// It is called when the events are saved: a panic in it comes out of a [`save`](super::Repository::save) that has saved
    /// them, and only the snapshot is not taken.
    fn snapshot(&self, id: &str, version: u64) -> Option<Snapshot> {
        let _ = (id, version);
        None
    }

    /// The state that a snapshot shows; `None` when it cannot be read any more: then the state is made of all events.
    fn restore(snapshot: &Snapshot) -> Option<Self> {
        let _ = snapshot;
        None
    }
}

/// One aggregate: its id, version and state, and the events that are not saved yet.
pub struct Root<A: Aggregate> {
    id: String,
    /// The version that the store knows.
    saved: u64,
    state: A,
    uncommitted: Vec<A::Event>,
    /// Applying an event has panicked: the state is no state of any version.
    is_torn: bool,
}

impl<A: Aggregate> Root<A> {
    /// One that nothing has happened to.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), saved: 0, state: A::default(), uncommitted: Vec::new(), is_torn: false }
    }

    /// One whose events up to `version` are saved.
    pub(super) fn at(id: &str, version: u64, state: A) -> Self {
        Self { id: id.to_owned(), saved: version, state, uncommitted: Vec::new(), is_torn: false }
    }

    /// One that these events, which are saved, have happened to.
    pub fn of(id: &str, events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut root = Self::new(id);
        for event in events {
            root.replay(&event);
        }
        root
    }

    /// Which one it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many events have happened to it, those among them that are not saved yet.
    pub fn version(&self) -> u64 {
        self.saved + self.uncommitted.len() as u64
    }

    /// The version that the store knows.
    pub fn saved_version(&self) -> u64 {
        self.saved
    }

    /// Its state, after all events.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Events that are not saved yet.
    pub fn uncommitted(&self) -> &[A::Event] {
        &self.uncommitted
    }

    /// Lets a command happen to it. The events that it leads to are applied, and saved by
    /// [`Repository::save`](super::Repository::save). It is not saved any more when applying one has panicked: load it anew.
    ///
    /// # Errors
    /// When the command is refused; nothing has happened.
    pub fn execute(&mut self, command: &A::Command) -> Result<(), A::Refusal> {
        let events = self.state.decide(command)?;
        let was_torn = std::mem::replace(&mut self.is_torn, true);
        for event in events {
            self.state.apply(&event);
            self.uncommitted.push(event);
        }
        self.is_torn = was_torn;
        Ok(())
    }

    /// As [`execute`](Self::execute), of the command that is to be its first.
    ///
    /// # Errors
    /// When something has happened to it already, or the command is refused.
    pub fn create(&mut self, command: &A::Command) -> Result<(), CreateError<A::Refusal>> {
        match self.version() {
            0 => self.execute(command).map_err(CreateError::Refused),
            version => Err(CreateError::AlreadyExists { kind: A::KIND, id: self.id.clone(), version }),
        }
    }

    /// Whether part of a command happened, and the rest did not.
    pub(super) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Applies an event that is saved.
    pub(super) fn replay(&mut self, event: &A::Event) {
        self.state.apply(event);
        self.saved += 1;
    }

    /// Its events are saved.
    pub(super) fn commit(&mut self) {
        self.saved = self.version();
        self.uncommitted.clear();
    }
}

impl<A: Aggregate + fmt::Debug> fmt::Debug for Root<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("kind", &A::KIND)
            .field("id", &self.id)
            .field("version", &self.version())
            .field("uncommitted", &self.uncommitted.len())
            .field("state", &self.state)
            .finish()
    }
}

/// Why an aggregate was not created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError<R> {
    /// Something has happened to it already.
    AlreadyExists {
        /// The aggregate's kind.
        kind: &'static str,
        /// Its id.
        id: String,
        /// Its version.
        version: u64,
    },
    /// The command was refused.
    Refused(R),
}

impl<R: fmt::Display> fmt::Display for CreateError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists { kind, id, version } => {
                write!(f, "{kind} {id:?} exists already, at version {version}; take another id")
            }
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl<R: fmt::Debug + fmt::Display> Error for CreateError<R> {}
