//! Making a subscription: its memory, its state, its place in the table.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};

use crate::delivery::{
    CallTimer, Consumer, DeadReason, Dedup, DeliveryMode, Desk, Dispatch, Farewell, Fed, Guard, HandlerId, Interest,
    KEYS_MAX, Live, Mailbox, MailboxShared, Notice, OverLimit, REDRIVEN_MAX, Reliable, Role, Rota, Seat, Sink, Spill,
    SpillShared, State, SubscriptionId, SubscriptionState, Takes, Timed, WorkerCounts,
};
use crate::event::{EventId, KnownAs};
use crate::ring::{Attempts, Custody, DrainOrder};
use crate::routing::{CompiledFilter, Pattern};
use crate::sync::alarm::NEVER;
use crate::sync::bell::Bell;
use crate::sync::contain::Kept;
use crate::sync::limiter::Limiter;
use crate::sync::owned::OwnedCell;
use crate::sync::primitive::{ArrayQueue, AtomicU32, Ordering};
use crate::sync::transit::Transit;
use crate::worker::Phase;

use super::super::Shared;
use super::super::mailbox_memory::{MailboxMemory, Wish, buffer};
use super::super::service_error::ServiceError;
use super::super::subscribe_error::SubscribeError;
use super::super::subscription::Subscription;
use super::{MAILBOX_MAX, Part, Subscribe};

/// Keys of which events wait, unless the subscriber says how many.
const KEYS: usize = 1_024;

/// Who consumes a mailbox.
enum Who {
    /// Its worker.
    Worker(Takes),
    Elsewhere(Puller),
}

/// Who takes events from a mailbox elsewhere.
pub(super) enum Puller {
    /// A handler, on a thread or in a future. Its calls have a time.
    Handler,
    /// Whoever has it.
    Anybody,
}

impl From<Takes> for Who {
    fn from(takes: Takes) -> Self {
        Self::Worker(takes)
    }
}

impl From<Puller> for Who {
    fn from(puller: Puller) -> Self {
        Self::Elsewhere(puller)
    }
}

impl<I: Interest> Subscribe<I> {
    pub(super) fn inline(
        self,
        handler_id: HandlerId,
        make: impl FnOnce(KnownAs) -> Box<dyn Dispatch>,
    ) -> Result<Subscription, SubscribeError> {
        let (pattern, known_as) = self.check()?;
        let handler = Kept::new(make(known_as));
        let shared = Arc::clone(&self.shared);
        let made = match self.mode {
            DeliveryMode::BestEffort if matches!(self.part, Part::Instance { .. }) => {
                let setting = "inline handler without a mailbox, as reliable delivery gives it";
                return Err(SubscribeError::Service(ServiceError::Setting { setting, of_instance: true }));
            }
            DeliveryMode::BestEffort if !self.queues_for_rate() => {
                let call_max_ns = self.call_max_ns();
                self.add(pattern, handler_id, false, call_max_ns, |_, _, owner, _| {
                    Sink::Inline(OwnedCell::new(owner, handler))
                })?
            }
            DeliveryMode::BestEffort | DeliveryMode::Reliable { .. } => {
                self.add_mailbox(pattern, known_as, handler_id, Takes::Handler(handler).into())?.0
            }
            DeliveryMode::LatestOnly => return Err(SubscribeError::NeverBehind),
        };
        Ok(Subscription::new(&shared, made))
    }

    /// Nanoseconds that a call of its handler may take.
    fn call_max_ns(&self) -> u64 {
        let timeout = match self.mode {
            DeliveryMode::BestEffort | DeliveryMode::LatestOnly => self.handler_timeout,
            DeliveryMode::Reliable { timeout } => timeout.min(self.handler_timeout),
        };
        // At most 10 days.
        timeout.as_nanos() as u64
    }

    /// Whether events wait for their rate, for which they need a mailbox.
    fn queues_for_rate(&self) -> bool {
        matches!(self.rate, Some((_, OverLimit::Queue)))
    }

    /// Keeps the rate of a subscription that does this with what comes over it.
    fn limiter(&self, over: OverLimit) -> Result<Option<Limiter>, SubscribeError> {
        let rate = self.rate.filter(|(_, wanted)| *wanted == over);
        rate.map(|(rate, _)| rate.limiter()).transpose().map_err(SubscribeError::Rate)
    }

    /// With a mailbox for a handler elsewhere, or for whoever asks.
    pub(super) fn queued(self, handler_id: HandlerId, consumer: Puller) -> Result<Mailbox<I>, SubscribeError> {
        let (pattern, known_as) = self.check()?;
        let shared = Arc::clone(&self.shared);
        let (made, mailbox) = self.add_mailbox(pattern, known_as, handler_id, consumer.into())?;
        let order = DrainOrder::new(shared.settings.critical_burst_max);
        let farewell = farewell(Arc::downgrade(&shared), &made, Arc::clone(&mailbox));
        Ok(Mailbox::new(made.id, mailbox, order, known_as, farewell))
    }

    /// A service itself, whose consumer is the worker.
    pub(in crate::bus) fn service(self) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let (pattern, known_as) = self.check()?;
        Ok(self.add_mailbox(pattern, known_as, HandlerId::new("service"), Puller::Anybody.into())?.0)
    }

    /// Has the worker bring the events to the desk that `make` makes. Returns which worker, too.
    pub(in crate::bus) fn at_desk<D: Desk + 'static>(
        mut self,
        make: impl FnOnce(KnownAs) -> D,
    ) -> Result<(Subscription, usize, Arc<D>), SubscribeError> {
        let (pattern, known_as) = self.check()?;
        let desk = Arc::new(make(known_as));
        let shared = Arc::clone(&self.shared);
        self.desk = Some(Arc::clone(&desk) as Arc<dyn Desk>);
        let takes = Takes::Desk(Arc::clone(&desk) as Arc<dyn Desk>);
        let handler_id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<D>()));
        let made = self.add_mailbox(pattern, known_as, handler_id, takes.into())?.0;
        let worker = made.worker;
        Ok((Subscription::new(&shared, made), worker, desk))
    }

    /// Adds a subscription with a mailbox. Its consumer is on the worker, or whoever asks for the mailbox.
    fn add_mailbox(
        self,
        pattern: Pattern,
        known_as: KnownAs,
        handler_id: HandlerId,
        consumer: Who,
    ) -> Result<(Arc<SubscriptionState>, Arc<MailboxShared>), SubscribeError> {
        let (capacity, max) = (self.capacity, MAILBOX_MAX);
        if capacity == 0 || capacity > max {
            return Err(SubscribeError::Capacity { capacity, max });
        }
        let shared = Arc::clone(&self.shared);
        let (engine, settings) = (&shared.engine, &shared.settings);
        let wish = match self.mode {
            DeliveryMode::BestEffort => Wish::Queue { capacity: capacity.next_power_of_two() },
            DeliveryMode::Reliable { .. } => {
                Wish::Reliable { capacity: capacity.next_power_of_two(), is_keyed: self.order.is_some() }
            }
            DeliveryMode::LatestOnly => Wish::Latest {
                held_max: capacity,
                key: self.latest_by.clone(),
                keys_max: self.keys_max.unwrap_or(KEYS),
            },
        };
        let (breaker, limiter) = (self.breaker, self.limiter(OverLimit::Queue)?);
        let MailboxMemory { intake, waits, cells, stages, words, keyed } = MailboxMemory::new(&shared, &wish)
            .ok_or_else(|| SubscribeError::Memory { capacity: wish.cells(), bytes: wish.bytes(&shared) })?;
        let buffer = match &self.spill {
            Some(_) => {
                let memory = SubscribeError::Memory { capacity: 2 * wish.cells(), bytes: 2 * wish.bytes(&shared) };
                Some(buffer(&shared, wish.cells()).ok_or(memory)?)
            }
            None => None,
        };
        let spill = self.spill.clone().map(|source| Arc::new(SpillShared::new(source, engine.barrier)));
        let (overflow, retry, order) = (self.overflow, self.retry, self.order.clone());
        let is_service = matches!(self.part, Part::Service(_));
        let (suspend_after, is_own_consumer) = (self.suspend_after, matches!(consumer, Who::Worker(_)) || is_service);
        let when_spent = if is_service { DeadReason::NoInstance } else { DeadReason::AttemptsExhausted };
        let call_max_ns = self.call_max_ns();
        let is_handled = matches!(consumer, Who::Elsewhere(Puller::Handler));
        let has_handler = is_handled || matches!(consumer, Who::Worker(Takes::Handler(_)));
        let timeout_ns = match self.mode {
            DeliveryMode::Reliable { timeout } if !has_handler => timeout.as_nanos() as u64,
            _ => call_max_ns,
        };
        let own_call_max_ns = if has_handler && !is_handled { call_max_ns } else { NEVER };
        let takes = match consumer {
            Who::Worker(takes) => Some(takes),
            Who::Elsewhere(_) => None,
        };
        let consumer = takes.map(|takes| Consumer { takes, order: DrainOrder::new(engine.critical_burst_max) });
        let mut mailbox = None;
        let made = self.add(pattern, handler_id, is_own_consumer, own_call_max_ns, |id, name, owner, worker| {
            let custody = Custody::new(cells, worker, Arc::clone(&engine.parker), Arc::clone(&engine.gate));
            let custody = Arc::new(custody);
            let reliable = words.map(|words| {
                let (alarm, parker) = (Arc::clone(&engine.alarms[worker]), Arc::clone(&engine.parker));
                Reliable {
                    attempts: Arc::new(Attempts::new(
                        words,
                        Arc::clone(&custody),
                        alarm,
                        parker,
                        engine.barrier,
                        order.is_some(),
                    )),
                    timeout_ns,
                    retry,
                    order,
                    seed: settings.id_seed.map_or_else(|| id.seed(), |seed| seed_of(seed, name)),
                    subscription: id,
                    name: name.to_owned(),
                    known_as,
                    letters: Arc::clone(&engine.dead_letters),
                    directory: Arc::clone(&engine.directory),
                    is_handled,
                    lost: Bell::new(engine.barrier),
                    redriven: ArrayQueue::new(REDRIVEN_MAX),
                    returning: Transit::default(),
                    suspend_after,
                    when_spent,
                    deaths: AtomicU32::new(0),
                    crew: OnceLock::new(),
                }
            });
            let guard = Guard::new(breaker, limiter, &engine.alarms[worker], &engine.parker);
            let directory = Arc::clone(&engine.directory);
            let bell = Bell::new(engine.barrier);
            let timed = (is_handled && reliable.is_none()).then(|| {
                let (alarm, parker) = (Arc::clone(&engine.alarms[worker]), Arc::clone(&engine.parker));
                Timed::new(CallTimer::new(call_max_ns, alarm, parker), Bell::new(engine.barrier))
            });
            let made = MailboxShared::new(custody, reliable, waits, overflow, bell, directory, stages);
            let made = Arc::new(made.guarded(guard).timed(timed).spilling(spill.clone()));
            mailbox = Some(Arc::clone(&made));
            let spill = spill.zip(buffer).map(|(shared, (feeder, cells))| Box::new(Spill::new(shared, feeder, cells)));
            Sink::Mailbox(made, OwnedCell::new(owner, Fed { intake, keyed, consumer, spill }))
        })?;
        if let Err(error) = shared.start_spill(&made) {
            drop(shared.remove(made.id, true));
            return Err(error);
        }
        Ok((made, mailbox.expect("`add` makes the sink exactly once")))
    }

    fn add(
        self,
        pattern: Pattern,
        handler_id: HandlerId,
        is_own_consumer: bool,
        call_max_ns: u64,
        sink: impl FnOnce(SubscriptionId, &str, crate::sync::owned::OwnerId, usize) -> Sink,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let limiter = self.limiter(OverLimit::Reject)?;
        let engine = Arc::clone(&self.shared.engine);
        // Relaxed: a number; who reads it asks the control plane next.
        if engine.call_max_least_ns.fetch_min(call_max_ns, Ordering::Relaxed) > call_max_ns {
            // Who sleeps is to look around that often.
            engine.wake_all();
        }
        let name = self.name.unwrap_or_else(|| pattern.as_str().to_owned());
        let directory = &self.shared.engine.directory;
        let filter = CompiledFilter::new(self.filters, directory);
        let created = directory.clock.now();
        let seed = self.shared.settings.id_seed;
        let (own_id, wish, part, desk) = (self.id, self.worker, self.part, self.desk);
        let dedup = self.dedup.map(|window| {
            let (keys, max) = (window.keys(), KEYS_MAX);
            if keys == 0 || keys > max {
                return Err(SubscribeError::Window { keys, max, bytes: 0 });
            }
            let bytes = Dedup::bytes_for(keys);
            Dedup::new(window).ok_or(SubscribeError::Window { keys, max, bytes })
        });
        let dedup = dedup.transpose()?;
        self.shared.add(|control, starts| {
            let id = seed.map_or_else(EventId::random, |seed| EventId::seeded(seed, control.subscriptions_made()));
            let id = own_id.unwrap_or(SubscriptionId(id));
            let random = seed.map_or_else(|| id.seed(), |seed| seed_of(seed, &name));
            let worker = match &part {
                Part::Instance { service, .. } => service.worker,
                Part::None | Part::Service(_) => wish.unwrap_or_else(|| control.least_loaded()),
            };
            let role = match part {
                Part::None => Role::Subscriber,
                Part::Service(balance) => {
                    let text = format!("{balance:?}");
                    Role::Service(Rota::new(control.owner(worker), balance.picker(random), text))
                }
                Part::Instance { service, name, weight, priority } => {
                    let number = seed_of(0, &name);
                    Role::Instance(Seat::new(service.id, name, number, weight, priority))
                }
            };
            let sink = sink(id, &name, control.owner(worker), worker);
            SubscriptionState {
                id,
                name,
                pattern,
                filter,
                handler_id,
                created,
                worker,
                starts,
                sink,
                role,
                is_own_consumer,
                call_max_ns,
                long_ns: if engine.debug { 0 } else { engine.slow_handler_ns.min(call_max_ns) },
                desk,
                dedup_bytes: dedup.as_ref().map_or(0, Dedup::reserved_bytes),
                dedup: dedup.map(|dedup| OwnedCell::new(control.owner(worker), dedup)),
                limiter,
                replay: self.replay,
                counts: WorkerCounts::default(),
                live: Live::new(),
            }
        })
    }
}

/// What a subscription of this name draws chance from, where all of it comes from `seed`.
fn seed_of(seed: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// How a mailbox takes its subscription with it.
fn farewell(shared: Weak<Shared>, subscription: &Arc<SubscriptionState>, mailbox: Arc<MailboxShared>) -> Farewell {
    let subscription = Arc::downgrade(subscription);
    Box::new(move |panicked| {
        let (Some(shared), Some(subscription)) = (shared.upgrade(), subscription.upgrade()) else { return };
        mailbox.custody().abandon();
        if subscription.state() != State::Closed {
            let (id, name) = (subscription.id, subscription.name.as_str());
            if shared.engine.phase() != Phase::Stopped {
                shared.engine.consumers_gone.add(1);
                shared.engine.notice(&Notice::ConsumerGone { subscription: id, name, panicked });
            }
            // A stuck worker does not change that the subscription is over.
            drop(shared.remove(id, !crate::worker::on_worker_thread()));
        }
        shared.fold_ended();
    })
}
