//! One dead letter: the event as it travelled, and the story of its end.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rkyv::util::AlignedVec;

use crate::delivery::SubscriptionId;
use crate::event::{DecodeError, Directory, Event, FLAG_LOCAL, Header, KnownAs, Meta, read_archived};

/// Bytes of an error text that a letter keeps.
const ERROR_BYTES_MAX: usize = 1024;

/// Why an event became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// Every attempt failed.
    AttemptsExhausted,
    /// The handler rejected it.
    Rejected,
    /// It was not settled within its time.
    TimedOut,
    /// It was given back unhandled too often.
    ReleasesExhausted,
    /// The mailbox was full, and its policy is [`DropNewest`](crate::Overflow::DropNewest).
    MailboxFull,
    /// The circuit breaker of its subscription was open, and its policy gives events up meanwhile.
    BreakerOpen,
    /// It came over the rate of its subscription, which rejects such events.
    RateLimited,
    /// A service had no healthy instance with room for it, as often as it was tried.
    NoInstance,
    /// The subscription ended before it was handled.
    Closed,
}

impl DeadReason {
    /// Whether sending the letter back ([`redrive`](crate::DeadLetters::redrive)) can help: not what its handler rejected, nor what is
    /// of a subscription that has ended.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Rejected | Self::Closed)
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AttemptsExhausted => "attempts exhausted",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed out",
            Self::ReleasesExhausted => "releases exhausted",
            Self::MailboxFull => "mailbox full",
            Self::BreakerOpen => "breaker open",
            Self::RateLimited => "rate limited",
            Self::NoInstance => "no instance",
            Self::Closed => "closed",
        })
    }
}

/// What whoever gives an event up knows of it. Borrowed: it is copied only when it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death<'a> {
    pub(crate) meta: Meta<'a>,
    pub(crate) subscription: SubscriptionId,
    pub(crate) name: &'a str,
    /// What the subscription may read the event as without validation.
    pub(crate) known_as: KnownAs,
    pub(crate) reason: DeadReason,
    pub(crate) attempts: u32,
    /// What the last attempt said.
    pub(crate) error: Option<&'a str>,
    /// Instant at which the first attempt began; 0 = there was none.
    pub(crate) first_attempt: u64,
}

/// An event that a subscription gave up on. It does not change any more.
///
/// [`Bus::dead_letters`](crate::Bus::dead_letters) has them.
pub struct DeadLetter {
    id: u64,
    header: Header,
    /// Extension and payload, 16-aligned as in a slot.
    rest: AlignedVec<16>,
    sequence: u64,
    subscription: SubscriptionId,
    name: Box<str>,
    known_as: KnownAs,
    reason: DeadReason,
    attempts: u32,
    error: Option<Box<str>>,
    error_bytes: usize,
    first_attempt: u64,
    died: u64,
    directory: Arc<Directory>,
}

impl DeadLetter {
    pub(super) fn new(id: u64, death: &Death<'_>, died: u64, directory: Arc<Directory>) -> Self {
        let (extension, payload) = (death.meta.extension(), death.meta.payload().bytes());
        let mut rest = AlignedVec::with_capacity(extension.len() + payload.len());
        rest.extend_from_slice(extension);
        rest.extend_from_slice(payload);
        Self {
            id,
            // The block it lay in is not its own any more.
            header: Header { check: 0, ..*death.meta.header() },
            rest,
            sequence: death.meta.sequence(),
            subscription: death.subscription,
            name: death.name.into(),
            known_as: death.known_as,
            reason: death.reason,
            attempts: death.attempts,
            error: death.error.map(|error| cut(error).into()),
            error_bytes: death.error.map_or(0, str::len),
            first_attempt: death.first_attempt,
            died,
            directory,
        }
    }

    /// What a letter made of this death would take.
    pub(super) fn bytes_of(death: &Death<'_>) -> usize {
        size_of::<Self>()
            + death.meta.header().rest_bytes()
            + death.name.len()
            + death.error.map_or(0, |error| cut(error).len())
    }

    /// Its number: letters of a bus count up from 1, in the order of their deaths.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Everything about the event, its payload included. [`Meta::age`] and [`Meta::expires_in`] go on with the time.
    pub fn meta(&self) -> Meta<'_> {
        Meta::new(&self.header, &self.rest, self.sequence, &self.directory)
            .expect("a letter is made of a frame that could be read")
    }

    /// The event as `E`, read in place.
    ///
    /// # Errors
    /// When the payload is in another encoding, or no valid archive of `E`.
    ///
    /// # Cost
    /// None where the subscription was to the topic of this very type and this process encoded the event; otherwise the
    /// payload is validated at each call.
    pub fn event<E: Event>(&self) -> Result<&E::Archived, DecodeError> {
        read_archived(&self.header, self.meta().payload().bytes(), self.known_as.trust::<E>())
    }

    /// The subscription that gave it up.
    pub fn subscription(&self) -> SubscriptionId {
        self.subscription
    }

    /// The name of that subscription.
    pub fn subscription_name(&self) -> &str {
        &self.name
    }

    /// Why.
    pub fn reason(&self) -> DeadReason {
        self.reason
    }

    /// Attempts at delivery there were; 0 when it never came to one.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the last attempt said, or that it took too long: its first 1,024 bytes, less where they would end inside a character.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Bytes of what the last attempt said, before it was cut: more than [`error`](Self::error) has when it was.
    pub fn error_bytes(&self) -> usize {
        self.error_bytes
    }

    /// When the event was created.
    pub fn published(&self) -> SystemTime {
        self.meta().timestamp()
    }

    /// When the first attempt at delivery began.
    pub fn first_attempt(&self) -> Option<SystemTime> {
        (self.first_attempt != 0).then(|| self.directory.clock.system_time(self.first_attempt))
    }

    /// When it was given up.
    pub fn died(&self) -> SystemTime {
        self.directory.clock.system_time(self.died)
    }

    /// Bytes it takes: envelope, payload, texts, and the letter itself.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.rest.len() + self.name.len() + self.error.as_deref().map_or(0, str::len)
    }

    /// Its header, and what follows it.
    pub(crate) fn frame(&self) -> (&Header, &[u8]) {
        (&self.header, &self.rest)
    }

    /// Instant at which it was given up.
    pub(super) fn died_at(&self) -> u64 {
        self.died
    }

    /// Whether the payload was encoded by this process, for a bus with this directory, from the Rust type of its topic.
    pub(crate) fn is_local_to(&self, directory: &Directory) -> bool {
        self.header.has(FLAG_LOCAL) && std::ptr::eq(&*self.directory, directory)
    }
}

/// The first bytes of a text, whole characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("meta", &self.meta())
            .field("subscription", &self.name)
            .field("reason", &self.reason)
            .field("attempts", &self.attempts)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
