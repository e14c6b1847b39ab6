//! How the parts of a bus are put together.

use std::sync::{Arc, OnceLock, Weak};

use crossbeam::utils::CachePadded;

use crate::clock::Clock;
use crate::delivery::{DeadLetterLimits, DeadLetterStore};
use crate::event::{Directory, EventSource};
use crate::metrics::SharedCounter;
use crate::ring::{Gate, LanesLayout, OutOfMemory, Pages, PoolClass};
use crate::routing::RuleSet;
use crate::sync::admission::Admission;
use crate::sync::alarm::{Alarm, NEVER};
use crate::sync::barrier::Barrier;
use crate::sync::parker::Parker;
use crate::sync::primitive::{AtomicU64, Mutex};
use crate::sync::snapshot::Snapshot;
use crate::worker::{Engine, Pressure, Schedule, ServicesKnown, Worker, WorkerTable, allowed_cores};

use super::super::control::Settings;
use super::super::rate_limit::RateLimits;
use super::super::reserve::{Plan, Reserved};
use super::super::{BuildError, BuildFault, Control, Driver, Shared};
use super::{BusBuilder, TYPES_MAX};

impl BusBuilder {
    pub(super) fn assemble(self, clock: Clock, manual: bool) -> Result<(Arc<Shared>, Vec<Worker>), BuildError> {
        let workers = self.workers.unwrap_or_else(|| allowed_cores().min(4));
        let publishers = if self.single_publisher { 1 } else { self.publishers_max };
        let mut faults = self.faults(workers, publishers);
        let sources_max = self.sources_max.min(TYPES_MAX);
        let directory = Arc::new(Directory::new(self.types_max.min(TYPES_MAX), sources_max, clock));
        let limits = RateLimits::new(self.rate_limits.clone(), &directory).map_err(|errors| {
            faults.extend(errors.into_iter().map(BuildFault::RateLimit));
        });
        let (Ok(limits), true) = (limits, faults.is_empty()) else { return Err(BuildError::new(faults)) };
        let batch_max = self.batch_limit();
        let barrier = Barrier::detect();
        let (sizes, pages) = (self.block_sizes(), if self.prefault { Pages::Fresh } else { Pages::Any });
        let layout = self.layout(workers, publishers, pages);
        let settings = self.settings(publishers, batch_max, pages);
        let scheduled_max = if self.single_publisher { 0 } else { self.scheduled_max };
        let plan = Plan::new(&layout, &sizes, publishers, self.types_max, self.sources_max, scheduled_max);
        let mut reserved = Reserved::new(&layout, &sizes, pages, self.types_max, &plan)
            .map_err(|OutOfMemory { .. }| BuildError::of(plan.fault()))?;
        if self.prefault {
            reserved.touch(self.pin).map_err(|error| BuildError::of(BuildFault::thread(&error)))?;
        }
        let Reserved { lanes, recorders, ended_stages, wants } = reserved;
        let pool = Arc::clone(lanes.pool());
        let (tables, currents): (Vec<_>, Vec<_>) = (0..workers).map(|_| Snapshot::new(WorkerTable::new())).unzip();
        let dead_letters = DeadLetterStore::new(
            DeadLetterLimits {
                events: self.dead_letters_max,
                bytes: self.dead_letter_bytes_max,
                expiry: self.dead_letter_expiry,
                waiting: self.dead_letter_sink_max,
            },
            Arc::clone(&directory),
            self.observers.clone(),
            self.dead_letter_sink,
            barrier,
        );
        let engine = Arc::new(Engine {
            gate: Arc::new(Gate::new(publishers, barrier)),
            parker: Arc::new(Parker::new(workers, barrier)),
            wants,
            schedule: Schedule::new(scheduled_max),
            directory,
            barrier,
            tables: tables.into_iter().map(Arc::new).collect(),
            alarms: (0..workers).map(|worker| Arc::new(Alarm::new(worker, barrier))).collect(),
            under_way: (0..workers).map(|_| Arc::default()).collect(),
            call_max_least_ns: AtomicU64::new(NEVER),
            hang_watch: OnceLock::new(),
            recorders: recorders.into_iter().map(Arc::new).collect(),
            publishers: (0..=publishers).map(|_| Default::default()).collect(),
            observers: self.observers,
            dead_letters: Arc::new(dead_letters),
            admission: Admission::new(barrier),
            pressure: Pressure::new(self.memory_pressure),
            services_known: ServicesKnown::new(),
            throttle: self
                .throttle
                .and_then(|rate| rate.limiter().ok())
                .map(|limiter| Box::new(CachePadded::new(limiter))),
            left: Default::default(),
            failed: Default::default(),
            worker_restarts_max: self.worker_restarts_max,
            unplaced: SharedCounter::default(),
            turned_away: SharedCounter::default(),
            consumers_gone: SharedCounter::default(),
            turn_max: self.turn_max,
            coalesce_max_ns: self.coalesce_max.as_nanos() as u64,
            critical_burst_max: self.critical_burst_max,
            slow_handler_ns: u64::try_from(self.slow_handler.as_nanos()).unwrap_or(u64::MAX),
            debug: self.debug,
            lanes: Arc::new(lanes),
            pool,
        });
        let workers: Vec<_> = currents
            .into_iter()
            .enumerate()
            .map(|(index, table)| Worker::new(index, Arc::clone(&engine), table))
            .collect();
        let owners = workers.iter().map(Worker::owner_id).collect();
        let rules = RuleSet::default().reading_at_most(self.condition_payload_bytes_max);
        let control = Control::new(owners, publishers, ended_stages, rules);
        let (driver, left) =
            if manual { (Driver::Manual(Mutex::new(workers)), Vec::new()) } else { (Driver::Threads, workers) };
        let shared = Arc::new(Shared::new(engine, settings, limits, driver, control));
        let watch: Weak<Shared> = Arc::downgrade(&shared);
        // Made a moment ago, so it is the first.
        let _ = shared.engine.hang_watch.set(watch);
        Ok((shared, left))
    }

    /// The pool's, the smallest first.
    fn block_sizes(&self) -> Vec<PoolClass> {
        let mut sizes: Vec<_> =
            self.blocks.iter().map(|&(block_bytes, blocks)| PoolClass { block_bytes, blocks }).collect();
        sizes.sort_by_key(|size| size.block_bytes);
        // Room for the largest payload together with the largest extension.
        if let Some(largest) = sizes.last_mut() {
            largest.block_bytes += crate::event::EXTENSION_BYTES_MAX;
        }
        sizes
    }

    fn layout(&self, workers: usize, publishers: usize, pages: Pages) -> LanesLayout {
        LanesLayout {
            slots: (self.max_queue_size + publishers + 1).next_power_of_two(),
            slot_bytes: self.slot_bytes,
            limit: self.max_queue_size as u64,
            workers,
            first: self.first_sequence,
            pages: if self.huge_pages { Pages::Huge } else { pages },
        }
    }

    fn settings(&self, publishers: usize, batch_max: usize, pages: Pages) -> Settings {
        Settings {
            publishers_max: publishers,
            batch_max,
            payload_bytes_max: self.payload_bytes_max,
            mailbox_capacity: self.mailbox_capacity,
            retry: self.retry,
            handler_timeout: self.handler_timeout,
            attempt_timeout: self.attempt_timeout,
            redrives_max: self.redrives_max,
            deadline: self.deadline,
            full_policy: self.full_policy,
            source: EventSource::service(&self.name).as_str().to_owned(),
            stamps: self.stamps,
            id_seed: self.id_seed,
            first_sequence: self.first_sequence,
            critical_burst_max: self.critical_burst_max,
            exclusive: self.single_publisher,
            types_max: self.types_max,
            sources_max: self.sources_max,
            pages,
        }
    }
}
