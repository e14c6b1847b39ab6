//! Process managers, by the example of the source system: a collaboration starts when all who were invited have joined.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use ringmain::sourcing::{Outputs, Persist, ProcessError, ProcessManager, Processes, Reaction};
use ringmain::store::{EventStore, ExpectedVersion, Query, Retention, StateKind, StateStore, StoredEventRef};
use ringmain::{Aggregate, Pattern, Payload};

use super::folder::Folder;
use super::support::{self, Death, Ground, Mortal, MortalEvents, Store, Writer, on_every_store};

type Cause = Box<dyn Error + Send + Sync>;

/// Who has not joined yet.
#[derive(Debug, Default, PartialEq)]
struct Missing(BTreeSet<String>);

impl Persist for Missing {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.0.iter().map(String::as_str).collect::<Vec<_>>().join(",").into_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(Self(std::str::from_utf8(bytes)?.split(',').map(Into::into).collect()))
    }
}

/// Events say `session agent,agent` or `session agent`.
struct Collaboration;

impl ProcessManager for Collaboration {
    const NAME: &'static str = "collaboration";
    type State = Missing;

    fn correlate(&self, event: &StoredEventRef<'_>) -> Option<String> {
        let is_mine = ["collaboration.requested", "agent.joined"].contains(&event.meta().topic());
        Some(event.payload().text()?.split_once(' ')?.0.to_owned()).filter(|_| is_mine)
    }

    fn react(
        &self,
        missing: &mut Missing,
        event: &StoredEventRef<'_>,
        out: &mut Outputs<'_>,
    ) -> Result<Reaction, Cause> {
        let (session, agents) = event.payload().text().and_then(|text| text.split_once(' ')).ok_or("no text")?;
        if event.meta().topic() == "collaboration.requested" {
            for agent in agents.split(',') {
                missing.0.insert(agent.to_owned());
                out.emit(|invited| invited.to_frame("agent.invited", Payload::plain_text(agent)))?;
            }
            return Ok(Reaction::Kept);
        }
        if agents == "stranger" {
            let other = Aggregate { kind: "other", id: "7", version: 1 };
            out.emit(|event| event.aggregate(other).to_frame("agent.invited", Payload::plain_text("")))?;
            return Ok(Reaction::Kept);
        }
        if agents == "nobody" {
            return Err("nobody cannot join".into());
        }
        Ok(match missing.0.remove(agents) {
            false => Reaction::Ignored,
            true if !missing.0.is_empty() => Reaction::Kept,
            true => {
                out.emit(|started| started.to_frame("collaboration.started", Payload::plain_text(session)))?;
                Reaction::Ended
            }
        })
    }
}

fn open(writer: &Writer, store: Arc<dyn EventStore>, state: Arc<dyn StateStore>) -> Processes<Collaboration> {
    Processes::open(Collaboration, store, state, writer.publisher.try_clone().unwrap()).unwrap()
}

fn run(processes: &mut Processes<Collaboration>) -> Result<(), ProcessError> {
    while processes.step()?.has_more {}
    Ok(())
}

/// Topics and texts of what went out, in order.
fn sent(store: &dyn EventStore) -> Vec<String> {
    let events = Query::new().aggregate("collaboration", "7").stream(store);
    events
        .map(|event| {
            let event = event.unwrap();
            format!("{} {}", event.meta().topic(), event.payload().text().unwrap())
        })
        .collect()
}

const ALL: [&str; 3] = ["agent.invited ada", "agent.invited bob", "collaboration.started 7"];

on_every_store! {
    a_collaboration_starts_when_all_have_joined,
    what_goes_out_goes_out_once_wherever_the_process_dies_or_its_disk_fails,
    an_event_that_cannot_be_handled_is_the_next_again,
    what_could_never_be_appended_is_not_kept,
}

fn a_collaboration_starts_when_all_have_joined(ground: &Ground) {
    let (mut writer, state) = (Writer::new(ground), ground.store());
    let store = Arc::clone(&writer.store);
    let mut processes = open(&writer, store.clone(), Arc::clone(&state) as _);
    let requested = writer.append("collaboration.requested", "7 ada,bob");
    writer.append("unrelated", "7 ada");
    let processed = processes.step().unwrap();
    assert_eq!((processed.handled, processed.emitted, processed.has_more), (1, 2, false));
    assert_eq!(sent(&*store), ALL[..2]);
    writer.append("agent.joined", "7 bob");
    writer.append("agent.joined", "7 bob");
    writer.append("agent.joined", "8 ada");
    run(&mut processes).unwrap();
    assert_eq!(processes.get("7").unwrap().unwrap().0.into_iter().collect::<Vec<_>>(), ["ada"]);
    writer.append("agent.joined", "7 ada");
    run(&mut processes).unwrap();
    assert_eq!(sent(&*store), ALL);
    assert!(processes.get("7").unwrap().is_none() && processes.get("8").unwrap().is_none());
    assert_eq!(state.list(StateKind::OUTBOX, &[], 1).unwrap().entries.len(), 0);

    let tree = store.causation(requested.meta().id()).unwrap();
    assert_eq!(tree.nodes().len(), 2, "the story begins with the request: what was invited belongs to it");
    assert!(tree.roots().all(|node| node.causation == Some(requested.meta().id())));

    writer.append("collaboration.requested", "7 ada");
    run(&mut processes).unwrap();
    assert_eq!(sent(&*store).len(), 4, "one of the same key begins anew");
    let last = Query::new().aggregate("collaboration", "7").newest_first().stream(&*store).next().unwrap().unwrap();
    assert_eq!(last.meta().aggregate(), Some(Aggregate { kind: "collaboration", id: "7", version: 4 }));
}

fn what_goes_out_goes_out_once_wherever_the_process_dies_or_its_disk_fails(ground: &Ground) {
    let events = ["collaboration.requested 7 ada,bob", "agent.joined 7 ada", "agent.joined 7 bob"];
    let life = |death: Option<Death>, goes_on: bool| {
        let (mut writer, state) = (Writer::new(ground), ground.store());
        for event in events {
            let (topic, text) = event.split_once(' ').unwrap();
            writer.append(topic, text);
        }
        let mortal = Mortal::new(&state, death);
        let store = Arc::new(MortalEvents(Arc::clone(&writer.store), Arc::clone(&mortal)));
        let mut first = open(&writer, store, Arc::clone(&mortal) as _);
        let lived = run(&mut first);
        assert_eq!(lived.is_err(), death.is_some(), "{lived:?}");
        if goes_on {
            mortal.revive();
            run(&mut first).unwrap();
        }
        drop(first);
        let mut again = open(&writer, Arc::clone(&writer.store) as _, Arc::clone(&state) as _);
        run(&mut again).unwrap();
        assert_eq!(sent(&*writer.store), ALL, "{death:?} {goes_on}");
        assert!(again.get("7").unwrap().is_none());
        assert_eq!(state.list(StateKind::OUTBOX, &[], 1).unwrap().entries.len(), 0);
        mortal.writes()
    };
    let writes = life(None, false);
    assert_eq!(writes, 3 + 1 + 3, "state, append, outbox; state; state, append, outbox");
    for death in (0..writes).flat_map(|nth| [Death::Before(nth), Death::After(nth)]) {
        life(Some(death), false);
        life(Some(death), true);
    }
}

#[test]
fn what_goes_out_does_so_once_also_when_what_went_out_before_was_removed() {
    let folder = Folder::new("process-retention");
    let life = |nth: u64, death: Option<Death>| {
        let store = Arc::new(support::open(&folder.0.join(nth.to_string())));
        let mut writer = Writer::of(store.clone());
        writer.append("collaboration.requested", "7 ada");
        let mut first = open(&writer, store.clone(), store.clone());
        run(&mut first).unwrap();
        assert_eq!(sent(&*store), ALL[..1]);
        let others: Vec<_> = (0..500).map(|_| writer.frame("unrelated", &"x".repeat(3_000))).collect();
        for others in others.chunks(250) {
            store.append(others, ExpectedVersion::Any, store.durability()).unwrap();
        }
        run(&mut first).unwrap();
        assert!(store.keep(Retention::forever().bytes_max(1)).unwrap().removed_segments > 0);
        assert!(sent(&*store).is_empty());
        drop(first);

        writer.append("agent.joined", "7 ada");
        let kept: Arc<dyn Store> = store.clone();
        let mortal = Mortal::new(&kept, death);
        let events = Arc::new(MortalEvents(kept, Arc::clone(&mortal)));
        let mut second = open(&writer, events, Arc::clone(&mortal) as _);
        assert_eq!(run(&mut second).is_err(), death.is_some());
        drop(second);
        let mut third = open(&writer, store.clone(), store.clone());
        run(&mut third).unwrap();
        assert_eq!(sent(&*store), ALL[2..], "{death:?}");
        assert_eq!(store.list(StateKind::OUTBOX, &[], 1).unwrap().entries.len(), 0);
        mortal.writes()
    };
    let writes = life(0, None);
    assert_eq!(writes, 4, "state, an append behind what was removed, the same behind nothing, outbox");
    let deaths = (0..writes).flat_map(|nth| [Death::Before(nth), Death::After(nth)]);
    for (nth, death) in (1..).zip(deaths) {
        life(nth, Some(death));
    }
}

fn an_event_that_cannot_be_handled_is_the_next_again(ground: &Ground) {
    let (mut writer, state) = (Writer::new(ground), ground.store());
    writer.append("collaboration.requested", "7 ada");
    writer.append("agent.joined", "7 nobody");
    let mut processes = open(&writer, Arc::clone(&writer.store) as _, Arc::clone(&state) as _);
    for _ in 0..2 {
        let refused = processes.step().unwrap_err();
        assert!(matches!(&refused, ProcessError::React { position, .. } if position.get() == 2), "{refused:?}");
    }
    assert_eq!(sent(&*writer.store), ["agent.invited ada"], "what was before it went out, once");
    drop(processes);
    let mut others = open(&writer, Arc::clone(&writer.store) as _, Arc::clone(&state) as _);
    assert_eq!(others.position().map(|position| position.get()), Some(1));
    others = others.pattern(Pattern::new("agent.invited").unwrap());
    assert_eq!(others.step().unwrap().handled, 0);

    writer.append("agent.joined", &format!("{} ada", "x".repeat(513)));
    let mut others = others.pattern(Pattern::new("agent.joined").unwrap());
    let refused = others.step().unwrap_err();
    assert!(matches!(refused, ProcessError::Name { bytes: 513, max: 512, .. }), "{refused:?}");
}

fn what_could_never_be_appended_is_not_kept(ground: &Ground) {
    let (mut writer, state) = (Writer::new(ground), ground.store());
    writer.append("agent.joined", "7 stranger");
    let mut processes = open(&writer, Arc::clone(&writer.store) as _, Arc::clone(&state) as _);
    let refused = processes.step().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the event at position 1 could not be handled: agent.invited would go out with another aggregate than its instance; leave it"
    );
    assert_eq!(state.list(StateKind::OUTBOX, &[], 1).unwrap().entries.len(), 0);
    assert!(processes.get("7").unwrap().is_none());
}
