//! What came of the clients of live streams.

use crate::metrics::SharedCounter;

/// Counters of a hub.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) clients_total: SharedCounter,
    pub(super) refused_full: SharedCounter,
    pub(super) refused_malformed: SharedCounter,
    pub(super) events_sent: SharedCounter,
    pub(super) events_conflated: SharedCounter,
    pub(super) gaps: SharedCounter,
    pub(super) spills: SharedCounter,
    pub(super) commands_refused: SharedCounter,
    pub(super) closed_slow: SharedCounter,
    pub(super) closed_silent: SharedCounter,
    pub(super) closed_oversized: SharedCounter,
    pub(super) closed_taken_over: SharedCounter,
    pub(super) store_failures: SharedCounter,
}

/// What came of the clients of live streams. Each figure is counted on its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveCounts {
    /// Clients now.
    pub clients: u64,
    /// Clients that there were, those that are there included.
    pub clients_total: u64,
    /// Refused, for there were too many.
    pub refused_full: u64,
    /// Refused, for the request was wrong.
    pub refused_malformed: u64,
    /// Events handed to connections, each client's for itself.
    pub events_sent: u64,
    /// Events that slow clients did not get, since newer ones of the same key took their place or there were too many keys.
    pub events_conflated: u64,
    /// Times that a client was told that events are missing.
    pub gaps: u64,
    /// Times that a client fell out of the window, and read on in the store.
    pub spills: u64,
    /// Messages of clients that were not understood, or asked for what cannot be.
    pub commands_refused: u64,
    /// Closed, for they were slower than the events.
    pub closed_slow: u64,
    /// Closed, for they did not answer, or did not read.
    pub closed_silent: u64,
    /// Closed, for a message of theirs was too long.
    pub closed_oversized: u64,
    /// Closed, for another connection took their name.
    pub closed_taken_over: u64,
    /// Times that the store could not be read.
    pub store_failures: u64,
}

impl Counters {
    pub(super) fn read(&self, clients: u64) -> LiveCounts {
        LiveCounts {
            clients,
            clients_total: self.clients_total.get(),
            refused_full: self.refused_full.get(),
            refused_malformed: self.refused_malformed.get(),
            events_sent: self.events_sent.get(),
            events_conflated: self.events_conflated.get(),
            gaps: self.gaps.get(),
            spills: self.spills.get(),
            commands_refused: self.commands_refused.get(),
            closed_slow: self.closed_slow.get(),
            closed_silent: self.closed_silent.get(),
            closed_oversized: self.closed_oversized.get(),
            closed_taken_over: self.closed_taken_over.get(),
            store_failures: self.store_failures.get(),
        }
    }
}
