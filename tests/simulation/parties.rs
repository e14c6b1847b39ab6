//! Who takes part: handlers, consumers and what they hold, whatever they subscribed to.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use ringmain::testing::ManualClock;
use ringmain::{
    Context, Delivery, Handler, Interest, Mailbox, Meta, Outcome, Pattern, Payload, Publisher, Settled, Topic,
    TryRecvError,
};

use crate::draw::Draw;
use crate::sight::Sight;
use crate::sub::Action;
use crate::subjects::{ArchivedLarge, ArchivedSmall, Content, Large, Small, Spec, with_subject};
use crate::world::World;

/// What a deliberate panic says, so that the hook keeps quiet about it.
pub(crate) const DELIBERATE: &str = "a deliberate panic";

/// The model, as handlers and the scenario share it.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn with<R>(&self, ask: impl FnOnce(&mut World) -> R) -> R {
        self.at_once(|world| {
            world.answer_is_out();
            ask(world)
        })
    }

    /// While a responder may still fail.
    pub(crate) fn at_once<R>(&self, ask: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.0.lock().expect("no panic happens under the lock");
        world.query_is_out();
        ask(&mut world)
    }
}

/// An interest whose events can be told from each other.
pub(crate) trait Readable: Interest {
    /// What was published, as far as this interest says.
    fn content(view: Self::View<'_>) -> Option<Content>;
}

impl Readable for Pattern {
    fn content(_: Payload<'_>) -> Option<Content> {
        None
    }
}

impl Readable for Topic<Small> {
    fn content(view: &ArchivedSmall) -> Option<Content> {
        Some(Content::Small(Small { token: view.token.to_native(), twice: view.twice.to_native() }))
    }
}

impl Readable for Topic<Large> {
    fn content(view: &ArchivedLarge) -> Option<Content> {
        Some(Content::Large(Large { token: view.token.to_native(), body: view.body.to_vec() }))
    }
}

/// A handler on a worker.
pub(crate) struct Listener {
    pub(crate) world: Shared,
    pub(crate) nth: usize,
    pub(crate) clock: ManualClock,
    /// With the number it has among all publishers.
    pub(crate) publisher: Option<(Publisher, usize)>,
}

impl Listener {
    pub(crate) fn hear(&mut self, content: Option<Content>, meta: &Meta<'_>) -> Outcome {
        let nth = self.nth;
        if self.world.with(|world| world.subs[nth].trials.is_some()) {
            return self.try_one(content, meta);
        }
        let sight = self.world.with(|world| world.see(nth, meta, content, None));
        self.take_time(sight);
        let action = self.world.with(|world| {
            let action = sight.action;
            let (sub, census) = (&mut world.subs[nth], &mut world.census);
            match action {
                Action::Ack | Action::Relay => sub.acked += 1,
                Action::Fail | Action::Panic => sub.failed += 1,
            }
            census.count(match action {
                Action::Ack | Action::Relay => "called: acknowledged",
                Action::Fail => "called: failed",
                Action::Panic => "called: panicked",
            });
            action
        });
        match action {
            Action::Ack => {}
            Action::Fail => return Outcome::Failed("as it was told to".to_owned()),
            Action::Panic => std::panic::panic_any(DELIBERATE),
            Action::Relay => self.relay(meta, 0),
        }
        Outcome::Ack
    }

    /// Under reliable delivery: any outcome, and another one at the next attempt.
    fn try_one(&mut self, content: Option<Content>, meta: &Meta<'_>) -> Outcome {
        let nth = self.nth;
        let sight = self.world.with(|world| world.see(nth, meta, content, None));
        self.take_time(sight);
        if sight.action == Action::Relay {
            self.relay(meta, sight.token);
        }
        let outcome = outcome_of(u128::from(meta.id()) as u64 ^ sight.token << 8 ^ nth as u64, sight.action);
        self.world.with(|world| world.settling(nth, sight.index, &outcome));
        if outcome == Outcome::Failed(DELIBERATE.to_owned()) {
            std::panic::panic_any(DELIBERATE);
        }
        outcome
    }

    /// Mostly none.
    fn take_time(&self, sight: Sight) {
        let takes = self.world.with(|world| world.take_time(self.nth, sight));
        self.clock.advance(Duration::from_nanos(takes));
    }

    /// Publishes another event from within the handler.
    fn relay(&mut self, meta: &Meta<'_>, attempt: u64) {
        let Some((publisher, nth)) = &mut self.publisher else { return };
        // Several may relay one event, and one several times, each in its own words.
        let mut draw = Draw::new(u128::from(meta.id()) as u64 ^ *nth as u64 ^ attempt << 16);
        let mut spec = if draw.one_in(2) { Spec::plain(&mut draw) } else { Spec::dressed(&mut draw) };
        // What is due at once might come due within this very turn, which the model does not follow.
        spec.not_before = spec.not_before.filter(|time| !time.is_zero());
        let event = spec.dress(publisher.event());
        let result = with_subject!(&spec.content, spec.topic, |topic, payload| event.publish(topic, payload));
        self.world.with(|world| match &result {
            Ok(id) => {
                world.census.count("relayed by a handler");
                world.accepted(*id, &spec, Some(*nth), "service:ringmain", true);
            }
            Err(error) => world.refused(&spec, 1, error),
        });
    }
}

impl<I: Readable> Handler<I> for Listener {
    fn handle(&mut self, event: I::View<'_>, meta: &Meta<'_>, _: &Context<'_>) -> Outcome {
        self.hear(I::content(event), meta)
    }
}

/// What a consumer makes of an event: mostly what its mood is. A failure in these words is to be a panic.
pub(crate) fn outcome_of(seed: u64, mood: Action) -> Outcome {
    let mut draw = Draw::new(seed);
    match mood {
        Action::Ack | Action::Relay if !draw.one_in(4) => Outcome::Ack,
        Action::Panic => Outcome::Failed(DELIBERATE.to_owned()),
        _ => any_outcome(&mut draw),
    }
}

pub(crate) fn any_outcome(draw: &mut Draw) -> Outcome {
    match draw.below(12) {
        0..=3 => Outcome::Ack,
        4..=6 => Outcome::Failed("as it was told to".to_owned()),
        7 | 8 => Outcome::RetryAfter(Duration::from_micros(draw.below(30_000) as u64)),
        9 | 10 => Outcome::Release,
        _ => Outcome::Reject("never".to_owned()),
    }
}

/// Shows the model what a consumer has got.
pub(crate) fn show<I: Readable>(delivery: &Delivery<I>, world: &Shared, nth: usize) -> Sight {
    let read = delivery.event().map(I::content);
    world.with(|world| {
        let meta = delivery.meta();
        if let Some(index) = world.index_of(meta.id())
            && world.subs[nth].reads(&world.events[index]) != read.is_ok()
        {
            world.broken(format!("subscription {nth} reads {read:?} of {event:?}", event = meta.id()));
        }
        world.see(nth, &meta, read.ok().flatten(), Some(delivery.skipped()))
    })
}

/// A mailbox of any interest.
pub(crate) trait Inbox {
    fn len(&self) -> usize;

    /// Takes the next event, and shows it to the model.
    fn pull(&mut self, world: &Shared, nth: usize) -> Result<Hand, TryRecvError>;
}

impl<I: Readable> Inbox for Mailbox<I> {
    fn len(&self) -> usize {
        Mailbox::len(self)
    }

    fn pull(&mut self, world: &Shared, nth: usize) -> Result<Hand, TryRecvError> {
        let delivery = self.try_recv()?;
        let sight = show(&delivery, world, nth);
        Ok(Hand { nth, index: sight.index, token: sight.token, delivery: Box::new(delivery) })
    }
}

/// A delivery that is not settled yet, and what the model calls it.
pub(crate) struct Hand {
    pub(crate) nth: usize,
    pub(crate) index: usize,
    pub(crate) token: u64,
    pub(crate) delivery: Box<dyn InHand>,
}

/// A delivery of any interest.
pub(crate) trait InHand {
    /// Says this of it, or nothing.
    fn settle(self: Box<Self>, outcome: Option<&Outcome>) -> Option<Settled>;

    fn extend(&self, time: Duration) -> bool;

    fn is_current(&self) -> bool;
}

impl<I: Interest> InHand for Delivery<I> {
    fn settle(self: Box<Self>, outcome: Option<&Outcome>) -> Option<Settled> {
        Some((*self).settle(outcome?))
    }

    fn extend(&self, time: Duration) -> bool {
        Delivery::extend(self, time)
    }

    fn is_current(&self) -> bool {
        Delivery::is_current(self)
    }
}

/// A handler's future under way: how it ends, or is dropped, is told to the model before the bus hears of it.
pub(crate) struct Calling {
    pub(crate) world: Shared,
    pub(crate) nth: usize,
    pub(crate) sight: Sight,
    /// Polls before it has its outcome.
    pub(crate) polls: usize,
    pub(crate) outcome: Option<Outcome>,
}

impl Future for Calling {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Outcome> {
        if self.world.with(|world| world.subs[self.nth].is_overrun()) {
            let nth = self.nth;
            self.world.with(|world| world.broken(format!("the handler of future {nth} goes on after its time")));
        }
        let Some(polls) = self.polls.checked_sub(1) else {
            let outcome = self.outcome.take().expect("it is polled to its end once");
            let (nth, index) = (self.nth, self.sight.index);
            self.world.with(|world| world.finished(nth, index, &outcome));
            if outcome == Outcome::Failed(DELIBERATE.to_owned()) {
                // Its mailbox goes with it.
                self.world.with(|world| world.subs[nth].is_ending = true);
                std::panic::panic_any(DELIBERATE);
            }
            return Poll::Ready(outcome);
        };
        self.polls = polls;
        Poll::Pending
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let (nth, Sight { index, token, .. }) = (self.nth, self.sight);
        let is_over = self.outcome.is_none();
        self.world.with(|world| {
            world.subs[nth].is_calling = false;
            if !is_over {
                world.dropped(nth, index, token);
            }
        });
    }
}
