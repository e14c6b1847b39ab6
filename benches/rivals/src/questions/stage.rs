//! Puts publishers and consumers on their cores, starts them, and collects what they bring back.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use crate::event::Draft;
use crate::machine::pin;
use crate::sink::Fault;
use crate::subject::{Consumer, Idle, Plan, Publisher, Seat, Sink, Subject};

/// How a publisher waits for room, and learns that there is nobody left to make any.
#[derive(Debug)]
pub(super) struct Patience {
    idle: Idle,
    turns: u32,
    left: Arc<AtomicBool>,
}

impl Patience {
    /// Turns between two looks at the consumers.
    const LOOK_TURNS: u32 = 1 << 16;

    fn new(yields: bool, left: Arc<AtomicBool>) -> Self {
        Self { idle: Idle::new(yields), turns: 0, left }
    }

    /// Publishes, waiting for room.
    #[inline(always)]
    pub(super) fn publish(&mut self, publisher: &mut impl Publisher, draft: &Draft) -> Result<(), Fault> {
        self.idle.reset();
        // One call: the subject's code is then a part of the loop that publishes, as it is in its users'.
        while !publisher.try_publish(draft) {
            self.wait()?;
        }
        Ok(())
    }

    /// One turn of waiting for a consumer to get on.
    #[cold]
    pub(super) fn wait(&mut self) -> Result<(), Fault> {
        self.idle.wait();
        self.turns = self.turns.wrapping_add(1);
        // Relaxed: the flag stands for itself; whatever the consumer had to say comes with its thread's join.
        if self.turns.is_multiple_of(Self::LOOK_TURNS) && self.left.load(Ordering::Relaxed) {
            return Err(Fault::ConsumerLeft);
        }
        Ok(())
    }
}

/// Raises a flag unless its thread came to its proper end.
struct Leaving(Option<Arc<AtomicBool>>);

impl Leaving {
    fn properly(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(left) = &self.0 {
            // Relaxed: see `Patience::wait`.
            left.store(true, Ordering::Relaxed);
        }
    }
}

/// Opens a channel and runs it dry: each receiver with its sink, each publisher through `publish` (its number, its end,
/// and how to wait). Gives back the sinks, and what the publishers returned.
pub(super) fn play<S, const WORDS: usize, K, R>(
    plan: &Plan,
    sinks: Vec<K>,
    publish: impl Fn(u8, S::Publisher<WORDS>, Patience) -> Result<R, Fault> + Clone + Send + 'static,
) -> Result<(Vec<K>, Vec<R>), Fault>
where
    S: Subject,
    K: Sink,
    R: Send + 'static,
{
    let ends = S::open::<WORDS>(plan);
    let yields = plan.seating.shares_a_core();
    let ended = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicBool::new(false));
    let (ready, all_ready) = mpsc::channel();

    let mut receivers = ends.consumers.into_iter().zip(sinks);
    let threads: Vec<_> = plan
        .seating
        .consumers
        .iter()
        .map(|core| (*core, receivers.by_ref().take(plan.subscriptions).collect::<Vec<_>>()))
        .collect();
    let consumers: Vec<_> = threads
        .into_iter()
        .map(|(core, mut together)| {
            let seat = Seat::new(plan, ready.clone(), Arc::clone(&ended));
            let leaving = Leaving(Some(Arc::clone(&left)));
            thread::spawn(move || {
                pin(core);
                let sinks = match together.pop() {
                    Some((receiver, sink)) if together.is_empty() => vec![receiver.run(sink, &seat)],
                    last => S::Consumer::run_together(together.into_iter().chain(last).collect(), &seat),
                };
                if sinks.iter().all(Sink::done) {
                    leaving.properly();
                }
                sinks
            })
        })
        .collect();
    for _ in &consumers {
        all_ready.recv().expect("the harness holds a sender itself");
    }

    let start = Arc::new(Barrier::new(ends.publishers.len()));
    let publishers: Vec<_> = (0..)
        .zip(ends.publishers)
        .zip(&plan.seating.publishers)
        .map(|((number, end), &core)| {
            let (publish, start) = (publish.clone(), Arc::clone(&start));
            let patience = Patience::new(yields, Arc::clone(&left));
            thread::spawn(move || {
                pin(core);
                start.wait();
                publish(number, end, patience)
            })
        })
        .collect();
    let published: Vec<_> = publishers.into_iter().map(join).collect();
    // SYNC(run.ended): Release. Pairs with the load in `Seat::ended`; the joins above put all publishing before it.
    ended.store(true, Ordering::Release);
    let sinks = consumers.into_iter().flat_map(join).collect();
    Ok((sinks, published.into_iter().collect::<Result<_, _>>()?))
}

/// Waits for a thread; a panic there goes on here.
pub(super) fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use crossbeam_queue::ArrayQueue;

    use super::*;
    use crate::event::Event;
    use crate::machine::Machine;
    use crate::questions::{Class, Job, Question};
    use crate::subject::{Ends, Entry, Poll, Polled, Publishers, Pull, SUBJECTS, Stamps, Wait, one_by_one};

    /// A subject that calls its handler on a thread of its own, as ringmain does.
    struct Pushing;

    struct Worker<const WORDS: usize>(mpsc::Receiver<Event<WORDS>>);

    impl Subject for Pushing {
        const NAME: &'static str = "pushing";
        const PUBLISHERS: Publishers = Publishers::One;
        const PARKS: bool = true;
        type Publisher<const WORDS: usize> = SyncSender<Event<WORDS>>;
        type Consumer<const WORDS: usize> = Worker<WORDS>;

        fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
            let (sender, receiver) = sync_channel(plan.capacity);
            Ends { publishers: vec![sender], consumers: vec![Worker(receiver)] }
        }
    }

    impl<const WORDS: usize> Consumer for Worker<WORDS> {
        fn run<S: Sink>(self, mut sink: S, seat: &Seat) -> S {
            let (give_back, given_back) = mpsc::channel();
            let worker = thread::spawn(move || {
                while !sink.done()
                    && let Ok(event) = self.0.recv()
                {
                    event.deliver(&mut sink);
                }
                give_back.send(sink).expect("the harness's thread waits for the sink");
            });
            seat.ready();
            let sink = given_back.recv().expect("the worker gives the sink back, done or not");
            worker.join().expect("it has nothing left to panic over");
            sink
        }

        fn run_together<S: Sink>(together: Vec<(Self, S)>, seat: &Seat) -> Vec<S> {
            together.into_iter().map(|(receiver, sink)| receiver.run(sink, seat)).collect()
        }
    }

    /// A queue that loses the event with sequence `LOST`, and only says that it published it.
    struct Losing<const LOST: u64>;

    struct Leak<const WORDS: usize, const LOST: u64>(Arc<ArrayQueue<Event<WORDS>>>);

    impl<const LOST: u64> Subject for Losing<LOST> {
        const NAME: &'static str = "losing";
        const PUBLISHERS: Publishers = Publishers::One;
        const PARKS: bool = false;
        type Publisher<const WORDS: usize> = Leak<WORDS, LOST>;
        type Consumer<const WORDS: usize> = Leak<WORDS, LOST>;

        fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
            let queue = Arc::new(ArrayQueue::new(plan.capacity));
            Ends { publishers: vec![Leak(Arc::clone(&queue))], consumers: vec![Leak(queue)] }
        }
    }

    impl<const WORDS: usize, const LOST: u64> Publisher for Leak<WORDS, LOST> {
        fn try_publish(&mut self, draft: &Draft) -> bool {
            draft.sequence == LOST || self.0.push(Event::new(draft)).is_ok()
        }
    }

    impl<const WORDS: usize, const LOST: u64> Pull for Leak<WORDS, LOST> {
        fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
            one_by_one(sink, || self.0.pop())
        }
    }

    const EVENTS: u64 = 10_000;

    fn answer<S: Subject>(question: Question, wait: Wait) -> Result<f64, Fault> {
        let machine = Machine::survey().expect("Linux tells the cores");
        let class = Class { publishers: S::PUBLISHERS, poll: Poll::Shipped, wait, stamps: Stamps::Sampled };
        let job = Job { question, class, machine: &machine, events: EVENTS, slots: 1_024, smoke: true };
        crate::questions::run::<S>(&job).map(|outcome| outcome.samples[0].value)
    }

    #[test]
    fn a_subject_with_a_thread_of_its_own_answers_every_question() {
        for question in [Question::Throughput11, Question::Paced1k, Question::Pingpong, Question::Burst] {
            assert!(answer::<Pushing>(question, Wait::Parked).expect("it loses nothing") > 0.0);
        }
    }

    #[test]
    fn a_lost_event_is_an_error_wherever_it_was() {
        let middle = answer::<Losing<5_000>>(Question::OneCore, Wait::Spinning);
        assert_eq!(middle, Err(Fault::Order { publisher: 0, expected: 5_000, received: 5_001 }));
        let last = answer::<Losing<{ EVENTS - 1 }>>(Question::OneCore, Wait::Spinning);
        assert_eq!(last, Err(Fault::Count { expected: EVENTS, received: EVENTS - 1 }));
    }

    #[test]
    fn names_of_subjects_are_unique() {
        for entry in SUBJECTS {
            assert!(std::ptr::eq(entry, Entry::find(entry.name).expect("it is listed")), "{}", entry.name);
        }
    }
}
