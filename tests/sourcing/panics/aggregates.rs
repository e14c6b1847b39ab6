//! Aggregates, their repository, and the relay that tells of them.

use std::convert::Infallible;

use ringmain::sourcing::{Aggregate, Relay, Repository, Root, SaveError};
use ringmain::store::{Bookmark, Upcasters};
use ringmain::testing::Simulation;
use ringmain::{Bus, Outgoing, PublishError};

use super::*;
use crate::books::assert_settled;

/// A sum whose commands lead to two events each.
#[derive(Default, Debug)]
struct Doubling(u64);

impl Aggregate for Doubling {
    const KIND: &'static str = "doubling";
    type Command = u64;
    type Event = u64;
    type Refusal = Infallible;

    fn decide(&self, number: &u64) -> Result<Vec<u64>, Infallible> {
        call("decide");
        Ok(vec![*number; 2])
    }

    fn apply(&mut self, number: &u64) {
        call("apply");
        self.0 += number;
    }

    fn to_frame(number: &u64, outgoing: Outgoing<'_>) -> Result<Frame, PublishError> {
        call("to_frame");
        outgoing.to_frame("number", Payload::plain_text(&number.to_string()))
    }

    fn of_frame(frame: &Frame) -> Result<u64, Cause> {
        call("of_frame");
        Ok(frame.payload().text().ok_or("no text")?.parse()?)
    }

    fn snapshot(&self, id: &str, version: u64) -> Option<Snapshot> {
        call("snapshot");
        Some(Snapshot::new(Self::KIND, id, version, Payload::plain_text(&self.0.to_string())))
    }

    fn restore(snapshot: &Snapshot) -> Option<Self> {
        call("restore");
        snapshot.state().text()?.parse().ok().map(Self)
    }
}

/// What the store has: the numbers, and nothing but them, in order.
fn assert_saved(store: &dyn EventStore, numbers: &[u64]) {
    let events = Query::new().aggregate(Doubling::KIND, "7").stream(store).map(Result::unwrap);
    let saved: Vec<_> =
        events.map(|event| (number(&event.view()), event.meta().aggregate().unwrap().version)).collect();
    let all: Vec<_> = numbers.iter().flat_map(|number| [*number; 2]).zip(1..).collect();
    assert_eq!(saved, all, "{:?}", blown());
}

const NUMBERS: [u64; 4] = [1, 2, 3, 4];

fn doublings(writer: &Writer, snapshot_every: u64) -> Repository<Doubling> {
    let publisher = || writer.publisher.try_clone().unwrap();
    again(|| Repository::new(Given::new(&writer.store), publisher()).snapshot_every(snapshot_every))
}

#[test]
fn a_command_happens_whole_or_not_at_all() {
    let kinds = [
        "append",
        "appended",
        "apply",
        "decide",
        "durability",
        "load_snapshot",
        "of_frame",
        "query",
        "restore",
        "save_snapshot",
        "snapshot",
        "to_frame",
    ];
    at_every_call(&kinds, || {
        let writer = Writer::new(&Ground::Memory);
        let mut doublings = doublings(&writer, 4);
        for (command, before) in NUMBERS.iter().zip((0..).step_by(2)) {
            if guarded(|| doublings.execute("7", command).unwrap()).is_some() {
                continue;
            }
            // Whoever saw the panic looks how far it came.
            match again(|| doublings.load("7").unwrap()).version() - before {
                0 => drop(doublings.execute("7", command).unwrap()),
                done => assert_eq!(done, 2, "{:?}", blown()),
            }
        }
        let loaded = again(|| doublings.load("7").unwrap());
        assert_eq!((loaded.version(), loaded.state().0), (8, 20), "{:?}", blown());
        assert_saved(&*writer.store, &NUMBERS);
    });
}

#[test]
fn an_aggregate_with_half_a_command_behind_it_is_not_saved() {
    at_every_call(&["append", "appended", "apply", "decide", "durability", "to_frame"], || {
        let writer = Writer::new(&Ground::Memory);
        let mut doublings = doublings(&writer, 0);
        let mut root = Root::new("7");
        for command in &NUMBERS {
            if guarded(|| root.execute(command)).is_none() {
                match (doublings.save(&mut root), blown()) {
                    (Ok(None), Some("decide")) => {}
                    (Err(error @ SaveError::Torn { .. }), Some("apply")) => {
                        assert!(error.to_string().starts_with("doubling \"7\" has part of a command behind it"));
                    }
                    (saved, kind) => panic!("{saved:?} after a panic in {kind:?}"),
                }
                root = doublings.load("7").unwrap();
                root.execute(command).unwrap();
            }
            if let Err(error) = again(|| doublings.save(&mut root).map(drop)) {
                assert!(matches!(error, SaveError::Append(_)), "{error}");
                assert_eq!(blown(), Some("appended"), "it is there already");
                root = doublings.load("7").unwrap();
            }
        }
        assert_saved(&*writer.store, &NUMBERS);
    });
}

#[test]
fn a_relay_tells_each_event_once() {
    at_every_call(&["query", "sync", "upcast"], || {
        let simulation = Simulation::new(Bus::builder().workers(1).max_queue_size(64), 1).unwrap();
        let bus = simulation.bus();
        let mut inbox = bus.subscribe("a").mailbox().unwrap();
        let mut writer = Writer::new(&Ground::Memory);
        for number in ["1", "2", "3"] {
            writer.append("a", number);
        }
        let newer = |old: &Frame| {
            call("upcast");
            Ok(old.with_payload(2, old.payload())?)
        };
        let upcasters = Arc::new(Upcasters::builder().step("a", 1, newer).build().unwrap());
        let mut relay =
            Relay::new(Given::new(&writer.store), bus.publisher().unwrap(), Bookmark::START).upcasters(upcasters);
        again(|| relay.step().unwrap());
        writer.append("a", "4");
        again(|| relay.step().unwrap());
        simulation.run();
        let told: Vec<_> = std::iter::from_fn(|| Some(inbox.try_recv().ok()?.payload().text()?.to_owned())).collect();
        assert_eq!(told, ["1", "2", "3", "4"], "{:?}", blown());
        assert_settled(bus);
    });
}
