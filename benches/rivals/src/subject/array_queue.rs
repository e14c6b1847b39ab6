//! crossbeam's ArrayQueue: a bounded queue without a way to wait.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event};

/// `crossbeam_queue::ArrayQueue`, shared by both sides.
#[derive(Debug)]
pub(crate) struct CrossbeamArrayQueue;

impl Subject for CrossbeamArrayQueue {
    const NAME: &'static str = "crossbeam-array-queue";
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = FanOut<Arc<ArrayQueue<Event<WORDS>>>>;
    type Consumer<const WORDS: usize> = Arc<ArrayQueue<Event<WORDS>>>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        FanOut::open(plan, |capacity| {
            let queue = Arc::new(ArrayQueue::new(capacity));
            (Arc::clone(&queue), queue)
        })
    }
}

impl<const WORDS: usize> Publisher for Arc<ArrayQueue<Event<WORDS>>> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        self.push(Event::new(draft)).is_ok()
    }
}

impl<const WORDS: usize> Pull for Arc<ArrayQueue<Event<WORDS>>> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        one_by_one(sink, || self.pop())
    }
}
