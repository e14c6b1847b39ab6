//! Where the events of one type go on one worker, with all that can be known before one comes.

use std::sync::Arc;

use crate::ring::LANES;
use crate::routing::TypeRules;

use super::{Sink, SubscriptionState};

/// The subscriptions of one worker that may want a type's events.
pub(crate) struct Route {
    targets: Box<[Arc<SubscriptionState>]>,
    /// Lanes in which all targets are inline handlers that want each event: a bit each.
    plain: u8,
    /// The latest of the targets' first sequences, a lane.
    starts: [u64; LANES],
    /// The rules that may send its events to services, which they name by their places in the table.
    rules: TypeRules<u8>,
}

impl Route {
    /// The route of a type; of id 0, which stands for many names, each target is asked for each event.
    pub(crate) fn new(type_id: u32, targets: Vec<Arc<SubscriptionState>>, rules: TypeRules<u8>) -> Self {
        let mut plain = if type_id == 0 { 0 } else { !rules.lanes() & 0b1111 };
        let mut starts = targets.first().map_or([0; LANES], |first| first.starts);
        for target in &targets {
            let asks = target.filter.is_dynamic()
                || target.dedup.is_some()
                || target.limiter.is_some()
                || matches!(target.sink, Sink::Mailbox(..));
            plain &= if asks { 0 } else { target.filter.lanes() };
            for (latest, &start) in starts.iter_mut().zip(&target.starts) {
                if (start.wrapping_sub(*latest) as i64) > 0 {
                    *latest = start;
                }
            }
        }
        Self { targets: targets.into(), plain, starts, rules }
    }

    /// Whether nobody wants anything of the type.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.rules.is_empty()
    }

    pub(crate) fn rules(&self) -> &TypeRules<u8> {
        &self.rules
    }

    pub(crate) fn targets(&self) -> &[Arc<SubscriptionState>] {
        &self.targets
    }

    /// Whether all targets are inline handlers that want all events in `lane` from the one at `sequence` on.
    #[inline(always)]
    pub(crate) fn is_plain(&self, lane: usize, sequence: u64) -> bool {
        self.plain & (1 << lane) != 0 && (sequence.wrapping_sub(self.starts[lane]) as i64) >= 0
    }

    /// Lanes of which some targets or rules want events, a bit each.
    pub(crate) fn lanes(&self) -> u8 {
        self.targets.iter().fold(self.rules.lanes(), |lanes, target| lanes | target.filter.lanes())
    }
}
