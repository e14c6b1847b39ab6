//! bus: a lock-free broadcast ring for one publisher, which every reader clones from.

use bus::{Bus, BusReader};

use super::{Ends, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event};

/// `bus::Bus`. Parked, it wakes by itself every 0.1 ms.
#[derive(Debug)]
pub(crate) struct BusBroadcast;

impl Subject for BusBroadcast {
    const NAME: &'static str = "bus";
    const PUBLISHERS: Publishers = Publishers::One;
    const PARKS: bool = true;
    const BROADCASTS: bool = true;
    type Publisher<const WORDS: usize> = Bus<Event<WORDS>>;
    type Consumer<const WORDS: usize> = BusReader<Event<WORDS>>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        let mut bus = Bus::new(plan.capacity);
        let consumers = (0..plan.receivers()).map(|_| bus.add_rx()).collect();
        Ends { publishers: vec![bus], consumers }
    }
}

impl<const WORDS: usize> Publisher for Bus<Event<WORDS>> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        self.try_broadcast(Event::new(draft)).is_ok()
    }
}

impl<const WORDS: usize> Pull for BusReader<Event<WORDS>> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        one_by_one(sink, || self.try_recv().ok())
    }

    #[inline]
    fn park<S: Sink>(&mut self, sink: &mut S) -> bool {
        self.recv().map(|event| event.deliver(sink)).is_ok()
    }
}
