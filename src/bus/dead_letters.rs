//! The dead letters of a bus, as a user meets them: look, count, purge, send again.

use std::fmt;
use std::sync::Arc;

use crate::delivery::{
    DeadLetter, DeadLetterCounts, DeadLetterFilter, REDRIVEN_MAX, Redriven, Sink, SubscriptionId, TakenLetter,
};
use crate::event::{Encode, EventId, FLAG_LOCAL, FLAG_REPLAY};
use crate::ring::HEAD_BYTES;
use crate::sync::primitive::thread::{Builder, JoinHandle};
use crate::worker::Phase;

use super::publisher::{Again, SameTopic};
use super::{Bus, Outgoing, PublishError, Publisher, Shared, Subject};

pub(super) use redrive::RedriveJob;
pub use redrive::{Redrive, RedriveReport};

mod redrive;

/// The dead letters of a bus: events that a subscription gave up on. Cheap to clone; does not keep the bus running, and can
/// be read when it has stopped.
///
/// The bus keeps at most [`dead_letters_max`](crate::BusBuilder::dead_letters_max) of them in
/// [`dead_letter_bytes_max`](crate::BusBuilder::dead_letter_bytes_max); when there are more the oldest goes, is counted, and
/// observers hear of it.
///
/// ```
/// use ringmain::{Bus, DeadLetterFilter};
/// let bus = Bus::builder().dead_letters_max(100).build()?;
/// let letters = bus.dead_letters();
/// for letter in letters.list(&DeadLetterFilter::new().newest_first().limit(10)) {
///     println!("{} of {}: {}", letter.meta().topic(), letter.subscription_name(), letter.reason());
/// }
/// assert!(letters.counts().is_balanced());
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
///
/// # Cost
/// Control plane: each call takes a lock and sorts in what has come since the last one. Whoever brings a letter
/// never waits for it.
#[derive(Clone)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

/// Why a dead letter was not published again. It stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepublishError {
    /// There is no dead letter of this id: it never was one, has gone, or somebody else sends it again just now.
    NotFound {
        /// The id asked for.
        id: u64,
    },
    /// The event was refused.
    Publish {
        /// The letter.
        id: u64,
        /// Why.
        error: PublishError,
    },
}

/// Why a dead letter did not go back to its subscription, or many did not. It stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedriveError {
    /// There is no dead letter of this id: it never was one, has gone, or somebody else sends it again just now.
    NotFound {
        /// The id asked for.
        id: u64,
    },
    /// Its subscription has ended: publish it again instead.
    Ended {
        /// The letter.
        id: u64,
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// The deadline of its event has passed: it would be dropped at once. Publish it again instead.
    Expired {
        /// The letter.
        id: u64,
    },
    /// So many letters are on their way to that subscription already, and its mailbox has no room for them.
    Busy {
        /// The letter.
        id: u64,
        /// How many.
        max: usize,
    },
    /// No block of the pool is free for its bytes.
    PoolExhausted {
        /// The letter.
        id: u64,
        /// Its bytes, those of its extension among them.
        bytes: usize,
    },
    /// The bus shuts down or has stopped: nobody would handle it.
    ShuttingDown {
        /// The letter.
        id: u64,
    },
    /// So many redrives of [`redrive_all`](DeadLetters::redrive_all) are under way already.
    TooMany {
        /// How many.
        under_way: usize,
        /// As many as there may be: [`redrives_max`](crate::BusBuilder::redrives_max).
        max: usize,
    },
}

impl fmt::Display for RedriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { id } => {
                write!(f, "there is no dead letter {id}, or somebody sends it again just now; list those there are")
            }
            Self::Ended { id, subscription } => {
                write!(f, "dead letter {id} stays: its subscription {subscription} has ended; republish it instead")
            }
            Self::Expired { id } => {
                write!(f, "dead letter {id} stays: the deadline of its event has passed; republish it instead")
            }
            Self::Busy { id, max } => write!(
                f,
                "dead letter {id} stays: {max} letters are on their way to its subscription already; try again when its mailbox has room"
            ),
            Self::PoolExhausted { id, bytes } => {
                write!(f, "dead letter {id} stays: no block of {bytes} bytes is free; try again, or raise `blocks`")
            }
            Self::ShuttingDown { id } => {
                write!(f, "dead letter {id} stays: its bus shuts down; republish it with a publisher of another bus")
            }
            Self::TooMany { under_way, max } => write!(
                f,
                "{under_way} redrives are under way, the limit is {max}: wait for one, cancel one, or raise redrives_max"
            ),
        }
    }
}

impl std::error::Error for RedriveError {}

impl fmt::Display for RepublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { id } => {
                write!(f, "there is no dead letter {id}, or somebody sends it again just now; list those there are")
            }
            Self::Publish { id, error } => write!(f, "dead letter {id} was not published and stays: {error}"),
        }
    }
}

impl std::error::Error for RepublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotFound { .. } => None,
            Self::Publish { error, .. } => Some(error),
        }
    }
}

impl Bus {
    /// The events that subscriptions gave up on.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters { shared: Arc::clone(self.shared()) }
    }
}

impl DeadLetters {
    /// Where all of them went.
    pub fn counts(&self) -> DeadLetterCounts {
        self.shared.engine.dead_letters.counts()
    }

    /// How many are held, those among them that are being published again, and none that is on its way back to its subscription.
    pub fn len(&self) -> usize {
        self.counts().held as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are meant, in the order asked for. Letters that are being sent again do not show.
    ///
    /// # Cost
    /// Looks at every letter from the one to go on behind, until there are enough.
    pub fn list(&self, filter: &DeadLetterFilter) -> Vec<Arc<DeadLetter>> {
        self.shared.engine.dead_letters.list(filter)
    }

    /// One letter; it stays where it is. `None` when there is none of this id, or it is being sent again.
    pub fn get(&self, id: u64) -> Option<Arc<DeadLetter>> {
        self.shared.engine.dead_letters.get(id)
    }

    /// Removes the letters that [`list`](Self::list) would return. Returns how many.
    pub fn purge(&self, filter: &DeadLetterFilter) -> usize {
        self.shared.engine.dead_letters.purge(filter)
    }

    /// Sends a letter back to the subscription that gave it up, and to no other: the same event, with the same id, which
    /// begins with its first attempt.
    ///
    /// It is on its way until the subscription's worker has given it a place in the mailbox
    /// ([`returning`](DeadLetterCounts::returning)). When the subscription or the bus ends before, the letter is there again, the same
    /// as before, and observers hear of it ([`Notice::LetterReturned`](crate::Notice::LetterReturned)).
    ///
    /// # Errors
    /// See [`RedriveError`]; the letter stays.
    pub fn redrive(&self, id: u64) -> Result<(), RedriveError> {
        self.shared.redrive(id)
    }

    /// Publishes a letter as a new event to all who subscribed to its topic, with the letter's payload. The letter is gone when
    /// the event is accepted.
    ///
    /// The event has an id and a time of its own, is caused by the old one, and may wait for room as `publisher` does. It
    /// keeps priority, source, correlation, schema version, aggregate, targets, trace and metadata; it has no deadline, no
    /// not-before time, and does not count as a further attempt. A publisher of another bus moves it there.
    ///
    /// # Errors
    /// See [`RepublishError`]; the letter stays.
    pub fn republish(&self, id: u64, publisher: &mut Publisher) -> Result<EventId, RepublishError> {
        let taken = self.take(id)?;
        let letter = taken.letter();
        let is_local = letter.is_local_to(&publisher.shared().engine.directory);
        let meta = letter.meta();
        let flags = if is_local { FLAG_LOCAL } else { 0 } | meta.header().flags & FLAG_REPLAY;
        let payload = Again { payload: meta.payload(), flags };
        let published = successor(letter, publisher).publish(SameTopic(meta.topic()), payload);
        settle(taken, published)
    }

    /// As [`republish`](Self::republish), under another topic or with another payload: an edited one, say.
    ///
    /// ```
    /// # use ringmain::{Bus, DeadLetters, Payload, Publisher, RepublishError};
    /// fn mend(letters: &DeadLetters, id: u64, publisher: &mut Publisher) -> Result<(), RepublishError> {
    ///     letters.republish_as(id, publisher, "orders.placed", Payload::json(r#"{"id": 7}"#))?;
    ///     Ok(())
    /// }
    /// # let bus = Bus::builder().build()?;
    /// # assert_eq!(mend(&bus.dead_letters(), 1, &mut bus.publisher()?), Err(RepublishError::NotFound { id: 1 }));
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`RepublishError`]; the letter stays.
    pub fn republish_as<S: Subject<P>, P: Encode + Copy>(
        &self,
        id: u64,
        publisher: &mut Publisher,
        topic: S,
        payload: P,
    ) -> Result<EventId, RepublishError> {
        let taken = self.take(id)?;
        let published = successor(taken.letter(), publisher).publish(topic, payload);
        settle(taken, published)
    }

    fn take(&self, id: u64) -> Result<TakenLetter, RepublishError> {
        self.shared.engine.dead_letters.take(id).ok_or(RepublishError::NotFound { id })
    }
}

/// The event that follows a letter, but for its topic and payload.
fn successor<'p>(letter: &DeadLetter, publisher: &'p mut Publisher) -> Outgoing<'p> {
    let meta = letter.meta();
    publisher.event_like(&meta).causation(meta.id())
}

/// The letter is gone when the event was accepted; otherwise it goes back.
fn settle(taken: TakenLetter, published: Result<EventId, PublishError>) -> Result<EventId, RepublishError> {
    let id = taken.letter().id();
    let event = published.map_err(|error| RepublishError::Publish { id, error })?;
    taken.sent();
    Ok(event)
}

impl Shared {
    /// Sends a dead letter back to its subscription.
    fn redrive(&self, id: u64) -> Result<(), RedriveError> {
        if self.engine.phase() != Phase::Running {
            return Err(RedriveError::ShuttingDown { id });
        }
        let taken = self.engine.dead_letters.take(id).ok_or(RedriveError::NotFound { id })?;
        let letter = taken.letter();
        let subscription = letter.subscription();
        let found = self.control().find(subscription).cloned();
        let ended = RedriveError::Ended { id, subscription };
        let found = found.ok_or(ended)?;
        let Sink::Mailbox(mailbox, _) = &found.sink else { return Err(ended) };
        let reliable = mailbox.reliable().ok_or(ended)?;
        let (header, rest) = letter.frame();
        if header.deadline != 0 && self.engine.directory.clock.now() > header.deadline {
            return Err(RedriveError::Expired { id });
        }
        let fits = rest.len() <= self.engine.lanes.body_bytes() - HEAD_BYTES;
        let block = if fits {
            None
        } else {
            let exhausted = RedriveError::PoolExhausted { id, bytes: rest.len() };
            let mut block = self.engine.pool.take(rest.len()).ok_or(exhausted)?;
            block.bytes_mut()[..rest.len()].copy_from_slice(rest);
            Some(block)
        };
        let max = REDRIVEN_MAX;
        reliable.redrive(Redriven { letter: taken.set_out(), block }).map_err(|_| RedriveError::Busy { id, max })
    }

    /// Starts the thread that tells the sink of dead letters, when there is one.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub(super) fn start_telling(&self, bus: &str) -> std::io::Result<Option<JoinHandle<()>>> {
        let letters = Arc::clone(&self.engine.dead_letters);
        if !letters.wants_thread() {
            return Ok(None);
        }
        Builder::new().name(format!("{bus}-letters")).spawn(move || letters.tell_sink()).map(Some)
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
