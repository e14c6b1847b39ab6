//! How the parts of a node go down, each before what it stands on, within one deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::start::deadline;
use super::{Core, Left, NodeState, Parts, announce};
use crate::ShutdownReport;

/// What is left of the deadline counts no less than this for each part: what has nothing to wait for ends anyhow.
const MOMENT: Duration = Duration::from_millis(100);

/// What a stop came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// What the shutdown of the bus came to; `None` where it had none of its own.
    pub bus: Option<ShutdownReport>,
    /// What could not be brought to its end in time, in words; what was acknowledged is delivered after the next start.
    pub left: Vec<String>,
}

impl StopReport {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty()
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.left[..] {
            [] => f.write_str("everything was brought to its end"),
            left => f.write_str(&left.join("\n")),
        }
    }
}

pub(super) fn stop(core: &Arc<Core>, parts: Parts) -> StopReport {
    let Parts { runtime, http, journal, _flow: _ } = parts;
    let mut left = Vec::new();
    let limit = Left::of(deadline(&core.config()));
    let time = || limit.time().max(MOMENT);
    core.state.send_replace(NodeState::Stopping);
    announce::node(&core.bus, NodeState::Stopping);
    if let Some(http) = http {
        // The other half is for what they have published.
        let cut = runtime.block_on(http.close(time() / 2));
        if cut > 0 {
            left.push(format!("{cut} connections were cut, for they did not end in time"));
        }
    }
    core.replays.end();
    // What is only in the log comes to services while they still hear it. A lane that stands still leaves them their time.
    core.durable.deliver_deadline(time() / 2);
    let busy = runtime.block_on(core.builtins.end(time()));
    if busy > 0 {
        left.push(format!("{busy} subscriptions of services were not done in time"));
    }
    for name in runtime.block_on(core.services.shutdown(time())) {
        left.push(format!("the service {name} did not stop in time"));
    }
    if let Err(error) = core.durable.close_deadline(time()) {
        left.push(error.to_string());
    }
    // What the journal has in hand is settled when it is in the store.
    let _ = core.bus.flush_deadline(time());
    let held = core.bus.subscriptions().iter().filter(|one| one.is_paused).map(|one| one.ledger.open()).sum::<u64>();
    if held > 0 {
        left.push(format!(
            "{held} events wait for services that do not run, or subscriptions that are paused; those that were \
             acknowledged come again after the next start"
        ));
    }
    let bus = core.bus.shutdown_deadline(time()).map_err(|error| left.push(error.to_string())).ok();
    if let Err(error) = journal.close() {
        left.push(error.to_string());
    }
    let ledger = core.bus.ledger();
    let open = (ledger.in_lanes + ledger.subscriptions.open()).saturating_sub(held);
    if open > 0 {
        left.push(format!("{open} deliveries were not settled in time"));
    }
    let unkept = core.letters.counts().lost + core.bus.dead_letters().counts().waiting;
    if let Some(error) = core.letters.last_error().filter(|_| unkept > 0) {
        left.push(format!("{unkept} dead letters were not kept: {error}"));
    }
    runtime.shutdown_timeout(time());
    // Whoever still has it reads it; what was said to be kept is on the disk.
    if let Some(log) = &core.log
        && let Err(error) = crate::store::EventStore::sync(&**log)
    {
        left.push(error.to_string());
    }
    core.state.send_replace(NodeState::Stopped);
    StopReport { bus, left }
}
