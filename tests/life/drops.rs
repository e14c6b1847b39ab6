//! Every public handle, dropped in every state of its bus: the bus goes on, nothing is left of what was the handle's, and the books
//! balance.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DeadLetterFilter, Delivery, DeliveryMode, Mailbox, Meta, Outcome, Pattern, Payload, Priority, RetryPolicy,
    Subscribe, Subscription, Topic,
};

use crate::support::{Seen, assert_books, shut_down_clean, simulate, until};

const NUMBER: Topic<u64> = Topic::new("number");
const TWICE: Topic<u64> = Topic::new("twice");
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its subscription has given up an event, and is suspended for that; where it cannot give up, it is paused.
    Suspended,
    /// In the lanes and in mailboxes.
    EventsWait,
    ShutDown,
    /// Open, and the drop happens on a worker, in a handler.
    OnWorker,
}

const STATES: [State; 5] = [State::Open, State::Suspended, State::EventsWait, State::ShutDown, State::OnWorker];

type Handle = Box<dyn Any + Send>;
type Make = fn(&Bus, &Simulation) -> Handle;

/// Gives an event up at once, and is suspended for it.
fn touchy(bus: &Bus) -> Subscribe<Pattern> {
    let once = RetryPolicy::default().attempts_max(1).delays(Duration::ZERO, Duration::ZERO);
    bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once).suspend_after(1)
}

fn judge(payload: Payload<'_>, _: &Meta<'_>) -> Outcome {
    if payload.bytes() == b"bad" { Outcome::Reject("bad".to_owned()) } else { Outcome::Ack }
}

fn publish(bus: &Bus, bytes: &[u8]) {
    bus.publish("a", Payload::raw(bytes)).unwrap();
}

/// A mailbox, and an event of it in somebody's hands.
fn in_hand(bus: &Bus, simulation: &Simulation) -> (Mailbox<Pattern>, Delivery<Pattern>) {
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).mailbox().unwrap();
    publish(bus, b"good");
    simulation.run();
    let delivery = inbox.try_recv().unwrap();
    (inbox, delivery)
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request that was asked, with its requester, and waits.
fn asked(bus: &Bus) -> Running {
    let requester = bus.requester(NUMBER, TWICE).unwrap();
    let mut waiting: Running = Box::pin(async move { drop(requester.request_async(&21, MINUTE).await) });
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    waiting
}

const HANDLES: [(&str, Make); 17] = [
    ("bus", |bus, _| Box::new(bus.clone())),
    ("publisher", |bus, _| Box::new(bus.publisher().unwrap())),
    ("subscription", |bus, _| Box::new(bus.subscribe("a").handle(|_, _| ()).unwrap())),
    ("reliable subscription", |bus, _| Box::new(touchy(bus).handle(judge).unwrap())),
    ("subscription with a thread", |bus, _| Box::new(touchy(bus).handle_on("own", judge).unwrap())),
    ("mailbox", |bus, _| Box::new(bus.subscribe("a").mailbox().unwrap())),
    ("reliable mailbox", |bus, _| Box::new(touchy(bus).mailbox().unwrap())),
    ("delivery, then its mailbox", |bus, simulation| {
        let (inbox, delivery) = in_hand(bus, simulation);
        Box::new((delivery, inbox))
    }),
    ("mailbox, then its delivery", |bus, simulation| Box::new(in_hand(bus, simulation))),
    ("future of an async handler", |bus, _| {
        let running: Running = Box::pin(touchy(bus).run(async |_: &Delivery<Pattern>| ()).unwrap());
        Box::new(running)
    }),
    ("requester", |bus, _| Box::new(bus.requester(NUMBER, TWICE).unwrap())),
    ("answer, then who asked and who answered", |bus, _| {
        let responder = bus.subscribe(NUMBER).respond(TWICE, |number, _| 2 * number.to_native()).unwrap();
        let requester = bus.requester(NUMBER, TWICE).unwrap();
        Box::new((requester.request(&21, MINUTE).unwrap(), requester, responder))
    }),
    ("request whose answer is on its way", |bus, _| {
        let responder = bus.subscribe(NUMBER).respond(TWICE, |number, _| 2 * number.to_native()).unwrap();
        Box::new((asked(bus), responder))
    }),
    ("request that nobody answers", |bus, _| {
        let inbox = bus.subscribe(NUMBER).mailbox().unwrap();
        Box::new((asked(bus), inbox))
    }),
    ("service, then its instance", |bus, _| {
        let service = bus.service("work").open().unwrap();
        let instance = service.instance("a").mailbox().unwrap();
        Box::new((service, instance))
    }),
    ("instance, then its service", |bus, _| {
        let service = bus.service("work").open().unwrap();
        Box::new((service.instance("a").handle(judge).unwrap(), service))
    }),
    ("redrive, then the mailbox it is for", |bus, simulation| {
        let (inbox, delivery) = in_hand(bus, simulation);
        delivery.reject("for now");
        let letters = bus.dead_letters();
        Box::new((letters.redrive_all(&DeadLetterFilter::new(), MINUTE).unwrap(), letters, inbox))
    }),
];

/// What no handle is to change.
struct World {
    simulation: Simulation,
    witness: Subscription,
    seen: Seen<()>,
}

impl World {
    fn new() -> Self {
        let simulation = simulate(Bus::builder().workers(2).max_queue_size(64).prefault(false).types_max(16));
        let seen = Seen::default();
        let log = seen.clone();
        let witness = simulation.bus().subscribe("a").named("witness").handle(move |_, _| log.push(()));
        Self { witness: witness.unwrap(), simulation, seen }
    }

    fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    /// Lets everything happen that can, also on threads, which no turn turns.
    fn rest(&self) {
        let in_motion = || {
            let ledger = self.bus().ledger();
            ledger.in_lanes + ledger.subscriptions.open()
        };
        until("rest", || {
            self.simulation.run();
            self.bus().flush().is_ok() && in_motion() == 0
        });
        assert_books(self.bus());
    }

    fn enter(&self, state: State, handle: &mut Handle) {
        let bus = self.bus();
        match state {
            State::Open | State::OnWorker => {}
            State::Suspended => {
                publish(bus, b"bad");
                self.simulation.run();
                if let Some(inbox) = handle.downcast_mut::<Mailbox<Pattern>>() {
                    inbox.try_recv().unwrap().reject("bad");
                }
                for record in bus.subscriptions().into_iter().filter(|record| record.name != "witness") {
                    bus.pause(record.id).unwrap();
                }
            }
            State::EventsWait => {
                publish(bus, b"good");
                publish(bus, b"good");
                bus.publish(NUMBER, &7).unwrap();
                self.simulation.run();
                bus.publisher().unwrap().event().target("work").publish("a", Payload::raw(b"good")).unwrap();
                publish(bus, b"good");
            }
            State::ShutDown => drop(bus.shutdown_deadline(Duration::ZERO)),
        }
    }

    /// Everybody else goes on as if there had never been such a handle.
    fn ends(self, state: State) {
        let bus = self.bus();
        if state == State::ShutDown {
            assert_books(bus);
            let ledger = bus.ledger();
            assert_eq!(ledger.in_lanes + ledger.subscriptions.open(), 0, "{ledger:#?}");
            return;
        }
        // A service goes on without its handle.
        bus.get_service("work").into_iter().for_each(|service| service.end().unwrap());
        self.rest();
        publish(bus, b"good");
        self.rest();
        let witness = &self.witness;
        assert_eq!(witness.record().ledger.delivered, self.seen.len() as u64);
        assert_eq!(witness.record().ledger.matched, self.seen.len() as u64, "it missed nothing");
        let names: Vec<_> = bus.subscriptions().into_iter().map(|record| record.name).collect();
        assert_eq!(names, ["witness"], "nothing is left of what was dropped");
        assert_eq!(bus.services().len(), 0);
        shut_down_clean(bus);
    }
}

fn dropped(make: Make, state: State) {
    let world = World::new();
    let mut handle = make(world.bus(), &world.simulation);
    world.enter(state, &mut handle);
    if state == State::OnWorker {
        let carried = Arc::new(Mutex::new(Some(handle)));
        let carrier = Arc::clone(&carried);
        let subscription = world.bus().subscribe("drop").handle(move |_, _| drop(carrier.lock().unwrap().take()));
        world.bus().publish("drop", Payload::raw(b"")).unwrap();
        world.simulation.run();
        assert!(carried.lock().unwrap().is_none(), "it was dropped on the worker");
        drop(subscription);
    } else {
        drop(handle);
    }
    world.ends(state);
}

#[test]
fn every_handle_may_be_dropped_in_every_state() {
    for (name, make) in HANDLES {
        for state in STATES {
            let outcome = std::panic::catch_unwind(|| dropped(make, state));
            assert!(outcome.is_ok(), "the {name}, dropped in state {state:?}");
        }
    }
}

#[test]
fn what_a_publisher_lends_may_be_dropped_in_every_state() {
    for state in STATES.into_iter().filter(|&state| state != State::OnWorker) {
        let world = World::new();
        let mut publisher = world.bus().publisher().unwrap();
        let frame = publisher.event().to_frame("a", Payload::raw(b"1")).unwrap();
        let blocks = world.bus().metrics().free_blocks;
        let nothing = || Box::new(()) as Handle;

        let mut batch = publisher.batch(Priority::High);
        batch.add("a", Payload::raw(&[7; 3_000])).unwrap();
        world.enter(state, &mut nothing());
        drop(batch);
        drop(publisher.event().metadata("k", "v"));
        drop(publisher.frame(&frame));
        if let Ok(loan) = publisher.loan(5_000) {
            drop(loan);
        }
        drop(publisher);
        if state != State::ShutDown {
            world.rest();
            assert_eq!(world.bus().metrics().free_blocks, blocks, "every block is back");
        }
        world.ends(state);
    }
}

#[test]
fn an_iterator_may_be_left_half_way_in_every_state_and_loses_nothing() {
    for state in STATES.into_iter().filter(|&state| state != State::OnWorker) {
        let world = World::new();
        let mut inbox = world.bus().subscribe("a").mailbox().unwrap();
        for _ in 0..3 {
            publish(world.bus(), b"good");
        }
        world.simulation.run();
        {
            let mut iterator = inbox.iter();
            let delivery = iterator.next().unwrap();
            world.enter(state, &mut (Box::new(()) as Handle));
            drop(delivery);
        }
        let ledger = world.bus().subscription(inbox.id()).map(|record| record.ledger);
        assert!(inbox.len() >= 2, "{state:?}: what it did not give is there still, {ledger:?}");
        drop(inbox);
        world.ends(state);
    }
}
