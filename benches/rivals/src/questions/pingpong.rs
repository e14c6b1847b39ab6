//! How long is half a round trip: an event one way, an answer the other, one at a time?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Job, Outcome, stage};
use crate::event::{Draft, SMALL, Urgency, Word};
use crate::machine::{Clock, Seating, pin};
use crate::sink::{Fault, Tally, latencies, median_ns};
use crate::subject::{Consumer, Ends, Publisher, Seat, Sink, Subject};

/// All trips together take milliseconds, and seconds where a lock starves on a busy machine; if they take this long, an
/// event was lost.
const STUCK_SECONDS: u64 = 60;
/// Tries to publish into an empty channel before it counts as lost.
const TRIES_MAX: u32 = 1 << 20;

/// Publishes into a channel that has room.
fn answer(publisher: &mut impl Publisher, sequence: u64) -> bool {
    let draft = Draft { publisher: 0, urgency: Urgency::Ordinary, sequence, stamp: 0 };
    (0..TRIES_MAX).any(|_| publisher.try_publish(&draft))
}

/// Where the first publisher of the pinging side comes from: the harness, after the first ping.
#[derive(Debug)]
enum Serve<P> {
    Waiting(Receiver<P>),
    Playing(P),
    Out,
}

/// The pinging side: takes the answer, times it, publishes the next.
#[derive(Debug)]
struct Ping<P> {
    tally: Tally,
    latency: Histogram<u64>,
    clock: Clock,
    /// Its own publisher.
    serve: Serve<P>,
    /// Ticks at the last ping, 0 before the first timed one.
    sent: u64,
    warmup: u64,
    trips: u64,
}

impl<P: Publisher> Sink for Ping<P> {
    #[inline]
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) {
        self.tally.take(payload);
        let now = self.clock.ticks();
        let received = self.tally.received();
        if received > self.warmup {
            self.latency.saturating_record(self.clock.nanos(self.sent, now));
        }
        if let Serve::Waiting(inbox) = &self.serve {
            self.serve = inbox.recv().map_or(Serve::Out, Serve::Playing);
        }
        if received < self.trips
            && let Serve::Playing(publisher) = &mut self.serve
        {
            self.sent = self.clock.ticks();
            answer(publisher, received);
        }
    }

    fn torn(&mut self) {
        self.tally.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.tally.received() >= self.trips
    }
}

/// The answering side.
#[derive(Debug)]
struct Pong<P> {
    tally: Tally,
    publisher: P,
    trips: u64,
}

impl<P: Publisher> Sink for Pong<P> {
    #[inline]
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) {
        self.tally.take(payload);
        answer(&mut self.publisher, self.tally.received() - 1);
    }

    fn torn(&mut self) {
        self.tally.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.tally.received() >= self.trips
    }
}

fn only<P, C>(mut ends: Ends<P, C>) -> (P, C) {
    let publisher = ends.publishers.pop().expect("the plan seats one publisher");
    let consumer = ends.consumers.pop().expect("the plan seats one consumer");
    (publisher, consumer)
}

/// 30,000 round trips over two channels of one kind, after 3,000 for warming up; both sides read each event whole. The
/// histogram holds whole round trips.
pub(super) fn run<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let (warmup, trips) = (job.scaled(3_000), job.scaled(33_000));
    let there = job.plan(job.machine.seat(1, 1));
    let Seating { publishers, consumers } = there.seating.clone();
    let (home, away) = (publishers[0], consumers[0]);
    let back = job.plan(Seating { publishers: consumers, consumers: publishers });
    let (mut first, there_end) = only(S::open::<SMALL>(&there));
    let (publisher, back_end) = only(S::open::<SMALL>(&back));

    let ended = Arc::new(AtomicBool::new(false));
    let (ready, all_ready) = mpsc::channel();
    let (finish, finished) = mpsc::channel();
    let (outbox, inbox) = mpsc::channel();
    let clock = job.machine.clock.clone();
    let ping = Ping {
        tally: Tally::default(),
        latency: latencies(),
        clock,
        serve: Serve::Waiting(inbox),
        sent: 0,
        warmup: warmup.max(1),
        trips,
    };
    let pong = Pong { tally: Tally::default(), publisher, trips };
    let ping_seat = Seat::new(&back, ready.clone(), Arc::clone(&ended));
    let pong_seat = Seat::new(&there, ready, Arc::clone(&ended));
    let ping_finish = finish.clone();
    let ping = thread::spawn(move || {
        pin(home);
        let sink = back_end.run(ping, &ping_seat);
        let _ = ping_finish.send(());
        sink
    });
    let pong = thread::spawn(move || {
        pin(away);
        let sink = there_end.run(pong, &pong_seat);
        let _ = finish.send(());
        sink
    });
    let both = [(), ()];
    let started = both.iter().all(|()| all_ready.recv().is_ok());
    answer(&mut first, 0);
    let _ = outbox.send(first);
    let patience = Duration::from_secs(STUCK_SECONDS);
    let in_time = started && both.iter().all(|()| finished.recv_timeout(patience).is_ok());
    // SYNC(run.ended): Release. Pairs with the load in `Seat::ended`; all that was to be published is by now.
    ended.store(true, Ordering::Release);
    let (ping, pong) = (stage::join(ping), stage::join(pong));
    if !in_time {
        return Err(Fault::Stuck { seconds: STUCK_SECONDS });
    }
    ping.tally.verify(SMALL, &[trips])?;
    pong.tally.verify(SMALL, &[trips])?;
    let half = median_ns(&ping.latency) / 2.0;
    Ok(Outcome::one(job.question, half, Some(ping.latency)))
}
