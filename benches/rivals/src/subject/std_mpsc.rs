//! The standard library's bounded channel.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event};

/// `std::sync::mpsc::sync_channel`.
#[derive(Debug)]
pub(crate) struct StdSyncChannel;

impl Subject for StdSyncChannel {
    const NAME: &'static str = "std-sync-channel";
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    type Publisher<const WORDS: usize> = FanOut<SyncSender<Event<WORDS>>>;
    type Consumer<const WORDS: usize> = Receiver<Event<WORDS>>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        FanOut::open(plan, sync_channel)
    }
}

impl<const WORDS: usize> Publisher for SyncSender<Event<WORDS>> {
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
