//! crossbeam-channel, bounded: the channel most people take, and the reference of every ratio.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event};

/// `crossbeam_channel::bounded`.
#[derive(Debug)]
pub(crate) struct CrossbeamChannel;

impl Subject for CrossbeamChannel {
    const NAME: &'static str = super::REFERENCE;
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    type Publisher<const WORDS: usize> = FanOut<Sender<Event<WORDS>>>;
    type Consumer<const WORDS: usize> = Receiver<Event<WORDS>>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        FanOut::open(plan, bounded)
    }
}

impl<const WORDS: usize> Publisher for Sender<Event<WORDS>> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        self.try_send(Event::new(draft)).is_ok()
    }
}

impl<const WORDS: usize> Pull for Receiver<Event<WORDS>> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        one_by_one(sink, || self.try_recv().ok())
    }

    #[inline]
    fn park<S: Sink>(&mut self, sink: &mut S) -> bool {
        self.recv().map(|event| event.deliver(sink)).is_ok()
    }
}
