//! What a subscription may not ask for, or not together.

use std::time::Duration;

use crate::delivery::{BreakerPolicy, CALL_MAX_NS, DeliveryMode, Interest, OverLimit, Overflow, ReplayPolicy};
use crate::event::{EventSource, KnownAs};
use crate::ring::{ATTEMPTS_MAX, RELEASES_MAX, WAIT_MAX_NS};
use crate::routing::{Filter, Pattern, RoutingRule};
use crate::worker::Phase;

use super::super::service_error::ServiceError;
use super::super::subscribe_error::SubscribeError;
use super::{MAILBOX_MAX, Part, Subscribe};

impl<I: Interest> Subscribe<I> {
    /// Checks everything that can be wrong before anything is made.
    pub(super) fn check(&self) -> Result<(Pattern, KnownAs), SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        if self.shared.engine.phase() != Phase::Running {
            return Err(SubscribeError::ShuttingDown);
        }
        let (pattern, typed) = self.what.clone().map_err(SubscribeError::Pattern)?;
        let (bytes, max) =
            (self.filters.iter().map(Filter::source_bytes_max).max().unwrap_or(0), EventSource::BYTES_MAX);
        if bytes > max {
            return Err(SubscribeError::SourceTooLong { bytes, max });
        }
        let workers = self.shared.engine.workers();
        if let Some(worker) = self.worker.filter(|&worker| worker >= workers) {
            return Err(SubscribeError::NoWorker { worker, workers });
        }
        self.check_mode()?;
        self.check_spill(&pattern)?;
        self.check_part().map_err(SubscribeError::Service)?;
        let Some((name, rust)) = typed else { return Ok((pattern, KnownAs::UNKNOWN)) };
        let type_id = self.shared.type_id(name);
        self.shared.engine.directory.bind(type_id, name, rust).map_err(SubscribeError::TypeConflict)?;
        // Beyond types_max the bus keeps no Rust types, so nothing it carries there is trusted.
        Ok((pattern, if type_id == 0 { KnownAs::UNKNOWN } else { KnownAs::bound(rust.id) }))
    }

    /// Whether what the subscription may leave in a store is there, and is found again.
    fn check_spill(&self, pattern: &Pattern) -> Result<(), SubscribeError> {
        let Some(source) = &self.spill else {
            let needs_none = self.overflow != Overflow::Spill;
            return if needs_none { Ok(()) } else { Err(SubscribeError::NoSpillSource) };
        };
        let settings = [
            ("a dedup window", self.dedup.is_some()),
            ("a rate limit that rejects", matches!(self.rate, Some((_, OverLimit::Reject)))),
            ("replays", self.replay == ReplayPolicy::Safe),
            ("latest-only delivery", self.mode == DeliveryMode::LatestOnly),
            ("a service", !matches!(self.part, Part::None)),
        ];
        if let Some((setting, _)) = settings.into_iter().find(|(_, is_set)| *is_set) {
            return Err(SubscribeError::SpillWith { setting });
        }
        let is_covered = source.covers(pattern);
        if is_covered { Ok(()) } else { Err(SubscribeError::NotCovered { pattern: pattern.as_str().to_owned() }) }
    }

    fn check_part(&self) -> Result<(), ServiceError> {
        let name = match &self.part {
            Part::None if self.breaker.is_some_and(|policy| policy.goes_on()) => {
                return Err(ServiceError::Setting { setting: "WhileOpen::NextTarget", of_instance: false });
            }
            Part::None => {
                let misplaced = |setting| Err(ServiceError::Setting { setting, of_instance: false });
                return self.misplaced.map_or(Ok(()), misplaced);
            }
            Part::Service(_) => self.name.as_deref().unwrap_or_default(),
            Part::Instance { name, .. } => name,
        };
        let (bytes, max) = (name.len(), RoutingRule::NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(ServiceError::Name { bytes, max });
        }
        if let Part::Service(_) = self.part {
            return Ok(());
        }
        let settings = [
            ("filter", !self.filters.is_empty()),
            ("worker of its own", self.worker.is_some()),
            ("dedup window", self.dedup.is_some()),
            ("rate limit that rejects", matches!(self.rate, Some((_, OverLimit::Reject)))),
            ("overflow policy", self.overflow != Overflow::Block),
            ("latest-only delivery", self.mode == DeliveryMode::LatestOnly),
        ];
        match settings.into_iter().find(|(_, is_set)| *is_set) {
            Some((setting, _)) => Err(ServiceError::Setting { setting, of_instance: true }),
            None => Ok(()),
        }
    }

    fn check_mode(&self) -> Result<(), SubscribeError> {
        let (timeout, min, max) = (self.handler_timeout, Duration::from_millis(1), Duration::from_nanos(CALL_MAX_NS));
        if timeout < min || timeout > max {
            return Err(SubscribeError::HandlerTimeout { timeout, min, max });
        }
        if self.dedup.as_ref().is_some_and(|window| !window.has_time()) {
            return Err(SubscribeError::WindowTime);
        }
        let is_by_key = self.mode == DeliveryMode::LatestOnly && self.latest_by.is_some();
        let (keys_max, max) = (self.keys_max, MAILBOX_MAX);
        if !is_by_key && (self.latest_by.is_some() || keys_max.is_some()) {
            return Err(SubscribeError::NotByKey);
        }
        if let Some(keys_max) = keys_max.filter(|&keys_max| keys_max == 0 || keys_max > max) {
            return Err(SubscribeError::KeysMax { keys_max, max });
        }
        if let Some((rate, over)) = self.rate {
            rate.limiter().map_err(SubscribeError::Rate)?;
            if over == OverLimit::Reject && self.mode == DeliveryMode::LatestOnly {
                return Err(SubscribeError::NewestRejected);
            }
        }
        let DeliveryMode::Reliable { timeout } = self.mode else {
            let settings = [
                (self.order.is_some(), "ordered_by"),
                (self.breaker.is_some(), "breaker"),
                (self.suspend_after > 0, "suspend_after"),
            ];
            return match settings.into_iter().find(|(is_set, _)| *is_set) {
                Some((_, setting)) => Err(SubscribeError::NeedsReliable { setting }),
                None => Ok(()),
            };
        };
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let limits = [
            ("timeout in ms", milliseconds, 1, 24 * 3_600_000),
            ("attempts_max", u64::from(self.retry.attempts_max), 1, u64::from(ATTEMPTS_MAX)),
            ("releases_max", u64::from(self.retry.releases_max), 0, u64::from(RELEASES_MAX)),
        ];
        let of_breaker = self.breaker.iter().flat_map(BreakerPolicy::settings);
        for (setting, value, min, max) in limits.into_iter().chain(of_breaker) {
            if value < min || value > max {
                return Err(SubscribeError::Reliability { setting, value, min, max });
            }
        }
        let ((first, max), limit) = (self.retry.longest(), Duration::from_nanos(WAIT_MAX_NS));
        if first > max || max > limit {
            return Err(SubscribeError::Delays { first, max, limit });
        }
        match self.overflow {
            Overflow::Block | Overflow::DropNewest | Overflow::Spill => Ok(()),
            overflow => Err(SubscribeError::Lossy(overflow)),
        }
    }
}
