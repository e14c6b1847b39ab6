//! Stores in memory whose appends, queries and changes of state go as a test says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringmain::Frame;
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, MemoryStore, Page, Query, ReadError, StateChange,
    StateError, StateKind, StateStore,
};

use crate::delegated::delegated;

/// What comes of an append.
pub(crate) enum Reply {
    Take,
    /// The store has the events, and says this.
    TakeAndSay(AppendError),
    /// The store has the events, and panics.
    TakeAndPanic,
    Say(AppendError),
}

type OnAppend = Box<dyn Fn(u64, &[Frame]) -> Reply + Send + Sync>;
type OnQuery = Box<dyn Fn(&MemoryStore, &Query, Page) -> Result<Page, ReadError> + Send + Sync>;

pub(crate) struct Moody {
    pub(crate) store: MemoryStore,
    appends: AtomicU64,
    on_append: OnAppend,
    on_query: OnQuery,
}

impl Moody {
    /// Is told the number of each append, from 1, and its events.
    pub(crate) fn new(on_append: impl Fn(u64, &[Frame]) -> Reply + Send + Sync + 'static) -> Self {
        let store = MemoryStore::new().pretending(Durability::Written);
        let on_query = Box::new(|_: &MemoryStore, _: &Query, page| Ok(page));
        Self { store, appends: AtomicU64::new(0), on_append: Box::new(on_append), on_query }
    }

    /// Changes what each query finds.
    pub(crate) fn reading(
        self,
        on_query: impl Fn(&MemoryStore, &Query, Page) -> Result<Page, ReadError> + Send + Sync + 'static,
    ) -> Self {
        Self { on_query: Box::new(on_query), ..self }
    }
}

impl EventStore for Moody {
    fn append(&self, events: &[Frame], expected: ExpectedVersion, word: Durability) -> Result<Appended, AppendError> {
        match (self.on_append)(self.appends.fetch_add(1, Ordering::Relaxed) + 1, events) {
            Reply::Take => self.store.append(events, expected, word),
            Reply::TakeAndSay(error) => self.store.append(events, expected, word).and(Err(error)),
            Reply::TakeAndPanic => {
                self.store.append(events, expected, word)?;
                panic!("a panic that the test asks for");
            }
            Reply::Say(error) => Err(error),
        }
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let page = self.store.query(query)?;
        (self.on_query)(&self.store, query, page)
    }

    delegated!(store: sync, save_snapshot, load_snapshot, keep_history, head, wait_behind, durability);
}

type OnLetter = Box<dyn Fn(u64) -> StateError + Send + Sync>;

/// A store of state that takes no dead letter until it is told to.
pub(crate) struct Refusing {
    store: MemoryStore,
    takes: AtomicBool,
    tries: Mutex<u64>,
    on_letter: OnLetter,
}

impl Refusing {
    /// Says, of each try from the first on, why not.
    pub(crate) fn new(on_letter: impl Fn(u64) -> StateError + Send + Sync + 'static) -> Self {
        let (takes, tries) = (AtomicBool::new(false), Mutex::new(0));
        Self { store: MemoryStore::new(), takes, tries, on_letter: Box::new(on_letter) }
    }

    pub(crate) fn take(&self) {
        self.takes.store(true, Ordering::Release);
    }
}

impl StateStore for Refusing {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        let is_letter = changes.iter().any(|change| change.kind() == StateKind::DEAD_LETTER);
        if is_letter && !self.takes.load(Ordering::Acquire) {
            let mut tries = self.tries.lock().unwrap();
            *tries += 1;
            return Err((self.on_letter)(*tries));
        }
        self.store.apply(changes, durability)
    }

    delegated!(store: get, list, state_durability, lease);
}
