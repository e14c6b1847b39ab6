//! How often each kind of thing happened: a scenario that never meets a full mailbox says nothing about full mailboxes.

use std::collections::BTreeMap;

/// What has to happen at least once in a few hundred seeds.
const KINDS: &[&str] = &[
    "accepted",
    "answer published",
    "answer refused",
    "answer that nobody waits for",
    "answer without a cell",
    "answered by a publisher",
    "async given up",
    "async published",
    "async waited",
    "at rest: compared",
    "at rest: in bounds only",
    "batch abandoned",
    "batch published",
    "batch refused",
    "books checked at rest",
    "books of a service checked",
    "borrowed publish",
    "breaker closed",
    "breaker half opened",
    "breaker opened",
    "call overrun",
    "call within its time",
    "called: acknowledged",
    "called: failed",
    "called: panicked",
    "came by a service",
    "clock moved",
    "closed in a mailbox",
    "died: attempts exhausted",
    "died: breaker open",
    "died: closed",
    "died: mailbox full",
    "died: no instance",
    "died: over its rate",
    "died: rejected",
    "died: releases exhausted",
    "died: timed out",
    "dropped: duplicate",
    "dropped: expired in a lane",
    "dropped: expired in a mailbox",
    "dropped: overflow, newest",
    "dropped: overflow, oldest",
    "dropped: paused",
    "extended",
    "failed: not readable",
    "fates: compared",
    "fates: in bounds only",
    "filtered",
    "flush came to an end",
    "flush timed out",
    "future dropped in a call",
    "future panicked",
    "future polled",
    "given back to a service",
    "health of an instance changed",
    "held back from a handler",
    "held delivery settled late",
    "instance ended",
    "instance made",
    "instance made: best effort",
    "instance made: future",
    "instance made: inline",
    "instance spared",
    "lane held up by a mailbox",
    "letter returned",
    "limits on publishing set",
    "loan abandoned",
    "loan published",
    "made way in a mailbox",
    "memory pressure began",
    "memory pressure ended",
    "not redriven",
    "passed a throttle",
    "paused",
    "predicate panicked",
    "probe made",
    "publisher dropped",
    "publisher made",
    "publisher refused",
    "pulled",
    "pulled nothing: held back",
    "pulled nothing: paused",
    "purged",
    "query published",
    "query waits for room",
    "read the newest of several",
    "redriven",
    "refused: batch over a limit",
    "refused: envelope",
    "refused: full",
    "refused: memory pressure",
    "refused: mixed batch",
    "refused: no block",
    "refused: no publisher",
    "refused: over a limit",
    "refused: schedule full",
    "refused: scheduled in batch",
    "refused: shed",
    "refused: shutting down",
    "refused: too large",
    "relayed by a handler",
    "republished",
    "request answered",
    "request cancelled",
    "request refused: full",
    "request refused: no responder",
    "request that blocks",
    "request timed out",
    "request waits",
    "request, and the bus or its requester ended",
    "requester ended",
    "requester made",
    "requester refused",
    "responder made",
    "responder made: reliable",
    "responder panicked",
    "responder refused",
    "resumed",
    "rule added",
    "rule changed",
    "rule enabled or disabled",
    "rule removed",
    "said: acknowledged",
    "said: failed",
    "said: failed at last",
    "said: failed, at the end",
    "said: rejected",
    "said: released",
    "said: released too often",
    "said: released, at the end",
    "said: retry after",
    "scheduled",
    "scheduled came due",
    "scheduled waited for a full lane",
    "sent to a service by a rule",
    "sent to a service by name",
    "sequences wrapped",
    "service: compared",
    "service: in bounds only",
    "service ended",
    "service opened",
    "shutdown, clean",
    "shutdown, something left",
    "subscribed: best effort",
    "subscribed: future",
    "subscribed: inline",
    "subscribed: mailbox",
    "subscribed: newest",
    "subscribed: reliable",
    "subscribed: reliable, in order",
    "subscribed: with a breaker",
    "subscribed: with a rate that turns away",
    "subscribed: with a rate that waits",
    "superseded",
    "suspended",
    "call cancelled",
    "taken away",
    "too late",
    "tried",
    "tried again",
    "turned away by a rate",
    "unmatched",
    "unsubscribed",
    "wall clock stepped",
    "went on to another instance",
    #[cfg(feature = "stall")]
    "worker restarted",
];

/// How often books were compared to the last event, and how often only held against bounds, as it was not known which of
/// several turns an event came due in, or which services there were when it was looked at: at least so many in a hundred are compared.
const COMPARED: &[(&str, &str, u64)] = &[
    ("at rest: compared", "at rest: in bounds only", 99),
    ("fates: compared", "fates: in bounds only", 90),
    ("service: compared", "service: in bounds only", 50),
];

#[derive(Debug, Clone, Default)]
pub(crate) struct Census(BTreeMap<&'static str, u64>);

impl Census {
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(crate) fn print(&self) {
        for (kind, count) in &self.0 {
            println!("{count:>12} {kind}");
        }
    }

    pub(crate) fn assert_all_happened(&self) {
        let never: Vec<_> = KINDS.iter().filter(|kind| !self.0.contains_key(*kind)).collect();
        assert!(never.is_empty(), "these never happened: {never:?}");
        let unknown: Vec<_> = self.0.keys().filter(|kind| !KINDS.contains(kind)).collect();
        assert!(unknown.is_empty(), "these are not in the list: {unknown:?}");
        for (compared, bounded, percent_min) in COMPARED {
            let (compared, bounded) = (self.0[compared], self.0[bounded]);
            let percent = compared * 100 / (compared + bounded);
            assert!(percent >= *percent_min, "{compared} books are compared, and {bounded} held against bounds only");
        }
    }
}
