//! Who takes part: handlers, consumers and what they hold, whatever they subscribed to.

use std::sync::{Arc, Mutex};

use ringmain::{
    Context, Delivery, Handler, Interest, Mailbox, Meta, Outcome, Pattern, Payload, Publisher, Topic, TryRecvError,
};

use crate::draw::Draw;
use crate::subjects::{ArchivedLarge, ArchivedSmall, Content, Large, Small, Spec, with_subject};
use crate::world::{Action, World};

/// What a deliberate panic says, so that the hook keeps quiet about it.
pub(crate) const DELIBERATE: &str = "a deliberate panic";

/// The model, as handlers and the scenario share it.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn with<R>(&self, ask: impl FnOnce(&mut World) -> R) -> R {
        ask(&mut self.0.lock().expect("no panic happens under the lock"))
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
    /// With the number it has among all publishers.
    pub(crate) publisher: Option<(Publisher, usize)>,
}

impl Listener {
    pub(crate) fn hear(&mut self, content: Option<Content>, meta: &Meta<'_>) -> Outcome {
        let nth = self.nth;
        let action = self.world.with(|world| {
            let action = world.see(nth, meta, content);
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
            Action::Relay => self.relay(meta),
        }
        Outcome::Ack
    }

    /// Publishes another event from within the handler.
    fn relay(&mut self, meta: &Meta<'_>) {
        let Some((publisher, nth)) = &mut self.publisher else { return };
        // Several may relay one event, each in its own words.
        let mut draw = Draw::new(u128::from(meta.id()) as u64 ^ *nth as u64);
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

/// A mailbox of any interest.
pub(crate) trait Inbox {
    fn len(&self) -> usize;

    /// Takes the next event, and shows it to the model.
    fn pull(&mut self, world: &Shared, nth: usize) -> Result<Box<dyn InHand>, TryRecvError>;
}

impl<I: Readable> Inbox for Mailbox<I> {
    fn len(&self) -> usize {
        Mailbox::len(self)
    }

    fn pull(&mut self, world: &Shared, nth: usize) -> Result<Box<dyn InHand>, TryRecvError> {
        let delivery = self.try_recv()?;
        let read = delivery.event().map(I::content);
        world.with(|world| {
            let meta = delivery.meta();
            if let Some(event) = world.events.iter().find(|event| event.id == meta.id())
                && world.subs[nth].reads(event) != read.is_ok()
            {
                world.broken(format!("subscription {nth} reads {read:?} of {event:?}", event = meta.id()));
            }
            world.subs[nth].in_hand += 1;
            world.see(nth, &meta, read.ok().flatten());
        });
        Ok(Box::new(delivery))
    }
}

/// A delivery that is not settled yet.
pub(crate) trait InHand {
    fn settle(self: Box<Self>, fails: bool);
}

impl<I: Interest> InHand for Delivery<I> {
    fn settle(self: Box<Self>, fails: bool) {
        if fails {
            (*self).fail("as it was told to");
        }
    }
}
