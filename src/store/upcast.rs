//! Events of older schema versions, brought to the current one when they are read. What is stored is never changed.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;

use crate::{EventId, Frame, FrameRef};

use super::{StoredEvent, StoredEventRef};

type Cause = Box<dyn Error + Send + Sync>;
/// Makes the next version of an event.
type Step = Box<dyn Fn(&Frame) -> Result<Frame, Cause> + Send + Sync>;

/// Chains of steps, one a topic: schema version 1 becomes 2, 2 becomes 3, up to the current one.
///
/// A topic that was not mentioned has version 1 only. A version that no chain begins with, or that is newer than the current
/// one, is an error: nothing is guessed.
///
/// ```
/// use ringmain::store::Upcasters;
/// use ringmain::{Bus, Payload};
///
/// let upcasters = Upcasters::builder()
///     .step("orders.placed", 1, |old| {
///         let euros: u64 = old.payload().text().ok_or("no text")?.parse()?;
///         Ok(old.with_payload(2, Payload::plain_text(&(euros * 100).to_string()))?)
///     })
///     .build()?;
///
/// # let bus = Bus::builder().build()?;
/// # let mut publisher = bus.publisher()?;
/// let old = publisher.event().to_frame("orders.placed", Payload::plain_text("19"))?;
/// let current = upcasters.frame(&old)?;
/// assert_eq!((current.meta().schema_version(), current.payload().text()), (2, Some("1900")));
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Upcasters {
    topics: HashMap<Box<str>, Chain>,
}

/// The steps of a topic, without a gap.
struct Chain {
    /// The oldest version known.
    first: u16,
    /// From `first` on; the current version is behind the last.
    steps: Vec<Step>,
}

impl Chain {
    fn current(&self) -> u16 {
        // As many as there are versions between, and versions are `u16`.
        self.first + self.steps.len() as u16
    }
}

/// Collects steps.
#[derive(Default)]
#[must_use = "nothing is made until `build` is called"]
pub struct UpcastersBuilder {
    topics: BTreeMap<Box<str>, Declared>,
    faults: Vec<UpcasterFault>,
}

#[derive(Default)]
struct Declared {
    steps: BTreeMap<u16, Step>,
    current: Option<u16>,
}

impl Upcasters {
    /// Begins with none.
    pub fn builder() -> UpcastersBuilder {
        UpcastersBuilder::default()
    }

    /// The version that events of a topic are brought to.
    pub fn current(&self, topic: &str) -> u16 {
        self.topics.get(topic).map_or(1, Chain::current)
    }

    /// The event in the current version of its schema; the frame itself, which is cheap to clone, where it is current.
    ///
    /// # Errors
    /// See [`UpcastError`].
    pub fn frame(&self, frame: &Frame) -> Result<Frame, UpcastError> {
        let meta = frame.meta();
        let (topic, id) = (meta.topic(), meta.id());
        let steps = self.steps(frame.view())?;
        let mut event = frame.clone();
        for (version, step) in (meta.schema_version()..).zip(steps) {
            let failed = |cause| UpcastError::Step { topic: topic.to_owned(), id, version, cause };
            let next = step(&event).map_err(failed)?;
            let meta = next.meta();
            if (meta.id(), meta.topic(), meta.schema_version()) != (id, topic, version + 1) {
                return Err(UpcastError::OtherEvent { topic: topic.to_owned(), id, version });
            }
            event = next;
        }
        Ok(event)
    }

    /// As [`frame`](Self::frame), of an event of a store; `None` where it is current as it lies.
    ///
    /// # Errors
    /// See [`UpcastError`].
    pub fn event(&self, event: StoredEventRef<'_>) -> Result<Option<StoredEvent>, UpcastError> {
        if self.steps(event.frame())?.is_empty() {
            return Ok(None);
        }
        let event = event.to_event();
        Ok(Some(StoredEvent::new(event.position(), event.recorded_at(), self.frame(event.frame())?)))
    }

    /// The steps that lead from an event to the current version.
    fn steps(&self, frame: FrameRef<'_>) -> Result<&[Step], UpcastError> {
        let meta = frame.meta();
        let (topic, found) = (meta.topic(), meta.schema_version());
        let chain = self.topics.get(topic);
        let (first, current) = chain.map_or((1, 1), |chain| (chain.first, chain.current()));
        if !(first..=current).contains(&found) {
            let (topic, id) = (topic.to_owned(), meta.id());
            return Err(UpcastError::UnknownVersion { topic, id, found, first, current });
        }
        Ok(chain.map_or(&[], |chain| &chain.steps[usize::from(found - first)..]))
    }
}

impl UpcastersBuilder {
    /// Makes version `from + 1` of an event out of version `from`: most often [`Frame::with_payload`].
    pub fn step(
        mut self,
        topic: &str,
        from: u16,
        step: impl Fn(&Frame) -> Result<Frame, Cause> + Send + Sync + 'static,
    ) -> Self {
        if from == u16::MAX {
            self.faults.push(UpcasterFault::NoNext { topic: topic.to_owned(), version: from });
            return self;
        }
        let steps = &mut self.topics.entry(topic.into()).or_default().steps;
        if steps.insert(from, Box::new(step)).is_some() {
            self.faults.push(UpcasterFault::Twice { topic: topic.to_owned(), version: from });
        }
        self
    }

    /// The current version of a topic. Default: the one that its last step leads to; 1 without steps. Said here, a step that
    /// is missing at the end is found when this is built.
    pub fn current(mut self, topic: &str, version: u16) -> Self {
        self.topics.entry(topic.into()).or_default().current = Some(version);
        self
    }

    /// Checks that no step is missing between a topic's oldest version and its current one.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn build(self) -> Result<Upcasters, UpcastersError> {
        let Self { topics: declared, mut faults } = self;
        let mut topics = HashMap::new();
        for (topic, Declared { steps, current }) in declared {
            let last = steps.keys().next_back().map(|version| version + 1);
            let current = current.or(last).unwrap_or(1);
            let first = steps.keys().next().copied().unwrap_or(current);
            for version in steps.range(current..).map(|(version, _)| *version) {
                faults.push(UpcasterFault::BehindCurrent { topic: topic.to_string(), version, current });
            }
            for version in (first..current).filter(|version| !steps.contains_key(version)) {
                faults.push(UpcasterFault::Gap { topic: topic.to_string(), version });
            }
            topics.insert(topic, Chain { first, steps: steps.into_values().collect() });
        }
        if faults.is_empty() { Ok(Upcasters { topics }) } else { Err(UpcastersError { faults }) }
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = self.topics.iter().map(|(topic, chain)| (topic, chain.first..=chain.current()));
        f.debug_map().entries(versions).finish()
    }
}

impl fmt::Debug for UpcastersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.topics.iter().map(|(topic, declared)| (topic, declared.steps.keys().collect::<Vec<_>>()));
        f.debug_map().entries(steps).finish()
    }
}

/// Why upcasters cannot be built: every fault there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpcastersError {
    faults: Vec<UpcasterFault>,
}

impl UpcastersError {
    /// What is wrong.
    pub fn faults(&self) -> &[UpcasterFault] {
        &self.faults
    }
}

impl fmt::Display for UpcastersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("upcasters cannot be built")?;
        for (nth, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if nth == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}

impl Error for UpcastersError {}

/// Something wrong with a chain of upcasters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpcasterFault {
    /// A step is missing: events of this version cannot be brought on.
    Gap {
        /// The topic.
        topic: String,
        /// The version without a step.
        version: u16,
    },
    /// A version has two steps.
    Twice {
        /// The topic.
        topic: String,
        /// The version.
        version: u16,
    },
    /// A step begins with the current version, or behind it.
    BehindCurrent {
        /// The topic.
        topic: String,
        /// The version it begins with.
        version: u16,
        /// The current version.
        current: u16,
    },
    /// There is no version behind this one.
    NoNext {
        /// The topic.
        topic: String,
        /// The version.
        version: u16,
    },
}

impl fmt::Display for UpcasterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { topic, version } => write!(f, "{topic} has no step from version {version}"),
            Self::Twice { topic, version } => write!(f, "{topic} has two steps from version {version}"),
            Self::BehindCurrent { topic, version, current } => {
                write!(f, "{topic} has a step from version {version}, and {current} is current")
            }
            Self::NoNext { topic, version } => {
                write!(f, "{topic} has a step from version {version}, the last there is")
            }
        }
    }
}

/// Why an event was not brought to the current version of its schema.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpcastError {
    /// Nothing is known of this version.
    UnknownVersion {
        /// The event's topic.
        topic: String,
        /// The event.
        id: EventId,
        /// Its version.
        found: u16,
        /// The oldest version known.
        first: u16,
        /// The current version.
        current: u16,
    },
    /// A step failed.
    Step {
        /// The event's topic.
        topic: String,
        /// The event.
        id: EventId,
        /// The version that the step begins with.
        version: u16,
        /// What it says.
        cause: Cause,
    },
    /// A step made something else than the next version of the same event.
    OtherEvent {
        /// The event's topic.
        topic: String,
        /// The event.
        id: EventId,
        /// The version that the step begins with.
        version: u16,
    },
}

impl fmt::Display for UpcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { topic, id, found, first, current } => write!(
                f,
                "{topic} {id} has schema version {found}, known are {first} to {current}; add upcasters, or read it with a newer program"
            ),
            Self::Step { topic, id, version, cause } => {
                write!(f, "{topic} {id} was not brought on from schema version {version}: {cause}")
            }
            Self::OtherEvent { topic, id, version } => write!(
                f,
                "the step of {topic} from schema version {version} made of {id} another event, topic or version; use Frame::with_payload"
            ),
        }
    }
}

impl Error for UpcastError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Step { cause, .. } => Some(&**cause),
            _ => None,
        }
    }
}
