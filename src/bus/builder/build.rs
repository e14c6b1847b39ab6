//! A bus is built: with threads for its workers, or to be driven by hand.

use std::sync::Arc;

use crate::clock::Clock;
use crate::delivery::Observer;
use crate::worker::WorkerThreads;

use super::super::announce::Announcer;
use super::super::{BuildError, BuildFault, Bus};
use super::BusBuilder;

impl BusBuilder {
    /// Reserves all memory and starts the workers.
    ///
    /// # Errors
    /// With every setting that is out of range, or when the system refuses the memory or a thread.
    ///
    /// # Cost
    /// Some milliseconds, most of them for threads and, once a process, the clock.
    pub fn build(mut self) -> Result<Bus, BuildError> {
        let announcer = self.announcer();
        let idle = self.idle;
        let pin = self.pin;
        let name = self.name.clone();
        let (shared, workers) = self.crowded().assemble(Clock::system(), false)?;
        let letters = shared.start_telling(&name).map_err(|error| BuildError::of(BuildFault::thread(&error)))?;
        shared.control().handler_threads.extend(letters);
        let threads = WorkerThreads::start(&shared.engine, workers, &name, idle, pin).map_err(|error| {
            shared.engine.set_phase(crate::worker::Phase::Halting);
            shared.engine.wake_all();
            BuildError::of(BuildFault::thread(&error))
        })?;
        shared.control().threads = Some(threads);
        Ok(announcing(Bus::from_shared(shared), announcer))
    }

    /// Who is to publish what changes, once there is a bus.
    fn announcer(&mut self) -> Option<Arc<Announcer>> {
        let announcer = self.announces.then(Arc::<Announcer>::default);
        self.observers.extend(announcer.clone().map(|it| it as Arc<dyn Observer>));
        announcer
    }

    /// In a build for tests with as many workers as `RINGMAIN_WORKERS_MIN` asks of every bus: many more than cores.
    fn crowded(mut self) -> Self {
        if cfg!(feature = "stall")
            && let Some(least) = std::env::var("RINGMAIN_WORKERS_MIN").ok().and_then(|text| text.parse().ok())
        {
            self.workers = Some(self.workers.unwrap_or(1).max(least));
        }
        self
    }

    /// A bus whose workers nobody turns: the caller does.
    pub(crate) fn build_manual(mut self, clock: Clock) -> Result<Bus, BuildError> {
        let announcer = self.announcer();
        let (shared, _) = self.assemble(clock, true)?;
        Ok(announcing(Bus::from_shared(shared), announcer))
    }
}

fn announcing(bus: Bus, announcer: Option<Arc<Announcer>>) -> Bus {
    if let Some(announcer) = announcer {
        announcer.begin(&bus);
    }
    bus
}
