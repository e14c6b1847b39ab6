//! Subscriptions that are stored, and made again at the next start.
//!
//! ```text
//!   add ──► subscribed, then stored          StateStore:  name ──► id, pattern, policies, filter and conditions, handler's name
//!   remove ──► forgotten, then unsubscribed                                │
//!                                                                         ▼ the next start
//!   handler("charge", …) ──────────────────────────────────────────► restore ──► subscribed under the same name and id
//!                                                                         └────► or said why not, and kept
//! ```

mod error;
mod record;
mod wish;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Bus, EventId, Pattern, Subscribe, SubscribeError, Subscription, SubscriptionId};

use super::state::STATE_PAGE_MAX;
use super::{DurableSubscription, EventStore, Leased, Query, StateChange, StateKind, StateStore};

pub use error::StoredSubscriptionsError;
pub use wish::StoredSubscription;

/// Bytes that names may have.
const NAME_BYTES_MAX: usize = 255;

type Read<T> = Result<T, StoredSubscriptionsError>;
/// Ends a subscription under way with a handler.
type Attach = dyn Fn(Subscribe<Pattern>) -> Result<Subscription, SubscribeError> + Send + Sync;
/// Takes a durable subscription.
type Take = dyn Fn(DurableSubscription) + Send + Sync;

/// The subscriptions of a program, as they are stored. One at a time for a name, in whichever process.
///
/// What is [added](Self::add) is subscribed, and stored as data; the code that handles it goes by a name. The next process gives the
/// handlers and calls [`restore`](Self::restore): each subscription is there again, under its name and its id, a durable one behind what was
/// acknowledged. What cannot be restored is said and stays stored. Subscriptions end with this, and stay stored; only
/// [`remove`](Self::remove) forgets one.
///
/// ```
/// use ringmain::store::{MemoryStore, StoredSubscription, StoredSubscriptions};
/// use ringmain::{Bus, Condition, Payload};
/// use std::sync::Arc;
///
/// fn open(bus: &Bus, state: Arc<MemoryStore>) -> Result<StoredSubscriptions, Box<dyn std::error::Error>> {
///     let stored = StoredSubscriptions::open("shop", bus, state)?
///         .handler("charge", |wish| wish.handle(|payload, _| println!("charging {:?}", payload.text())));
///     for one in stored.restore()? {
///         if let Err(error) = &one.outcome {
///             eprintln!("{} is not restored: {error}", one.name);
///         }
///     }
///     Ok(stored)
/// }
///
/// let state = Arc::new(MemoryStore::new()); // One that lasts: a `LogStore`.
/// let bus = Bus::builder().build()?;
/// let stored = open(&bus, state.clone())?;
/// let german = Condition::metadata("country").equals("de");
/// let id = stored.add(StoredSubscription::new("billing", "orders.*", "charge").when(german))?;
/// drop(stored); // The process ends, and another begins.
/// bus.shutdown()?;
///
/// let bus = Bus::builder().build()?;
/// let stored = open(&bus, state)?;
/// assert_eq!(bus.subscription(id)?.name, "billing");
/// # drop(stored);
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StoredSubscriptions {
    bus: Bus,
    state: Arc<Leased>,
    prefix: Vec<u8>,
    handlers: HashMap<String, Handler>,
    /// What is there, by name. Held while one comes or goes.
    there: Mutex<BTreeMap<String, There>>,
}

enum Handler {
    OfBus(Box<Attach>),
    Durable { events: Arc<dyn EventStore>, take: Box<Take> },
}

/// A subscription that is stored and made.
struct There {
    id: SubscriptionId,
    /// Ends with it; a durable one is its handler's.
    _subscription: Option<Subscription>,
}

/// A stored subscription as it is read.
struct Stored {
    name: String,
    value: Read<(StoredSubscription, SubscriptionId)>,
}

/// What came of a stored subscription.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// Its name.
    pub name: String,
    /// Its id, or why it is not there.
    pub outcome: Result<SubscriptionId, StoredSubscriptionsError>,
}

impl StoredSubscriptions {
    /// The subscriptions stored under a name, 1 to 255 bytes. None is made yet: give handlers, then [`restore`](Self::restore).
    ///
    /// # Errors
    /// When the name is empty or too long, or somebody has it.
    pub fn open(name: &str, bus: &Bus, state: Arc<dyn StateStore>) -> Result<Self, StoredSubscriptionsError> {
        check_name(name)?;
        let state = Leased::take(state, &format!("stored subscriptions {name:?}"));
        let state = state.map_err(StoredSubscriptionsError::Lease)?;
        let prefix = [&[name.len() as u8], name.as_bytes()].concat();
        let (handlers, there) = Default::default();
        Ok(Self { bus: bus.clone(), state, prefix, handlers, there })
    }

    /// Gives a handler: `attach` ends a subscription with it, as `wish.handle(…)` or `wish.handle_on(…)`. It is called for each
    /// subscription that names it.
    #[must_use]
    pub fn handler(
        mut self,
        name: impl Into<String>,
        attach: impl Fn(Subscribe<Pattern>) -> Result<Subscription, SubscribeError> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(name.into(), Handler::OfBus(Box::new(attach)));
        self
    }

    /// Gives who handles durable subscriptions to the events of a store: `take` takes each that names it, to pull from on a thread
    /// of its own.
    #[must_use]
    pub fn durable_handler(
        mut self,
        name: impl Into<String>,
        events: Arc<dyn EventStore>,
        take: impl Fn(DurableSubscription) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(name.into(), Handler::Durable { events, take: Box::new(take) });
        self
    }

    /// Subscribes, and stores that, as durably as the store can. Returns its id, which it keeps.
    ///
    /// # Errors
    /// See [`StoredSubscriptionsError`]. What is not stored is not subscribed to; it may have been given events.
    pub fn add(&self, wish: StoredSubscription) -> Result<SubscriptionId, StoredSubscriptionsError> {
        check_name(&wish.name)?;
        let mut there = self.there();
        let key = self.key(&wish.name);
        let stored = self.state.get(StateKind::SUBSCRIPTION, &key).map_err(StoredSubscriptionsError::Read)?;
        if stored.is_some() || there.contains_key(&wish.name) {
            return Err(StoredSubscriptionsError::Exists { name: wish.name });
        }
        let id = SubscriptionId::from(EventId::random());
        let value = record::write(&wish, id)?;
        let made = self.make(&wish, id)?;
        let put = StateChange::Put { kind: StateKind::SUBSCRIPTION, key: &key, value: &value };
        self.state.apply(&[put], self.state.state_durability()).map_err(StoredSubscriptionsError::Change)?;
        there.insert(wish.name, made.hand_over(id));
        Ok(id)
    }

    /// Forgets a subscription, and ends it; a durable one is ended by its handler, and its cursor stays. Says whether it was there.
    ///
    /// # Errors
    /// When the store does not forget it: it stays.
    pub fn remove(&self, name: &str) -> Result<bool, StoredSubscriptionsError> {
        let mut there = self.there();
        let key = self.key(name);
        let stored = self.state.get(StateKind::SUBSCRIPTION, &key).map_err(StoredSubscriptionsError::Read)?;
        let remove = StateChange::Remove { kind: StateKind::SUBSCRIPTION, key: &key };
        self.state.apply(&[remove], self.state.state_durability()).map_err(StoredSubscriptionsError::Change)?;
        let was_there = there.remove(name);
        Ok(stored.is_some() || was_there.is_some())
    }

    /// Makes all that is stored and not there yet. Says of each what came of it, in the order of names: what cannot be made stays stored,
    /// and is tried again by the next call.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn restore(&self) -> Result<Vec<Restored>, StoredSubscriptionsError> {
        let mut there = self.there();
        let mut restored = Vec::new();
        for Stored { name, value } in self.stored()? {
            let outcome = match there.get(&name) {
                Some(there) => Ok(there.id),
                None => value.and_then(|(wish, id)| {
                    let made = self.make(&wish, id)?;
                    there.insert(name.clone(), made.hand_over(id));
                    Ok(id)
                }),
            };
            restored.push(Restored { name, outcome });
        }
        Ok(restored)
    }

    /// What is stored, in the order of names, whether it is there or not; [`StoredSubscriptionsError::Record`] for what cannot be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Read<Vec<(String, Read<StoredSubscription>)>> {
        Ok(self.stored()?.into_iter().map(|Stored { name, value }| (name, value.map(|(wish, _)| wish))).collect())
    }

    fn there(&self) -> MutexGuard<'_, BTreeMap<String, There>> {
        // A handler that panics when it is attached has left nothing half done.
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> Vec<u8> {
        [&*self.prefix, name.as_bytes()].concat()
    }

    fn stored(&self) -> Read<Vec<Stored>> {
        let (mut stored, mut from) = (Vec::new(), Some(self.prefix.clone()));
        while let Some(at) = from.take() {
            let page = self.state.list(StateKind::SUBSCRIPTION, &at, STATE_PAGE_MAX);
            let page = page.map_err(StoredSubscriptionsError::Read)?;
            from = page.next.map(Vec::from);
            for (key, value) in &page.entries {
                let Some(name) = key.strip_prefix(&*self.prefix) else {
                    from = None;
                    break;
                };
                let name = String::from_utf8_lossy(name).into_owned();
                stored.push(Stored { name, value: record::read(value).ok_or(StoredSubscriptionsError::Record) });
            }
        }
        Ok(stored)
    }

    /// Makes a subscription.
    fn make(&self, wish: &StoredSubscription, id: SubscriptionId) -> Result<Made<'_>, StoredSubscriptionsError> {
        if let Some(setting) = wish.misplaced() {
            return Err(StoredSubscriptionsError::Durable { setting });
        }
        match (self.handlers.get(&wish.handler), wish.is_durable) {
            (Some(Handler::OfBus(attach)), false) => {
                let made = attach(wish.begin(&self.bus, id)?);
                made.map(Made::OfBus).map_err(StoredSubscriptionsError::Subscribe)
            }
            (Some(Handler::Durable { events, take }), true) => {
                let pattern = Pattern::new(&wish.pattern).map_err(SubscribeError::Pattern);
                let query = Query::new().pattern(pattern.map_err(StoredSubscriptionsError::Subscribe)?);
                let (events, state) = (Arc::clone(events), Arc::clone(self.state.store()));
                let opened = DurableSubscription::builder(events, state, wish.name.as_str()).query(query).open();
                Ok(Made::Durable(Box::new(opened.map_err(StoredSubscriptionsError::Open)?), take))
            }
            _ => Err(StoredSubscriptionsError::NoHandler { handler: wish.handler.clone() }),
        }
    }
}

/// A subscription that is made.
enum Made<'h> {
    OfBus(Subscription),
    /// Its handler takes it when it is stored.
    Durable(Box<DurableSubscription>, &'h Take),
}

impl Made<'_> {
    fn hand_over(self, id: SubscriptionId) -> There {
        match self {
            Self::OfBus(subscription) => There { id, _subscription: Some(subscription) },
            Self::Durable(subscription, take) => {
                take(*subscription);
                There { id, _subscription: None }
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), StoredSubscriptionsError> {
    let (bytes, max) = (name.len(), NAME_BYTES_MAX);
    if bytes == 0 || bytes > max { Err(StoredSubscriptionsError::Name { bytes, max }) } else { Ok(()) }
}

impl fmt::Debug for StoredSubscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSubscriptions").field("state", &self.state).finish_non_exhaustive()
    }
}
