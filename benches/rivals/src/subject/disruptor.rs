//! disruptor 4, its single- and its multi-producer form, read through its event poller.
//!
//! The poller with a loop around it is what its documentation shows for threads of one's own, and does what its own
//! processor threads do when they spin; it lets the harness choose the loop and the waiting. One poll takes everything
//! published so far, so it has caught up by then.

use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, MultiProducer, MultiProducerBarrier, Producer, SingleConsumerBarrier,
    SingleProducer, SingleProducerBarrier, build_multi_producer, build_single_producer,
};

use super::{Ends, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject};
use crate::event::{Draft, Line};

/// `disruptor::build_single_producer`.
#[derive(Debug)]
pub(crate) struct DisruptorSingle;

/// `disruptor::build_multi_producer`.
#[derive(Debug)]
pub(crate) struct DisruptorMulti;

/// A producer, whose type depends on the number of consumers it looks at.
pub(crate) enum Gated<A, B> {
    /// One consumer.
    One(A),
    /// Two consumers.
    Two(B),
}

type Single<const WORDS: usize> =
    Gated<SingleProducer<Line<WORDS>, SingleConsumerBarrier>, SingleProducer<Line<WORDS>, MultiConsumerBarrier>>;
type Multi<const WORDS: usize> =
    Gated<MultiProducer<Line<WORDS>, SingleConsumerBarrier>, MultiProducer<Line<WORDS>, MultiConsumerBarrier>>;

impl Subject for DisruptorSingle {
    const NAME: &'static str = "disruptor-single";
    const PUBLISHERS: Publishers = Publishers::One;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = Single<WORDS>;
    type Consumer<const WORDS: usize> = EventPoller<Line<WORDS>, SingleProducerBarrier>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        let (first, builder) = build_single_producer(plan.capacity, Line::default, BusySpin).new_event_poller();
        if plan.seating.consumers.len() == 1 {
            return Ends { publishers: vec![Gated::One(builder.build())], consumers: vec![first] };
        }
        let (second, builder) = builder.new_event_poller();
        Ends { publishers: vec![Gated::Two(builder.build())], consumers: vec![first, second] }
    }
}

impl Subject for DisruptorMulti {
    const NAME: &'static str = "disruptor-multi";
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = Multi<WORDS>;
    type Consumer<const WORDS: usize> = EventPoller<Line<WORDS>, MultiProducerBarrier>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        let more = plan.seating.publishers.len() - 1;
        let (first, builder) = build_multi_producer(plan.capacity, Line::default, BusySpin).new_event_poller();
        if plan.seating.consumers.len() == 1 {
            let producer = builder.build();
            let clones: Vec<_> = (0..more).map(|_| producer.clone()).collect();
            let publishers = clones.into_iter().chain([producer]).map(Gated::One).collect();
            return Ends { publishers, consumers: vec![first] };
        }
        let (second, builder) = builder.new_event_poller();
        let producer = builder.build();
        let clones: Vec<_> = (0..more).map(|_| producer.clone()).collect();
        let publishers = clones.into_iter().chain([producer]).map(Gated::Two).collect();
        Ends { publishers, consumers: vec![first, second] }
    }
}

// The crate keeps the trait of its barriers to itself, so the two forms cannot share one generic implementation.
macro_rules! both_ends {
    ($publisher:ident, $barrier:ty) => {
        impl<const WORDS: usize> Publisher for $publisher<WORDS> {
            #[inline(always)]
            fn try_publish(&mut self, draft: &Draft) -> bool {
                match self {
                    Self::One(producer) => producer.try_publish(|line| line.0.fill(draft)).is_ok(),
                    Self::Two(producer) => producer.try_publish(|line| line.0.fill(draft)).is_ok(),
                }
            }
        }

        impl<const WORDS: usize> Pull for EventPoller<Line<WORDS>, $barrier> {
            #[inline]
            fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
                let taken = EventPoller::poll(self)
                    .map_or(0, |mut batch| (&mut batch).map(|line| line.0.deliver(sink)).count());
                Polled { taken, caught_up: true }
            }
        }
    };
}

both_ends!(Single, SingleProducerBarrier);
both_ends!(Multi, MultiProducerBarrier);
