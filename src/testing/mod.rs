//! Deterministic tests: a clock moved by hand, and a seeded scheduler over the production workers.
//!
//! A [`Simulation`] builds a bus whose workers have no threads. The test turns them: one by one, or in an order drawn
//! from a seed, and moves the clock. The same seed gives the same run, ids of events and subscriptions
//! included. All code that runs is the code that runs in production.
//!
//! ```
//! use ringmain::testing::Simulation;
//! use ringmain::{Bus, Payload};
//! use std::time::Duration;
//!
//! let simulation = Simulation::new(Bus::builder().workers(2), 7)?;
//! let bus = simulation.bus();
//! let mut inbox = bus.subscribe("tea.*").mailbox()?;
//!
//! let mut publisher = bus.publisher()?;
//! publisher.event().not_before(Duration::from_secs(180)).publish("tea.ready", Payload::plain_text("enjoy"))?;
//! simulation.run();
//! assert!(inbox.try_recv().is_err(), "it is still brewing");
//!
//! simulation.advance(Duration::from_secs(180));
//! simulation.run();
//! assert_eq!(inbox.try_recv().unwrap().payload().text(), Some("enjoy"));
//! # Ok::<(), ringmain::Error>(())
//! ```
//!
//! Timeouts, retries and their jitter, scheduled events, circuit breakers, rates, the waits for an instance of a service and the draws
//! among instances go by this clock and this seed: move the clock past a limit, [`run`](Simulation::run), and look.
//!
//! ```
//! use ringmain::testing::Simulation;
//! use ringmain::{Bus, DeliveryMode, Payload, RetryPolicy};
//! use std::time::Duration;
//!
//! let simulation = Simulation::new(Bus::builder().workers(1), 7)?;
//! let bus = simulation.bus();
//! let wait = Duration::from_secs(60);
//! let patient = RetryPolicy::default().delays(wait, wait);
//! let flaky = bus.subscribe("mail").mode(DeliveryMode::reliable()).retry(patient);
//! let flaky = flaky.handle(|_, meta| if meta.attempt() == 1 { Err("busy") } else { Ok(()) })?;
//! bus.publish("mail", Payload::plain_text("hello"))?;
//! simulation.run();
//! assert_eq!(flaky.record().ledger.waiting, 1);
//!
//! simulation.advance(wait);
//! simulation.run();
//! assert_eq!(flaky.record().ledger.delivered, 1);
//! # Ok::<(), ringmain::Error>(())
//! ```
//!
//! Nothing waits in a simulation: a publish at a full lane returns `Full`, and `recv` on an empty mailbox would wait
//! for ever, so use `try_recv`.

#[cfg(feature = "sourcing")]
mod aggregates;
#[cfg(feature = "sourcing")]
mod sagas;

use std::cell::RefCell;
use std::time::Duration;

use crate::bus::{BuildError, Bus, BusBuilder};
use crate::chance;
use crate::clock::Clock;
use crate::worker::Turn;

#[cfg(feature = "sourcing")]
pub use aggregates::{Given, When};
#[cfg(feature = "sourcing")]
pub use sagas::GivenSaga;

/// The clock of a [`Simulation`], for handlers that take time: while one runs, nobody else has the simulation.
///
/// ```
/// use ringmain::testing::Simulation;
/// use ringmain::{Bus, Payload};
/// use std::time::Duration;
///
/// let simulation = Simulation::new(Bus::builder().workers(1), 7)?;
/// let (bus, clock, second) = (simulation.bus(), simulation.clock(), Duration::from_secs(1));
/// let slow = bus.subscribe("work").handler_timeout(second).handle(move |_, _| clock.advance(second * 2))?;
/// bus.publish("work", Payload::raw(b""))?;
/// simulation.run();
/// assert_eq!((slow.ledger().delivered, slow.ledger().timed_out), (1, 1));
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Clock);

impl ManualClock {
    /// Of a bus with workers on threads, which has such a clock under `--cfg ringmain_shuttle`: a schedule has no time of its own.
    #[cfg(ringmain_shuttle)]
    pub fn of(bus: &Bus) -> Self {
        Self(bus.shared().engine.directory.clock.clone())
    }

    /// Moves the clock on, as [`Simulation::advance`] does.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

/// A bus under a test's control. Everything happens on the calling thread.
#[derive(Debug)]
pub struct Simulation {
    bus: Bus,
    clock: Clock,
    random: RefCell<u64>,
}

impl Simulation {
    /// Builds a bus whose workers are turned by hand, with all chance drawn from `seed`.
    ///
    /// # Errors
    /// As [`BusBuilder::build`].
    pub fn new(builder: BusBuilder, seed: u64) -> Result<Self, BuildError> {
        let clock = Clock::manual();
        let bus = builder.id_seed(seed).build_manual(clock.clone())?;
        Ok(Self { bus, clock, random: RefCell::new(seed) })
    }

    /// The bus. Use it as any other.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// The clock, to be moved on from within a handler.
    pub fn clock(&self) -> ManualClock {
        ManualClock(self.clock.clone())
    }

    /// Sets the wall clock, in nanoseconds of Unix time, as an administrator would: forwards or backwards.
    pub fn step_wall_clock(&self, unix_ns: u64) {
        self.clock.step_wall(unix_ns);
    }

    /// Runs one turn of one worker. Returns the events it passed; `None` when there is no such worker.
    pub fn turn(&self, worker: usize) -> Option<usize> {
        self.bus.shared().turn(worker).map(|turn| match turn {
            Turn::Worked { events, .. } => events,
            Turn::Idle | Turn::Finished => 0,
        })
    }

    /// Runs one turn of a worker drawn from the seed. Returns which, and the events it passed.
    pub fn step(&self) -> (usize, usize) {
        let worker = self.some_worker();
        (worker, self.turn(worker).unwrap_or(0))
    }

    fn some_worker(&self) -> usize {
        let workers = self.bus.shared().engine.workers();
        (self.draw() % workers as u64) as usize
    }

    /// Runs turns in a seeded order until every worker is idle. Returns the events passed, over all workers.
    pub fn run(&self) -> usize {
        let workers = self.bus.shared().engine.workers();
        let (mut passed, mut idle) = (0, 0_u64);
        while idle.count_ones() < workers as u32 {
            let worker = self.some_worker();
            let turn = self.bus.shared().turn(worker);
            if let Some(Turn::Worked { events, .. }) = turn {
                passed += events;
            }
            idle = if self.bus.shared().is_idle(worker, turn) { idle | 1 << worker } else { 0 };
        }
        passed
    }

    /// The next number of the seeded sequence, for choices of the test's own.
    pub fn draw(&self) -> u64 {
        chance::next(&mut self.random.borrow_mut())
    }
}
