//! One event meets one subscription: the handler's side of the trip, its mailbox, its counts.
//!
//! ```text
//!   worker ──► subscription ──► filter ──► inline handler          runs on the worker, reads the lane in place
//!                                     └──► mailbox ──► consumer    a copy in a cell, pulled when the consumer likes
//! ```
//!
//! Each subscription belongs to one worker, which is the only one to write its counters and to call its handler.

#![forbid(unsafe_code)]

mod balance;
mod breaker;
mod dead_letter;
mod dedup;
mod desk;
mod guard;
mod handler;
mod in_hand;
mod intake;
mod key;
mod ledger;
mod limit;
mod mailbox;
mod mode;
mod observer;
mod reliable;
mod replay;
mod retry;
mod route;
mod run;
mod service;
mod spill;
mod stopwatch;
mod subscription;

pub use balance::{Balance, Balancer, InstanceView, Picker, ServiceHealth};
pub use breaker::{BreakerPolicy, BreakerRecord, WhileOpen};
pub use dead_letter::{DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterSink, DeadReason};
pub use dedup::DedupWindow;
pub use handler::{Context, Handler, HandlerId, Interest, Outcome};
pub use in_hand::Delivery;
pub use key::Key;
pub use ledger::{Dropped, Ledger, SubscriptionLedger};
pub use limit::{OverLimit, Rate, RateError};
pub use mailbox::{Iter, Mailbox, Overflow, RecvError, TryRecvError};
pub use mode::DeliveryMode;
pub use observer::{Notice, Observer};
pub use reliable::Settled;
pub use replay::ReplayPolicy;
pub use retry::RetryPolicy;
pub use spill::{SpillError, SpillPage, SpillReader, SpillSource, SpilledEvent};
pub use subscription::{SubscriptionId, SubscriptionRecord};

pub use crate::sync::breaker::BreakerState;
pub(crate) use crate::sync::call_timer::{CALL_MAX_NS, CallTimer, TimedCall};
pub(crate) use crate::sync::calls::{State, is_calling};
pub(crate) use crate::sync::crew::{Crew, Hang, REPLACEMENTS_MAX};
pub(crate) use dead_letter::{DeadLetterLimits, DeadLetterStore, Death, ReturningLetter, TakenLetter};
pub(crate) use dedup::{Dedup, KEYS_MAX};
pub(crate) use desk::Desk;
pub(crate) use guard::{Guard, Obstacle, Pass};
pub(crate) use handler::{Custom, Dispatch, Scene, Typed, Untyped};
pub(crate) use in_hand::Hold;
pub(crate) use intake::{Intake, Waits};
pub(crate) use mailbox::{Farewell, MailboxShared, Timed};
pub(crate) use reliable::{REDRIVEN_MAX, Redriven, Reliable, meta_of};
pub(crate) use route::Route;
pub(crate) use run::Run;
pub(crate) use service::{Role, Rota, SERVICES_MAX, Seat, ServiceHere, may_hold, takes_events};
pub(crate) use spill::{Brought, Parcel, Rejoined, Spill, SpillShared};
pub(crate) use stopwatch::Stopwatch;
pub(crate) use subscription::{Consumer, Fed, Live, Sink, SubscriptionState, Takes, WorkerCounts};
