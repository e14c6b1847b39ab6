//! Handlers: closures and the [`Handler`] trait, the outcomes they return, and the context they may ask.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::event::{DecodeError, Event, KnownAs, Meta, Payload, Topic, Trust, read_archived};
use crate::routing::Pattern;

use super::{Run, SubscriptionId};

/// What became of one event at one subscription.
///
/// Handlers return anything that turns into it: `()` is an acknowledgement, an `Err` a failure. Best-effort delivery makes one
/// attempt: there all but `Ack` count as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled.
    Ack,
    /// Not handled; the text says why. Under reliable delivery it is tried again, as the
    /// [`RetryPolicy`](crate::RetryPolicy) says.
    Failed(String),
    /// Not handled, and to be tried again after this time instead of the policy's, at most 10 days: a longer one is cut to them. It
    /// counts as an attempt.
    RetryAfter(Duration),
    /// Given back, to come again behind what is queued. It does not count as an attempt;
    /// [`releases_max`](crate::RetryPolicy::releases_max) bounds how often.
    Release,
    /// Not to be tried again: under reliable delivery a dead letter at once. The text says why.
    Reject(String),
}

/// Sources of an error that its text tells of: they may go round.
const SOURCES_MAX: usize = 16;

impl Outcome {
    /// Not handled, because of `error`: its text and those of its sources, at most 16, joined by `: `. A source that the text ends with
    /// already is not told twice.
    ///
    /// ```
    /// use ringmain::Outcome;
    /// use std::{error::Error, fmt, io};
    ///
    /// #[derive(Debug)]
    /// struct Unpaid(io::Error);
    /// # impl fmt::Display for Unpaid {
    /// #     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("the bank cannot be reached") }
    /// # }
    /// impl Error for Unpaid {
    ///     fn source(&self) -> Option<&(dyn Error + 'static)> { Some(&self.0) }
    /// }
    ///
    /// let error = Unpaid(io::ErrorKind::ConnectionRefused.into());
    /// assert_eq!(Outcome::failed(&error), Outcome::Failed("the bank cannot be reached: connection refused".to_owned()));
    /// ```
    pub fn failed(error: &(dyn Error + 'static)) -> Self {
        Self::Failed(with_sources(error))
    }

    /// As [`failed`](Self::failed), not to be tried again.
    pub fn rejected(error: &(dyn Error + 'static)) -> Self {
        Self::Reject(with_sources(error))
    }

    /// Why it was not handled, in words.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Ack => "",
            Self::Failed(reason) | Self::Reject(reason) => reason,
            Self::RetryAfter(_) => "the handler asked for it again later",
            Self::Release => "the handler gave it back",
        }
    }
}

impl From<()> for Outcome {
    #[inline(always)]
    fn from((): ()) -> Self {
        Outcome::Ack
    }
}

/// The text of an error and of its sources.
fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for source in std::iter::successors(error.source(), |&error| error.source()).take(SOURCES_MAX) {
        let source = source.to_string();
        if !text.ends_with(&source) {
            text = format!("{text}: {source}");
        }
    }
    text
}

/// Of an error its text, in the alternate form (`{:#}`): errors that collect their sources, as those of `anyhow` do, tell all of them in
/// it. For others, [`Outcome::failed`] does.
impl<T: Into<Outcome>, E: fmt::Display> From<Result<T, E>> for Outcome {
    #[inline(always)]
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }
}

/// Names a handler: the name of its type unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HandlerId(String);

impl HandlerId {
    /// A handler id of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is the same for all calls of a handler in one turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) cancelled: bool,
}

/// What a handler may ask about the call it is in.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub(crate) scene: Scene<'a>,
    pub(crate) meta: &'a Meta<'a>,
    pub(crate) skipped: u64,
}

impl Context<'_> {
    /// The subscription the event came by.
    pub fn subscription(&self) -> SubscriptionId {
        *self.scene.subscription
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u8 {
        self.meta.attempt()
    }

    /// Older events whose place this one took, see [`Delivery::skipped`](crate::Delivery::skipped).
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Time left until the event's deadline.
    pub fn expires_in(&self) -> Option<Duration> {
        self.meta.expires_in()
    }

    /// Whether the bus was shutting down when the worker began its turn: finish what must be finished, start nothing
    /// long.
    pub fn is_cancelled(&self) -> bool {
        self.scene.cancelled
    }
}

/// What a subscription asks for, and so what its handler gets to see.
///
/// Implemented by [`Topic<E>`] (handlers see `&E::Archived`) and [`Pattern`] (handlers see a [`Payload`]).
///
/// What the bus knows of a topic's type cannot be made up, for it is what lets a payload be read without validation:
///
/// ```compile_fail
/// # use ringmain::{Interest, Meta, Topic};
/// # use std::any::TypeId;
/// fn forge(meta: &Meta<'_>) {
///     let _ = <Topic<bool> as Interest>::view(meta, Some(TypeId::of::<bool>()));
/// }
/// ```
pub trait Interest: Send + 'static {
    /// The event as a handler sees it.
    type View<'a>;

    /// Reads the event in place.
    #[doc(hidden)]
    fn view<'a>(meta: &Meta<'a>, known_as: KnownAs) -> Result<Self::View<'a>, DecodeError>;
}

impl<E: Event> Interest for Topic<E> {
    type View<'a> = &'a E::Archived;

    #[inline(always)]
    fn view<'a>(meta: &Meta<'a>, known_as: KnownAs) -> Result<&'a E::Archived, DecodeError> {
        read_archived(meta.header(), meta.payload().bytes(), known_as.trust::<E>())
    }
}

impl Interest for Pattern {
    type View<'a> = Payload<'a>;

    #[inline(always)]
    fn view<'a>(meta: &Meta<'a>, _known_as: KnownAs) -> Result<Payload<'a>, DecodeError> {
        Ok(meta.payload())
    }
}

/// A handler with an id and a context. Closures need not implement it.
///
/// ```
/// use ringmain::{Bus, Context, Handler, Meta, Outcome, Pattern, Payload};
///
/// struct Audit;
/// impl Handler<Pattern> for Audit {
///     fn handle(&mut self, payload: Payload<'_>, meta: &Meta<'_>, _context: &Context<'_>) -> Outcome {
///         println!("{} {} bytes", meta.topic(), payload.bytes().len());
///         Outcome::Ack
///     }
/// }
///
/// let bus = Bus::builder().build()?;
/// let audit = bus.subscribe("**").handler(Audit)?;
/// assert!(audit.record().handler_id.as_str().ends_with("Audit"));
/// bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
pub trait Handler<I: Interest>: Send + 'static {
    /// Handles one event. Runs on the subscription's worker (or its own thread): one call at a time, in order.
    fn handle(&mut self, event: I::View<'_>, meta: &Meta<'_>, context: &Context<'_>) -> Outcome;

    /// Names this handler in records and metrics.
    fn id(&self) -> HandlerId {
        HandlerId::new(std::any::type_name::<Self>())
    }
}

/// A handler whose event type is erased: what a worker calls.
pub(crate) trait Dispatch: Send {
    /// Handles one event.
    fn dispatch(&mut self, meta: &Meta<'_>, scene: Scene<'_>) -> Result<Outcome, DecodeError>;

    /// Handles events until the run ends. `Some` is what became of the event then in hand, which is not settled.
    fn run(&mut self, run: &mut Run<'_>) -> Option<Result<Outcome, DecodeError>>;
}

/// The loop of a run around one handler.
#[inline(always)]
fn drive(
    run: &mut Run<'_>,
    mut handle: impl FnMut(&Meta<'_>) -> Result<Outcome, DecodeError>,
) -> Option<Result<Outcome, DecodeError>> {
    while let Some(meta) = run.next() {
        match handle(&meta) {
            Ok(Outcome::Ack) if run.settle() => {}
            other => return Some(other),
        }
    }
    None
}

/// A closure over a typed topic.
pub(crate) struct Typed<E, F> {
    pub(crate) closure: F,
    pub(crate) trust: Trust<E>,
}

impl<E: Event, R: Into<Outcome>, F: FnMut(&E::Archived, &Meta<'_>) -> R + Send> Dispatch for Typed<E, F> {
    #[inline]
    fn dispatch(&mut self, meta: &Meta<'_>, _scene: Scene<'_>) -> Result<Outcome, DecodeError> {
        let event = read_archived(meta.header(), meta.payload().bytes(), self.trust)?;
        Ok((self.closure)(event, meta).into())
    }

    fn run(&mut self, run: &mut Run<'_>) -> Option<Result<Outcome, DecodeError>> {
        let trust = self.trust;
        drive(run, |meta| {
            let event = read_archived(meta.header(), meta.payload().bytes(), trust)?;
            Ok((self.closure)(event, meta).into())
        })
    }
}

/// A closure over a pattern.
pub(crate) struct Untyped<F>(pub(crate) F);

impl<R: Into<Outcome>, F: FnMut(Payload<'_>, &Meta<'_>) -> R + Send> Dispatch for Untyped<F> {
    #[inline]
    fn dispatch(&mut self, meta: &Meta<'_>, _scene: Scene<'_>) -> Result<Outcome, DecodeError> {
        Ok((self.0)(meta.payload(), meta).into())
    }

    fn run(&mut self, run: &mut Run<'_>) -> Option<Result<Outcome, DecodeError>> {
        drive(run, |meta| Ok((self.0)(meta.payload(), meta).into()))
    }
}

/// A `Handler` with the type it reads.
pub(crate) struct Custom<I, H> {
    pub(crate) handler: H,
    pub(crate) known_as: KnownAs,
    pub(crate) interest: PhantomData<fn(I)>,
}

impl<I: Interest, H: Handler<I>> Dispatch for Custom<I, H> {
    #[inline]
    fn dispatch(&mut self, meta: &Meta<'_>, scene: Scene<'_>) -> Result<Outcome, DecodeError> {
        let event = I::view(meta, self.known_as)?;
        Ok(self.handler.handle(event, meta, &Context { scene, meta, skipped: 0 }))
    }

    fn run(&mut self, run: &mut Run<'_>) -> Option<Result<Outcome, DecodeError>> {
        let (scene, known_as) = (run.scene(), self.known_as);
        drive(run, |meta| Ok(self.handler.handle(I::view(meta, known_as)?, meta, &Context { scene, meta, skipped: 0 })))
    }
}
