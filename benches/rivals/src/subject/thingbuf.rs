//! thingbuf's blocking channel: events are written and read in its slots.

use thingbuf::mpsc::blocking::{Receiver, Sender, with_recycle};
use thingbuf::recycling::Recycle;

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, until_empty};
use crate::event::{Draft, Event};

/// `thingbuf::mpsc::blocking`.
#[derive(Debug)]
pub(crate) struct Thingbuf;

/// Leaves a slot as it is: each event overwrites all of it, and clearing it in between would count against
/// thingbuf.
#[derive(Debug)]
pub(crate) struct Keep;

impl<const WORDS: usize> Recycle<Event<WORDS>> for Keep {
    fn new_element(&self) -> Event<WORDS> {
        Event::default()
    }

    #[inline]
    fn recycle(&self, _element: &mut Event<WORDS>) {}
}

impl Subject for Thingbuf {
    const NAME: &'static str = "thingbuf";
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    type Publisher<const WORDS: usize> = FanOut<Sender<Event<WORDS>, Keep>>;
    type Consumer<const WORDS: usize> = Receiver<Event<WORDS>, Keep>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        FanOut::open(plan, |capacity| with_recycle(capacity, Keep))
    }
}

impl<const WORDS: usize> Publisher for Sender<Event<WORDS>, Keep> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        self.try_send_ref().map(|mut slot| slot.fill(draft)).is_ok()
    }
}

impl<const WORDS: usize> Pull for Receiver<Event<WORDS>, Keep> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        until_empty(sink, |sink| self.try_recv_ref().map(|slot| slot.deliver(sink)).is_ok())
    }

    #[inline]
    fn park<S: Sink>(&mut self, sink: &mut S) -> bool {
        self.recv_ref().map(|slot| slot.deliver(sink)).is_some()
    }
}
