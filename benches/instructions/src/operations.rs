//! The operations whose instructions are counted, each in a process of its own.
//!
//! A [`Simulation`] turns the worker on the publishing thread, so that nothing waits, spins or is woken, and its clock
//! stands still: a stamp is a load here, but in production a read of the time-stamp counter and its conversion to
//! nanoseconds. A turn of a simulated worker takes a lock of the simulation's own, once for 64 deliveries.

use std::hint::black_box;
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, Delivery, DeliveryMode, Filter, Payload, Priority, PublishError, Publisher, StampPolicy,
    Subscription, Topic,
};
use rkyv::{Archive, Serialize};

use crate::stored;

/// Events of a round: fewer than a worker passes in one turn (100), and as many as share a stamp where one in 64 has one.
const EVENTS: u64 = 64;
/// Rounds that are counted: what a turn or 64 stamps bring once has its share. What happens once a lap of a lane, such as a
/// look at the gate, is too rare to matter.
const ROUNDS: u64 = 64;
/// Rounds before the count begins: topics are cached, tables taken over, every kind of memory used once.
const WARM_UP: u64 = 4;
const BATCH: u64 = 16;
const DYNAMIC: &str = "orders.placed";
const JSON: &str = r#"{"id":1234567,"customer":"ada","cents":1999,"currency":"EUR"   }"#;
const _: () = assert!(JSON.len() == 64);

/// Something to count.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// How many of it a round has.
    a_round: u64,
    /// Does it, given the seed of all chance that the bus can be given one for.
    run: fn(Rounds, u64),
}

impl Operation {
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        OPERATIONS.iter().chain(stored::OPERATIONS)
    }

    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|operation| operation.name == name)
    }

    /// Does it in this process: a warm-up, then the rounds that callgrind counts.
    pub(crate) fn run(&self, seed: u64) {
        (self.run)(Rounds { operations: self.a_round }, seed);
    }

    /// How many of it are counted in one run.
    pub(crate) fn counted(&self) -> u64 {
        self.a_round * ROUNDS
    }
}

pub(crate) const fn operation(name: &'static str, what: &'static str, a_round: u64, run: fn(Rounds, u64)) -> Operation {
    Operation { name, what, a_round, run }
}

/// All of them. Unless said: a bus as it comes but for its slots of 128 bytes, and typed events of 64 bytes.
const OPERATIONS: &[Operation] = &[
    operation("publish-many", "publish, many publishers, every event stamped", EVENTS, |rounds, seed| {
        publish::<8>(rounds, many(), seed);
    }),
    operation("publish-many-64th", "the same, one event in 64 stamped", EVENTS, |rounds, seed| {
        publish::<8>(rounds, sampled(many()), seed);
    }),
    operation("publish-one", "publish, single publisher, every event stamped", EVENTS, |rounds, seed| {
        publish::<8>(rounds, one(), seed);
    }),
    operation("publish-one-64th", "the same, one event in 64 stamped", EVENTS, |rounds, seed| {
        publish::<8>(rounds, sampled(one()), seed);
    }),
    operation("publish-unwanted", "publish what nobody subscribed to", EVENTS, publish_unwanted),
    operation("publish-refused", "try_publish at a full lane", EVENTS, publish_refused),
    operation("publish-batch-16", "an event of a batch of 16: add, and its part of publish", EVENTS, publish_batch),
    operation("publish-1k-slot", "publish 1 KiB, slots it fits", EVENTS, |rounds, seed| {
        publish::<128>(rounds, many().slot_bytes(64 + 1_024), seed);
    }),
    operation("publish-1k-block", "publish 1 KiB, which goes into a block", EVENTS, |rounds, seed| {
        publish::<128>(rounds, many(), seed);
    }),
    operation("publish-json", "publish 64 bytes of JSON under a name", EVENTS, publish_json),
    operation("deliver-many", "deliver inline, many publishers, every event stamped", EVENTS, |rounds, seed| {
        deliver::<8>(rounds, many(), seed);
    }),
    operation("deliver-many-64th", "the same, one event in 64 stamped", EVENTS, |rounds, seed| {
        deliver::<8>(rounds, sampled(many()), seed);
    }),
    operation("deliver-one", "deliver inline, single publisher, every event stamped", EVENTS, |rounds, seed| {
        deliver::<8>(rounds, one(), seed);
    }),
    operation("deliver-one-64th", "the same, one event in 64 stamped", EVENTS, |rounds, seed| {
        deliver::<8>(rounds, sampled(one()), seed);
    }),
    operation(
        "deliver-dispatch",
        "the same events by the generic dispatch, beside one that wants Critical",
        EVENTS,
        |rounds, seed| {
            let (simulation, publisher) = simulate(many(), seed);
            let filter = Filter::all().priorities([Priority::Critical]);
            let wish = simulation.bus().subscribe(Words::<8>::TOPIC).filter(filter);
            let _other = wish.handle(|_, _| ()).expect("the bus runs and knows the topic");
            deliver_in::<8>(rounds, simulation, publisher);
        },
    ),
    operation("deliver-10", "one of 10 inline deliveries of an event", EVENTS * 10, |rounds, seed| {
        deliver::<8>(rounds, many(), seed);
    }),
    operation("deliver-100", "one of 100 inline deliveries of an event", EVENTS * 100, |rounds, seed| {
        deliver::<8>(rounds, many(), seed);
    }),
    operation("deliver-1k-block", "deliver inline 1 KiB out of a block", EVENTS, |rounds, seed| {
        deliver::<128>(rounds, many(), seed);
    }),
    operation("deliver-json", "deliver 64 bytes of JSON inline to a pattern", EVENTS, deliver_json),
    operation("deliver-mailbox", "deliver into a mailbox", EVENTS, deliver_mailbox),
    operation(
        "deliver-latest",
        "deliver to one that wants the newest only, and has one waiting",
        EVENTS,
        deliver_latest,
    ),
    operation("receive", "try_recv from a mailbox, read, settle", EVENTS, receive),
    operation("deliver-reliable", "deliver inline and reliably", EVENTS, deliver_reliable),
    operation("receive-reliable", "try_recv of a reliable event, read, acknowledge", EVENTS, receive_reliable),
    operation(
        "attend-64",
        "a turn beside 64 events that wait for a later attempt, to queue one that is due",
        1,
        |rounds, seed| {
            attend(rounds, 64, seed);
        },
    ),
    operation("attend-4k", "the same beside 4,096", 1, |rounds, seed| attend(rounds, 4_096, seed)),
    operation("attend-64k", "the same beside 65,536", 1, |rounds, seed| attend(rounds, 65_536, seed)),
    operation("idle-turn", "a worker's turn that finds nothing", EVENTS, idle_turn),
];

/// An event whose payload is `N` times 8 bytes.
#[derive(Archive, Serialize)]
struct Words<const N: usize> {
    words: [u64; N],
}

impl<const N: usize> Words<N> {
    const TOPIC: Topic<Self> = Topic::new("instructions.words");
    const EVENT: Self = Self { words: [7; N] };
}

impl<const N: usize> ArchivedWords<N> {
    /// Reads all of the payload, as a handler would.
    fn sum(&self) -> u64 {
        self.words.iter().fold(0, |sum: u64, word| sum.wrapping_add(word.to_native()))
    }
}

/// The schedule of one run: of each round only one part is counted.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// What one round must come to.
    operations: u64,
}

impl Rounds {
    /// Runs all rounds. `counted` returns how many operations it did.
    pub(crate) fn run(self, mut before: impl FnMut(), mut counted: impl FnMut() -> u64, mut after: impl FnMut()) {
        for round in 0..WARM_UP + ROUNDS {
            before();
            let done = if round < WARM_UP { counted() } else { counted_by_callgrind(&mut counted) };
            assert_eq!(done, self.operations, "a round does what its count is divided by");
            after();
        }
    }
}

/// The only function whose instructions, with all that it calls, are counted: `callgrind::TOGGLE` has its name.
#[inline(never)]
fn counted_by_callgrind(operations: &mut dyn FnMut() -> u64) -> u64 {
    // The black box keeps the call from becoming a jump, after which this function would not seem to return.
    black_box(operations())
}

fn many() -> BusBuilder {
    Bus::builder().workers(1).slot_bytes(128)
}

fn one() -> BusBuilder {
    many().single_publisher()
}

fn sampled(builder: BusBuilder) -> BusBuilder {
    builder.stamps(StampPolicy::OneIn(64))
}

fn simulate(builder: BusBuilder, seed: u64) -> (Simulation, Publisher) {
    let simulation = Simulation::new(builder, seed).expect("the settings are valid");
    let publisher = simulation.bus().publisher().expect("there is a place");
    (simulation, publisher)
}

fn read_inline<const N: usize>(simulation: &Simulation) -> Subscription {
    let handled = simulation.bus().subscribe(Words::<N>::TOPIC).handle(|event, _| {
        black_box(event.sum());
    });
    handled.expect("the bus runs and knows the topic")
}

fn publish_all<const N: usize>(publisher: &mut Publisher) -> u64 {
    for _ in 0..EVENTS {
        publisher.publish(Words::<N>::TOPIC, black_box(&Words::EVENT)).expect("the lane has room");
    }
    EVENTS
}

fn publish_all_json(publisher: &mut Publisher) -> u64 {
    for _ in 0..EVENTS {
        publisher.publish(black_box(DYNAMIC), Payload::json(black_box(JSON))).expect("the lane has room");
    }
    EVENTS
}

/// One turn, which passes all events of a round. Returns how many.
fn turn(simulation: &Simulation) -> u64 {
    simulation.turn(0).expect("there is a worker") as u64
}

fn publish<const N: usize>(rounds: Rounds, builder: BusBuilder, seed: u64) {
    let (simulation, mut publisher) = simulate(builder, seed);
    let _reader = read_inline::<N>(&simulation);
    rounds.run(|| {}, || publish_all::<N>(&mut publisher), || assert_eq!(turn(&simulation), EVENTS));
}

fn publish_unwanted(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    rounds.run(|| {}, || publish_all::<8>(&mut publisher), || assert_eq!(turn(&simulation), 0));
}

fn publish_refused(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let _reader = read_inline::<8>(&simulation);
    let mut is_refused = || {
        let published = publisher.try_publish(Words::<8>::TOPIC, black_box(&Words::EVENT));
        matches!(published, Err(PublishError::Full { .. }))
    };
    while !is_refused() {}
    rounds.run(|| {}, || (0..EVENTS).map(|_| u64::from(is_refused())).sum(), || {});
}

fn publish_batch(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let _reader = read_inline::<8>(&simulation);
    let batches = || {
        let mut published = 0;
        for _ in 0..EVENTS / BATCH {
            let mut batch = publisher.batch(Priority::Normal);
            for _ in 0..BATCH {
                batch.add(Words::<8>::TOPIC, black_box(&Words::EVENT)).expect("the batch is short enough");
            }
            published += batch.publish().expect("the lane has room").len() as u64;
        }
        published
    };
    rounds.run(|| {}, batches, || assert_eq!(turn(&simulation), EVENTS));
}

fn publish_json(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let _reader = read_json(&simulation);
    rounds.run(|| {}, || publish_all_json(&mut publisher), || assert_eq!(turn(&simulation), EVENTS));
}

fn deliver<const N: usize>(rounds: Rounds, builder: BusBuilder, seed: u64) {
    let (simulation, publisher) = simulate(builder, seed);
    deliver_in::<N>(rounds, simulation, publisher);
}

fn deliver_in<const N: usize>(rounds: Rounds, simulation: Simulation, mut publisher: Publisher) {
    let readers: Vec<_> = (0..rounds.operations / EVENTS).map(|_| read_inline::<N>(&simulation)).collect();
    let deliveries = || turn(&simulation) * readers.len() as u64;
    rounds.run(|| assert_eq!(publish_all::<N>(&mut publisher), EVENTS), deliveries, || {});
}

fn read_json(simulation: &Simulation) -> Subscription {
    let handled = simulation.bus().subscribe("orders.*").handle(|payload, _| {
        black_box(payload.text().map(str::len));
    });
    handled.expect("the pattern is valid")
}

fn deliver_json(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let _reader = read_json(&simulation);
    rounds.run(|| assert_eq!(publish_all_json(&mut publisher), EVENTS), || turn(&simulation), || {});
}

fn deliver_mailbox(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let mut inbox = simulation.bus().subscribe(Words::<8>::TOPIC).mailbox().expect("the bus knows the topic");
    let before = || assert_eq!(publish_all::<8>(&mut publisher), EVENTS);
    rounds.run(before, || turn(&simulation), || while inbox.try_recv().is_ok() {});
}

fn deliver_latest(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let wish = simulation.bus().subscribe(Words::<8>::TOPIC).mode(DeliveryMode::LatestOnly);
    let _inbox = wish.mailbox().expect("the bus knows the topic");
    rounds.run(|| assert_eq!(publish_all::<8>(&mut publisher), EVENTS), || turn(&simulation), || {});
}

fn receive(rounds: Rounds, seed: u64) {
    receive_in(DeliveryMode::BestEffort, rounds, seed, drop);
}

fn receive_in(mode: DeliveryMode, rounds: Rounds, seed: u64, settle: impl Fn(Delivery<Topic<Words<8>>>)) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let wish = simulation.bus().subscribe(Words::<8>::TOPIC).mode(mode);
    let mut inbox = wish.mailbox().expect("the bus knows the topic");
    let before = || {
        publish_all::<8>(&mut publisher);
        turn(&simulation);
    };
    let mut receive_one = || {
        let delivery = inbox.try_recv().expect("the worker has delivered");
        black_box(delivery.event().expect("it is of this type").sum());
        settle(delivery);
        1
    };
    rounds.run(before, || (0..EVENTS).map(|_| receive_one()).sum(), || {});
}

fn deliver_reliable(rounds: Rounds, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let wish = simulation.bus().subscribe(Words::<8>::TOPIC).mode(DeliveryMode::reliable());
    let made = wish.handle(|event, _| {
        black_box(event.sum());
    });
    let _reader = made.expect("the bus knows the topic");
    rounds.run(|| assert_eq!(publish_all::<8>(&mut publisher), EVENTS), || turn(&simulation), || {});
}

fn receive_reliable(rounds: Rounds, seed: u64) {
    receive_in(DeliveryMode::reliable(), rounds, seed, |delivery| {
        delivery.ack();
    });
}

/// Fails one event an hour ahead after the other until `waiting` of them fill a mailbox; what comes again at once is another
/// subscription's.
fn attend(rounds: Rounds, waiting: usize, seed: u64) {
    let (simulation, mut publisher) = simulate(many(), seed);
    let bus = simulation.bus();
    let wish = |topic, cells| bus.subscribe(topic).mode(DeliveryMode::reliable()).capacity(cells).mailbox();
    let mut full = wish(DYNAMIC, waiting).expect("the bus has the memory");
    for _ in 0..waiting {
        publisher.publish(DYNAMIC, Payload::json(JSON)).expect("the lane has room");
        simulation.run();
        full.try_recv().expect("the worker has delivered").retry_after(Duration::from_secs(3_600));
    }
    let mut one = wish("orders.paid", 1).expect("the bus has the memory");
    publisher.publish("orders.paid", Payload::json(JSON)).expect("the lane has room");
    simulation.run();
    let before = || {
        one.try_recv().expect("it has come again").release();
    };
    rounds.run(before, || 1 + turn(&simulation), || {});
}

fn idle_turn(rounds: Rounds, seed: u64) {
    let (simulation, _publisher) = simulate(many(), seed);
    let _reader = read_inline::<8>(&simulation);
    rounds.run(|| {}, || (0..EVENTS).map(|_| 1 + turn(&simulation)).sum(), || {});
}
