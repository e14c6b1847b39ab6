//! tokio's broadcast channel, without a runtime, kept from losing events.
//!
//! By itself it overwrites what a slow receiver has not read. A user who may lose nothing has to hold the publisher
//! back, and the cheapest way is done here: receivers tell now and then how far they are, and a publisher looks there
//! when it has used up its share of the capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::{self, Receiver, Sender};

use super::{Ends, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event, PUBLISHERS_MAX};

/// Events between two reports of a receiver: few beside any publisher's share.
const REPORT_EVENTS: u64 = 64;

/// `tokio::sync::broadcast::channel`.
#[derive(Debug)]
pub(crate) struct TokioBroadcast;

/// How many events of one publisher one receiver has read; on a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Read(AtomicU64);

/// A sender that knows its share.
#[derive(Debug)]
pub(crate) struct Paced<const WORDS: usize> {
    sender: Sender<Event<WORDS>>,
    /// One a receiver, of this publisher.
    read: Vec<Arc<Read>>,
    share: u64,
    published: u64,
    /// May publish up to here without looking.
    clear_to: u64,
}

/// A receiver that reports.
#[derive(Debug)]
pub(crate) struct Reporting<const WORDS: usize> {
    receiver: Receiver<Event<WORDS>>,
    /// Own count and report, one a publishing thread.
    read: [(u64, Arc<Read>); PUBLISHERS_MAX],
    /// Number of the last publishing thread.
    last: usize,
}

impl Subject for TokioBroadcast {
    const NAME: &'static str = "tokio-broadcast";
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = true;
    const BROADCASTS: bool = true;
    type Publisher<const WORDS: usize> = Paced<WORDS>;
    type Consumer<const WORDS: usize> = Reporting<WORDS>;

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        let (sender, first) = broadcast::channel(plan.capacity);
        let mut receivers = vec![first];
        receivers.extend((1..plan.receivers()).map(|_| sender.subscribe()));
        let count = plan.seating.publishers.len();
        let consumers: Vec<_> = receivers
            .into_iter()
            .map(|receiver| Reporting { receiver, read: Default::default(), last: count - 1 })
            .collect();
        let share = (plan.capacity / count) as u64;
        let publishers = (0..count)
            .map(|index| Paced {
                sender: sender.clone(),
                read: consumers.iter().map(|consumer: &Reporting<WORDS>| Arc::clone(&consumer.read[index].1)).collect(),
                share,
                published: 0,
                clear_to: share,
            })
            .collect();
        Ends { publishers, consumers }
    }
}

impl<const WORDS: usize> Publisher for Paced<WORDS> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        if self.published == self.clear_to {
            // SYNC(broadcast.read): Acquire. Pairs with the report of a receiver: what it has read may be overwritten.
            let read = self.read.iter().map(|read| read.0.load(Ordering::Acquire)).min();
            self.clear_to = read.unwrap_or(self.published) + self.share;
            if self.published == self.clear_to {
                return false;
            }
        }
        self.published += 1;
        // Refused only when no receiver is left, and then nobody misses the event.
        self.sender.send(Event::new(draft)).is_ok()
    }
}

impl<const WORDS: usize> Reporting<WORDS> {
    #[inline]
    fn count(&mut self, event: &Event<WORDS>) {
        // One thread may publish as several, and then has one share all the same.
        let (count, read) = &mut self.read[event.publisher().min(self.last)];
        *count += 1;
        if count.is_multiple_of(REPORT_EVENTS) {
            // SYNC(broadcast.read): Release. Pairs with the load in `try_publish`.
            read.0.store(*count, Ordering::Release);
        }
    }
}

impl<const WORDS: usize> Pull for Reporting<WORDS> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        one_by_one(sink, || {
            let event = self.receiver.try_recv().ok()?;
            self.count(&event);
            Some(event)
        })
    }

    #[inline]
    fn park<S: Sink>(&mut self, sink: &mut S) -> bool {
        let Ok(event) = self.receiver.blocking_recv() else {
            return false;
        };
        self.count(&event);
        event.deliver(sink);
        true
    }
}
