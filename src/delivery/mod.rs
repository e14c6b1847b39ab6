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
mod handler;
mod ledger;
mod mailbox;
mod observer;
mod route;
mod run;
mod stopwatch;
mod subscription;

pub use balance::{AffinityKey, Balance, Balancer, InstanceHealth, InstanceView, Picker};
pub use handler::{Context, Handler, HandlerId, Interest, Outcome};
pub use ledger::{Dropped, Ledger, SubscriptionLedger};
pub use mailbox::{Delivery, Iter, Mailbox, Overflow, RecvError, TryRecvError};
pub use observer::{Notice, Observer};
pub use subscription::{SubscriptionId, SubscriptionRecord};

pub(crate) use crate::sync::calls::{State, is_calling};
pub(crate) use handler::{Custom, Dispatch, Kept, Scene, Typed, Untyped};
pub(crate) use mailbox::{Farewell, MailboxShared};
pub(crate) use route::Route;
pub(crate) use run::Run;
pub(crate) use stopwatch::Stopwatch;
pub(crate) use subscription::{Sink, SubscriptionState};
