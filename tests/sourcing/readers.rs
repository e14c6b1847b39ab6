//! Relays, read models and process managers over a store that lost events, or is not theirs: they say so, and pass over nothing unless
//! they are told to.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringmain::sourcing::{
    Outputs, Persist, ProcessError, ProcessManager, Processes, ProjectionError, Projector, Reaction, ReadModel, Relay,
    RelayError, View,
};
use ringmain::store::{
    Bookmark, Durability, EventStore, ExpectedVersion, LogStore, MemoryStore, Position, ReadError, Retention,
    StoredEventRef,
};
use ringmain::testing::Simulation;
use ringmain::{Bus, Payload, Publisher};

use super::folder::Folder;
use crate::books::assert_books;

type Cause = Box<dyn std::error::Error + Send + Sync>;

const EVENTS: u64 = 300;
/// Removes all but the newest segment, as far as nobody is waited for.
const ALL: Retention = Retention::forever().remove_after(Duration::ZERO);

/// A bus, a publisher, and a store of many segments.
struct Setting {
    bus: Simulation,
    publisher: Publisher,
    store: Arc<LogStore>,
    _folder: Folder,
}

impl Setting {
    fn new(name: &str) -> Self {
        let bus = Simulation::new(Bus::builder().workers(1).max_queue_size(1_024), 1).unwrap();
        let mut publisher = bus.bus().publisher().unwrap();
        let folder = Folder::new(name);
        let builder = LogStore::builder(&folder.0).segment_bytes(8_192).event_bytes_max(3_000);
        let builder = builder.state_batch_bytes_max(2 << 20).snapshot_state_bytes_max(64 << 10);
        let store = Arc::new(builder.open().unwrap());
        fill(&*store, &mut publisher);
        Self { bus, publisher, store, _folder: folder }
    }

    fn first(&self) -> u64 {
        self.store.first().unwrap().unwrap().get()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_books(self.bus.bus());
        }
    }
}

fn fill(store: &dyn EventStore, publisher: &mut Publisher) {
    for number in 1..=EVENTS {
        let frame = publisher.event().to_frame("a", Payload::plain_text(&number.to_string())).unwrap();
        store.append(&[frame], ExpectedVersion::Any, Durability::Accepted).unwrap();
    }
}

fn removed(error: &ReadError) -> (u64, u64) {
    let ReadError::Removed { from, first } = error else { panic!("{error}") };
    (from.get(), first.get() - 1)
}

/// Counts events.
fn count(_: &StoredEventRef<'_>, view: &mut View<'_>) -> Result<(), Cause> {
    let before = view.get(b"count")?.map_or(0, |bytes| u64::from(bytes[0]) + 256 * u64::from(bytes[1]));
    view.put(b"count", ((before + 1) as u16).to_le_bytes());
    Ok(())
}

#[derive(Default)]
struct Tally(u64);

impl Persist for Tally {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.0.to_le_bytes().to_vec())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(Self(u64::from_le_bytes(bytes.try_into()?)))
    }
}

struct Counting;

impl ProcessManager for Counting {
    const NAME: &'static str = "counting";
    type State = Tally;

    fn correlate(&self, _: &StoredEventRef<'_>) -> Option<String> {
        Some("all".to_owned())
    }

    fn react(&self, tally: &mut Tally, _: &StoredEventRef<'_>, _: &mut Outputs<'_>) -> Result<Reaction, Cause> {
        tally.0 += 1;
        Ok(Reaction::Kept)
    }
}

#[test]
fn a_read_model_of_a_store_that_lost_events_is_not_made_in_silence() {
    let setting = Setting::new("projection-removed");
    let state = Arc::new(MemoryStore::new());
    let open = |name| Projector::live(name, setting.store.clone(), state.clone(), count).unwrap();
    let mut begun = open("begun");
    assert_eq!(begun.step().unwrap().events, 256);
    setting.store.keep(ALL).unwrap();
    let first = setting.first();
    assert!(first > 258);
    // One that has read part of it, and one that begins.
    for (mut projector, from) in [(begun, 257), (open("new"), 1)] {
        for _ in 0..2 {
            let ProjectionError::Read(error) = projector.step().unwrap_err() else { panic!("another error") };
            assert_eq!(removed(&error), (from, first - 1));
        }
        let mut projector = projector.skip_missing();
        let step = projector.step().unwrap();
        assert_eq!((step.missing, step.has_more), (first - from, true));
        assert_eq!(projector.step().unwrap().events as u64, EVENTS + 1 - first);
        assert_eq!(projector.progress().unwrap().behind(), 0);
    }
}

#[test]
fn retention_waits_for_a_read_model_in_the_same_store() {
    let setting = Setting::new("projection-waits");
    let mut projector = Projector::live("count", setting.store.clone(), setting.store.clone(), count).unwrap();
    projector.step().unwrap();
    let done = setting.store.keep(ALL).unwrap();
    assert!(done.held_segments > 0 && done.removed_segments > 0, "{done:?}");
    assert_eq!(done.held_at, Position::new(256));
    assert_eq!(projector.step().unwrap().events as u64, EVENTS - 256);
    assert_eq!(setting.store.keep(ALL).unwrap().held_segments, 0);
    let view = ReadModel::new("count", setting.store.clone());
    assert_eq!(&*view.get(b"count").unwrap().unwrap(), (EVENTS as u16).to_le_bytes());
}

#[test]
fn a_process_manager_says_what_it_could_not_read() {
    let setting = Setting::new("process-removed");
    let state = Arc::new(MemoryStore::new());
    let open = || {
        let publisher = setting.publisher.try_clone().unwrap();
        Processes::open(Counting, setting.store.clone(), state.clone(), publisher).unwrap()
    };
    assert_eq!(open().step().unwrap().handled, 256);
    setting.store.keep(ALL).unwrap();
    let first = setting.first();
    let ProcessError::Read(error) = open().step().unwrap_err() else { panic!("another error") };
    assert_eq!(removed(&error), (257, first - 1));
    let mut processes = open().skip_missing();
    assert_eq!(processes.step().unwrap().missing, first - 257);
    assert_eq!(processes.step().unwrap().handled as u64, EVENTS + 1 - first);
}

#[test]
fn a_relay_says_what_it_could_not_read() {
    let setting = Setting::new("relay-removed");
    setting.store.keep(ALL).unwrap();
    let first = setting.first();
    let publisher = || setting.publisher.try_clone().unwrap();
    let mut relay = Relay::new(setting.store.clone(), publisher(), Bookmark::START);
    let RelayError::Read(error) = relay.step().unwrap_err() else { panic!("another error") };
    assert_eq!(removed(&error), (1, first - 1));
    let mut relay = relay.skip_missing();
    let step = relay.step().unwrap();
    assert_eq!((step.published, step.missing, step.has_more), (0, first - 1, true));
    assert_eq!(relay.step().unwrap().published as u64, EVENTS + 1 - first);
    setting.bus.run();
}

#[test]
fn nobody_goes_on_in_another_store() {
    let mut setting = Setting::new("another-store");
    let another = Arc::new(MemoryStore::new());
    fill(&*another, &mut setting.publisher);
    let shorter = Arc::new(MemoryStore::new());
    let state = Arc::new(MemoryStore::new());
    let publisher = || setting.publisher.try_clone().unwrap();
    Projector::live("count", setting.store.clone(), state.clone(), count).unwrap().step().unwrap();
    Processes::open(Counting, setting.store.clone(), state.clone(), publisher()).unwrap().step().unwrap();
    let mut relay = Relay::new(setting.store.clone(), publisher(), Bookmark::START);
    relay.step().unwrap();
    for (store, has_another) in [(another, true), (shorter, false)] {
        let diverged = |error: &ReadError| {
            let ReadError::Diverged { found, .. } = error else { panic!("{error}") };
            assert_eq!(found.is_some(), has_another);
        };
        let mut projector = Projector::live("count", store.clone(), state.clone(), count).unwrap();
        let ProjectionError::Read(error) = projector.step().unwrap_err() else { panic!("another error") };
        diverged(&error);
        let mut processes = Processes::open(Counting, store.clone(), state.clone(), publisher()).unwrap();
        let ProcessError::Read(error) = processes.step().unwrap_err() else { panic!("another error") };
        diverged(&error);
        let mut relay = Relay::new(store, publisher(), relay.bookmark());
        let RelayError::Read(error) = relay.step().unwrap_err() else { panic!("another error") };
        diverged(&error);
    }
    setting.bus.run();
}
