//! The threads that pull: one duty cycle, an idle strategy, timers, a core to stay on.
//!
//! A worker is [`Worker::turn`]; the thread around it is a shell. The same turn is driven by threads in production and
//! by the seeded scheduler of [`testing`](crate::testing).

#![forbid(unsafe_code)]

mod affinity;
mod duty;
mod engine;
#[cfg(feature = "stall")]
pub mod fault;
mod idle;
mod pool;
mod pressure;
mod services_known;
mod timer;

pub use engine::StampPolicy;
pub use idle::{IdleStrategy, ParseIdleStrategyError};

pub(crate) use crate::sync::admission::Phase;
pub(crate) use affinity::{allowed_cores, on_worker_cores};
pub(crate) use duty::{Turn, Worker, call_behind_mailbox};
pub(crate) use engine::{Ended, Engine, HangWatch, PublisherSlot, WorkerTable};
pub(crate) use pool::{WorkerThreads, as_worker, on_worker_thread};
pub(crate) use pressure::Pressure;
pub(crate) use services_known::ServicesKnown;
pub(crate) use timer::{Schedule, Scheduled, schedule_bytes};
