//! Subscriptions of services: as they are declared, brought about on a bus, and changed while it runs.
//!
//! What stays the same is not touched, so no event of it is lost or comes twice. What is new begins before what is over ends.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::config::SubscriptionConfig;
use super::Service;
use super::guarded::guarded;
use crate::{
    Bus, DeliveryMode, Mailbox, Outcome, Overflow, Pattern, Payload, Priority, SubscribeError, SubscriptionId,
};

/// The topic of marks behind the events of subscriptions that end.
const MARK: &str = "ringmain.subscriptions.mark";
/// How long a mark is waited for.
const MARK_LIMIT: Duration = Duration::from_secs(5);

/// A subscription that is wanted: events of a pattern go to a service.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionWish {
    /// Which events.
    pub pattern: Pattern,
    /// The name of the service.
    pub service: String,
    /// How hard it is tried. The time of an attempt is also that of a call of the service.
    pub mode: DeliveryMode,
    /// Events that may wait. One that finds no room becomes a dead letter under reliable delivery, and is dropped and counted otherwise:
    /// nobody else waits for the service.
    pub capacity: usize,
}

impl SubscriptionWish {
    /// What is declared, a wish for each handler, none of them twice. A call may take `limit`.
    pub fn of(declared: &[SubscriptionConfig], limit: Duration) -> Vec<Self> {
        let mut wishes: Vec<Self> = Vec::new();
        for config in declared {
            for service in &config.handlers {
                let mode = match config.mode {
                    DeliveryMode::Reliable { .. } => DeliveryMode::Reliable { timeout: limit },
                    mode => mode,
                };
                let pattern = config.event_type.clone();
                let wish = Self { pattern, service: service.clone(), mode, capacity: config.capacity };
                if !wishes.contains(&wish) {
                    wishes.push(wish);
                }
            }
        }
        wishes
    }

    /// What it is called on the bus: `audit_logger: *.created`.
    pub fn name(&self) -> String {
        format!("{}: {}", self.service, self.pattern.as_str())
    }
}

/// Why wishes were not fulfilled. All subscriptions are as they were.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SubscriptionsError {
    /// There is no such service.
    Unknown {
        /// What is wanted.
        wish: SubscriptionWish,
    },
    /// The service takes no events.
    TakesNone {
        /// What is wanted.
        wish: SubscriptionWish,
    },
    /// The bus refused.
    Subscribe {
        /// What is wanted.
        wish: SubscriptionWish,
        /// Why.
        error: SubscribeError,
    },
}

impl fmt::Display for SubscriptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { wish } => {
                write!(f, "{} names the service {:?}, which there is not; register it first", wish.name(), wish.service)
            }
            Self::TakesNone { wish } => write!(f, "{} names {}, which takes no events", wish.name(), wish.service),
            Self::Subscribe { wish, error } => write!(f, "{}: {error}", wish.name()),
        }
    }
}

impl Error for SubscriptionsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Subscribe { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What is different now.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// Subscriptions that began.
    pub begun: Vec<SubscriptionWish>,
    /// Subscriptions that ended. What they had in their mailboxes is still handled, once their service runs.
    pub ended: Vec<SubscriptionWish>,
    /// How many stay as they were.
    pub kept: usize,
}

/// The subscriptions of services on a bus. Dropped, they end, and what waits is given up; see [`end`](Self::end).
#[derive(Debug)]
pub struct Subscriptions {
    bus: Bus,
    /// How long a call may take where the mode has no time.
    limit: Duration,
    observer: Option<Observer>,
    served: Vec<Served>,
    /// Those that ended and still have something.
    ending: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    wish: SubscriptionWish,
    id: SubscriptionId,
    /// Whether it hands events out. A mailbox that is closed would give them to whoever asks, paused or not.
    hands_out: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Subscriptions {
    /// None yet. A call of a service may take `limit`.
    pub fn new(bus: &Bus, limit: Duration) -> Self {
        Self { bus: bus.clone(), limit, observer: None, served: Vec::new(), ending: Vec::new() }
    }

    /// Has a function hear of each event that a service handles from now on: its type, the name of the service, whether it went well, and
    /// how long it took. Of events that are handled together each took its share.
    #[must_use]
    pub fn observed(mut self, observer: impl Fn(&str, &str, bool, Duration) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// What there is.
    pub fn list(&self) -> impl Iterator<Item = (&SubscriptionWish, SubscriptionId)> {
        self.served.iter().map(|served| (&served.wish, served.id))
    }

    /// Brings about what is wanted, all of it or nothing. What was wanted before in the same words goes on untouched; what is wanted in
    /// other words begins anew before the old one ends, so that an event in between may come twice and none is lost: a subscription that
    /// ends has what was published before; what comes while it ends is, under reliable delivery, a dead letter of it.
    ///
    /// # Errors
    /// See [`SubscriptionsError`].
    pub async fn apply(
        &mut self,
        wanted: &[SubscriptionWish],
        service: impl Fn(&str) -> Option<Arc<dyn Service>>,
    ) -> Result<Applied, SubscriptionsError> {
        let is_there = |wish: &SubscriptionWish| self.served.iter().any(|served| served.wish == *wish);
        let mut begun: Vec<Served> = Vec::new();
        for wish in wanted.iter().filter(|wish| !is_there(wish)) {
            if begun.iter().any(|served| served.wish == *wish) {
                continue;
            }
            let found = service(&wish.service).ok_or_else(|| SubscriptionsError::Unknown { wish: wish.clone() });
            match found.and_then(|service| self.begin(wish, service)) {
                Ok(served) => begun.push(served),
                Err(error) => {
                    self.close(begun, Instant::now() + MARK_LIMIT).await;
                    return Err(error);
                }
            }
        }
        let (kept, over) = mem::take(&mut self.served).into_iter().partition(|served| wanted.contains(&served.wish));
        self.served = kept;
        let kept = self.served.len();
        let wishes = |served: &[Served]| served.iter().map(|served| served.wish.clone()).collect();
        let applied = Applied { begun: wishes(&begun), ended: wishes(&over), kept };
        self.served.extend(begun);
        self.close(over, Instant::now() + MARK_LIMIT).await;
        Ok(applied)
    }

    fn begin(&self, wish: &SubscriptionWish, service: Arc<dyn Service>) -> Result<Served, SubscriptionsError> {
        let events_max = service.events_max();
        if events_max == 0 {
            return Err(SubscriptionsError::TakesNone { wish: wish.clone() });
        }
        let limit = match wish.mode {
            DeliveryMode::Reliable { timeout } if timeout < Duration::MAX => timeout,
            _ => self.limit,
        };
        let subscribe = self.bus.subscribe(wish.pattern.clone()).named(wish.name()).capacity(wish.capacity);
        let subscribe = match wish.mode {
            // A newer event takes the place of an older one; there is nothing to drop.
            DeliveryMode::LatestOnly => subscribe.mode(wish.mode),
            mode => subscribe.mode(mode).overflow(Overflow::DropNewest),
        };
        let mailbox = subscribe.handler_id(wish.service.as_str()).mailbox();
        let mailbox = mailbox.map_err(|error| SubscriptionsError::Subscribe { wish: wish.clone(), error })?;
        let (id, hands_out) = (mailbox.id(), watch::Sender::new(true));
        let task =
            tokio::spawn(serve(mailbox, service, events_max, limit, hands_out.subscribe(), self.observer.clone()));
        Ok(Served { wish: wish.clone(), id, hands_out, task })
    }

    /// Whether its events wait: its service does not run, or somebody has paused or suspended it.
    fn is_paused(&self, served: &Served) -> bool {
        self.bus.subscription(served.id).is_ok_and(|record| record.is_paused)
    }

    /// Ends subscriptions; what was published before is handled in their tasks, by those that are not paused at once.
    async fn close(&mut self, over: Vec<Served>, until: Instant) {
        self.ending.retain(|served| !served.task.is_finished());
        if over.is_empty() {
            return;
        }
        for served in over.iter().filter(|served| self.is_paused(served)) {
            served.hands_out.send_replace(false);
        }
        let bus = self.bus.clone();
        let ids: Vec<_> = over.iter().map(|served| served.id).collect();
        let closed = tokio::task::spawn_blocking(move || {
            let workers: BTreeSet<_> = ids.iter().filter_map(|id| Some(bus.subscription(*id).ok()?.worker)).collect();
            workers.into_iter().for_each(|worker| _ = pass(&bus, worker, until));
            // One that is gone already is over as well.
            ids.into_iter().for_each(|id| drop(bus.unsubscribe(id)));
        });
        drop(closed.await);
        self.ending.extend(over);
    }

    /// A service runs, or no longer: while it does not, its events wait in their mailboxes, also in those of subscriptions that have
    /// ended.
    pub fn set_running(&self, service: &str, runs: bool) {
        for served in self.served.iter().chain(&self.ending).filter(|served| served.wish.service == service) {
            served.hands_out.send_replace(runs);
            // One that has ended is gone from the bus.
            drop(if runs { self.bus.resume(served.id) } else { self.bus.pause(served.id) });
        }
    }

    /// Ends them and waits until what they had is handled, at most for `limit`. Returns how many had more to do. Those that are paused,
    /// as of a service that does not run, stay with what waits in them: nobody has handled it, and what came out of a store comes again.
    /// What waits for such a service in a subscription that has ended before is given up: under reliable delivery, dead letters.
    pub async fn end(&mut self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
        let (held, over) = mem::take(&mut self.served).into_iter().partition(|served| self.is_paused(served));
        self.served = held;
        self.close(over, until).await;
        let mut left = 0;
        for Served { hands_out, mut task, .. } in mem::take(&mut self.ending) {
            if !*hands_out.borrow() {
                task.abort();
                // Gone with its mailbox.
                drop(task.await);
            } else if tokio::time::timeout_at(until.into(), &mut task).await.is_err() {
                task.abort();
                left += 1;
            }
        }
        left
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.served.iter().chain(&self.ending).for_each(|served| served.task.abort());
    }
}

/// Waits until a worker has put what is in the lanes into the mailboxes of its subscriptions: a mark in each lane comes behind it. `None`
/// where that takes too long, or the bus takes no marks.
fn pass(bus: &Bus, worker: usize, until: Instant) -> Option<()> {
    let left = || until.saturating_duration_since(Instant::now());
    let mut marks = bus.subscribe(MARK).named("end of subscriptions").on_worker(worker).mailbox().ok()?;
    let mut publisher = bus.publisher().ok()?;
    for priority in Priority::ALL {
        let mark = publisher.event().source("ringmain").priority(priority);
        mark.publish_deadline(MARK, Payload::raw(&[]), left()).ok()?;
    }
    for _ in Priority::ALL {
        marks.recv_deadline(left()).ok()?;
    }
    Some(())
}

/// A type of event, the service that has handled one, whether it went well, and how long it took.
type Hears = dyn Fn(&str, &str, bool, Duration) + Send + Sync;

/// Hears of what services handle.
#[derive(Clone)]
struct Observer(Arc<Hears>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Hands events to a service, while it may, until the subscription is over and its mailbox empty.
async fn serve(
    mut mailbox: Mailbox<Pattern>,
    service: Arc<dyn Service>,
    events_max: usize,
    limit: Duration,
    mut hands_out: watch::Receiver<bool>,
    observer: Option<Observer>,
) {
    // Its end is that of the subscriptions.
    while hands_out.wait_for(|hands_out| *hands_out).await.is_ok() {
        let first = tokio::select! {
            biased;
            _ = hands_out.wait_for(|hands_out| !*hands_out) => continue,
            first = mailbox.recv_async() => first,
        };
        let Ok(first) = first else { return };
        let mut events = vec![first];
        while events.len() < events_max
            && let Ok(next) = mailbox.try_recv()
        {
            events.push(next);
        }
        let begun = Instant::now();
        let outcome = guarded(limit, || service.handle(&events)).await.unwrap_or_else(Outcome::Failed);
        let took = begun.elapsed() / u32::try_from(events.len()).unwrap_or(u32::MAX);
        for event in events {
            if let Some(Observer(observer)) = &observer {
                observer(event.meta().topic(), service.name(), outcome == Outcome::Ack, took);
            }
            event.settle(&outcome);
        }
    }
}
