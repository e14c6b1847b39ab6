//! rtrb: a wait-free ring for one publisher and one consumer, without a way to wait.

use rtrb::{Consumer, Producer, RingBuffer};

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event, Line};

/// `rtrb::RingBuffer`, pushed and popped one by one.
#[derive(Debug)]
pub(crate) struct Rtrb;

impl Subject for Rtrb {
    const NAME: &'static str = "rtrb";
    const PUBLISHERS: Publishers = Publishers::One;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = FanOut<Producer<Line<WORDS>>>;
    type Consumer<const WORDS: usize> = Consumer<Line<WORDS>>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        FanOut::open_single(plan, RingBuffer::new)
    }
}

impl<const WORDS: usize> Publisher for Producer<Line<WORDS>> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        self.push(Line(Event::new(draft))).is_ok()
    }
}

impl<const WORDS: usize> Pull for Consumer<Line<WORDS>> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        one_by_one(sink, || self.pop().ok().map(|line| line.0))
    }
}
