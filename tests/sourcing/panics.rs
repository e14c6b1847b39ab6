//! A panic in any code that a user gives aggregates, stores, read models, process managers and sagas, at any call of it: whoever
//! called sees it, or is told of it as an error, and trying again comes to the end that it would have come to anyway.
//!
//! Each story runs once to count the calls, then once for each call of each kind, which panics there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ringmain::sourcing::{Outputs, Persist, ProcessManager, Processes, Projector, Reaction, ReadModel, View};
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, Lease, LeaseError, Page, Position, Query,
    ReadError, Snapshot, SnapshotError, StateChange, StateError, StateKind, StatePage, StateReadError, StateStore,
    StateValue, StoredEventRef, SyncError,
};
use ringmain::{Frame, Payload};

use crate::support::{Ground, Store, Writer};

mod aggregates;
mod sagas;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Counts calls by their kind, and panics at one of them.
#[derive(Default)]
struct Fuse {
    at: Option<(&'static str, u32)>,
    calls: BTreeMap<&'static str, u32>,
}

thread_local! {
    static FUSE: RefCell<Fuse> = RefCell::default();
}

/// User code of this kind runs.
fn call(kind: &'static str) {
    let blows = FUSE.with_borrow_mut(|fuse| {
        let nth = fuse.calls.entry(kind).or_default();
        *nth += 1;
        fuse.at == Some((kind, *nth))
    });
    assert!(!blows, "a panic that the test asks for, in {kind}");
}

/// The kind of call that has panicked.
fn blown() -> Option<&'static str> {
    FUSE.with_borrow(|fuse| fuse.at.filter(|(kind, nth)| fuse.calls.get(kind) >= Some(nth)).map(|(kind, _)| kind))
}

fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Calls once more if it panics: the test asks for one panic.
fn again<T>(mut call: impl FnMut() -> T) -> T {
    guarded(&mut call).unwrap_or_else(call)
}

/// Runs the story with a panic at each call. `kinds` are those that it must call, in alphabetical order.
fn at_every_call(kinds: &[&str], story: impl Fn()) {
    FUSE.take();
    story();
    let calls = FUSE.take().calls;
    assert_eq!(calls.keys().copied().collect::<Vec<_>>(), kinds);
    for (kind, nth) in calls.into_iter().flat_map(|(kind, count)| (1..=count).map(move |nth| (kind, nth))) {
        FUSE.set(Fuse { at: Some((kind, nth)), ..Fuse::default() });
        story();
        assert_eq!(blown(), Some(kind), "{kind} is called {nth} times");
    }
}

/// A user's stores, which panic before they have done what they are to do, or when it is done.
struct Given(Arc<dyn Store>);

impl Given {
    fn new(store: &Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(store)))
    }
}

impl EventStore for Given {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        call("append");
        let appended = self.0.append(events, expected, durability);
        call("appended");
        appended
    }

    fn sync(&self) -> Result<(), SyncError> {
        call("sync");
        self.0.sync()
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        call("query");
        self.0.query(query)
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        call("save_snapshot");
        self.0.save_snapshot(snapshot)
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        call("load_snapshot");
        self.0.load_snapshot(kind, id)
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        call("head");
        self.0.head()
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        call("wait_behind");
        self.0.wait_behind(position, limit)
    }

    fn durability(&self) -> Durability {
        call("durability");
        self.0.durability()
    }
}

impl StateStore for Given {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        call("keep");
        let kept = self.0.apply(changes, durability);
        call("kept");
        kept
    }

    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError> {
        call("get");
        self.0.get(kind, key)
    }

    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError> {
        call("list");
        self.0.list(kind, from, limit)
    }

    fn state_durability(&self) -> Durability {
        call("state_durability");
        self.0.state_durability()
    }

    fn lease(&self, name: &str) -> Result<Lease, LeaseError> {
        self.0.lease(name)
    }
}

/// A sum that is kept as bytes.
#[derive(Default)]
struct Sum(u64);

impl Persist for Sum {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        call("to_bytes");
        Ok(self.0.to_le_bytes().to_vec())
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        call("of_bytes");
        Ok(Self(u64::from_le_bytes(bytes.try_into()?)))
    }
}

fn number(event: &StoredEventRef<'_>) -> u64 {
    event.payload().text().and_then(|text| text.parse().ok()).expect("each event carries a number")
}

fn sum(event: &StoredEventRef<'_>, view: &mut View<'_>) -> Result<(), Cause> {
    let before = view.get(b"sum")?.map_or(Ok(0), |bytes| bytes[..].try_into().map(u64::from_le_bytes))?;
    view.put(b"sum", (before + number(event)).to_le_bytes());
    call("project");
    Ok(())
}

#[test]
fn a_read_model_counts_each_event_once() {
    let kinds = ["get", "head", "keep", "kept", "project", "query", "state_durability", "sync"];
    at_every_call(&kinds, || {
        let (mut writer, state) = (Writer::new(&Ground::Memory), Ground::Memory.store());
        let open = || Projector::live("sums", Given::new(&writer.store), Given::new(&state), sum).unwrap();
        let mut projector = again(open);
        for number in ["1", "2", "3"] {
            writer.append("a", number);
            writer.append("a", number);
            again(|| projector.step().unwrap());
        }
        let view = ReadModel::new("sums", state);
        let bytes = view.get(b"sum").unwrap().unwrap();
        assert_eq!(u64::from_le_bytes((*bytes).try_into().unwrap()), 12, "{:?}", blown());
        assert_eq!(view.position().unwrap(), Position::new(6));
    });
}

/// Sums numbers, and says at each seven where it is and that it ends. Of a six it says so without ending.
struct Summing;

impl ProcessManager for Summing {
    const NAME: &'static str = "summing";
    type State = Sum;

    fn correlate(&self, event: &StoredEventRef<'_>) -> Option<String> {
        call("correlate");
        Some("7".to_owned()).filter(|_| event.meta().topic() == "a")
    }

    fn react(&self, sum: &mut Sum, event: &StoredEventRef<'_>, out: &mut Outputs<'_>) -> Result<Reaction, Cause> {
        sum.0 += number(event);
        let mut tell = || {
            out.emit(|told| {
                call("emit");
                told.to_frame("sum.told", Payload::plain_text(&sum.0.to_string()))
            })
        };
        let reaction = match number(event) {
            6 => tell().map(|_| Reaction::Kept)?,
            7 => tell().and_then(|_| tell()).map(|_| Reaction::Ended)?,
            _ => Reaction::Kept,
        };
        call("react");
        Ok(reaction)
    }
}

#[test]
fn a_process_manager_handles_each_event_once_and_says_everything_once() {
    let kinds = [
        "append",
        "appended",
        "correlate",
        "durability",
        "emit",
        "get",
        "head",
        "keep",
        "kept",
        "list",
        "of_bytes",
        "query",
        "react",
        "state_durability",
        "sync",
        "to_bytes",
    ];
    at_every_call(&kinds, || {
        let (mut writer, state) = (Writer::new(&Ground::Memory), Ground::Memory.store());
        let publisher = || writer.publisher.try_clone().unwrap();
        let open = || Processes::open(Summing, Given::new(&writer.store), Given::new(&state), publisher()).unwrap();
        let mut processes = again(open);
        for number in ["1", "2", "6", "7", "1", "7"] {
            writer.append("a", number);
            again(|| processes.step().unwrap());
        }
        // What went out comes back, and is for nobody.
        again(|| processes.step().unwrap());
        let events = Query::new().aggregate("summing", "7").stream(&*writer.store);
        let told: Vec<_> = events.map(|event| number(&event.unwrap().view())).collect();
        assert_eq!(told, [9, 16, 16, 8, 8], "{:?}", blown());
        for kind in [StateKind::PROCESS, StateKind::OUTBOX] {
            assert_eq!(state.list(kind, &[], 1).unwrap().entries.len(), 0);
        }
    });
}
