//! Everything that an admin can see and do: what a handler does here leaves a record in the audit trail before it is done.

pub(super) mod audit;
pub(super) mod config;
pub(super) mod leases;
pub(super) mod letters;
pub(super) mod replays;
pub(super) mod rules;
pub(super) mod services;
pub(super) mod subscriptions;

use std::time::SystemTime;

use crate::node::store::inspect::rfc3339;

fn time(time: SystemTime) -> String {
    rfc3339(time)
}
