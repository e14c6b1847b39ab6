//! What stands before the lanes when a bus is told so: rate limits, and memory pressure for what is Low.
//!
//! An event passes all limits on it before it goes into a lane, and gives back what it has taken when the lane has no room.
//! The short way of `plain.rs` is for events that nothing limits: whoever meets a newer list of limits, or a topic under
//! one, goes the long way, which ends here.

use std::sync::Arc;

use ahash::AHashMap;

use crate::event::{Header, Meta, Priority};
use crate::worker::{Engine, Phase};

use super::super::rate_limit::{Ids, RateLimits, Rules, Spent, Which, left};
use super::{FullPolicy, PublishError, Publisher, closed};

/// The limits as a publisher knows them.
#[derive(Debug)]
pub(super) struct Permits {
    limits: Arc<RateLimits>,
    rules: Arc<Rules>,
    /// Limits on the topics this publisher has met.
    on_types: AHashMap<u32, Which>,
    /// The latest event's, and the limits on them.
    latest: (Ids, Which),
}

/// The limits on an event, and when it passed them.
#[derive(Debug, Clone, Copy)]
pub(in crate::bus) struct Permit {
    ids: Ids,
    which: Which,
    taken: u64,
}

const NOBODY: Ids = Ids { type_id: 0, source_id: 0 };

impl Permits {
    pub(super) fn new(limits: Arc<RateLimits>) -> Self {
        let rules = limits.rules();
        Self { limits, rules, on_types: AHashMap::new(), latest: (NOBODY, 0) }
    }

    /// Takes the newest list over, in the memory of the one before.
    fn renew(&mut self) {
        self.rules = self.limits.rules();
        self.on_types.clear();
        self.latest = (NOBODY, 0);
    }

    /// The limits on an event. One without numbers is looked at each time; `name` is its topic's then, or when the
    /// topic is new.
    fn on<'n>(&mut self, ids: Ids, name: impl FnOnce() -> Option<&'n str>) -> Which {
        if self.latest.0 == ids && ids.type_id != 0 {
            return self.latest.1;
        }
        let on_type = match self.on_types.get(&ids.type_id) {
            Some(&which) => which,
            None => {
                let which = name().map_or(0, |name| self.rules.on_type(name));
                if ids.type_id != 0 {
                    self.on_types.insert(ids.type_id, which);
                }
                which
            }
        };
        let which = on_type | self.rules.on_source(ids.source_id);
        self.latest = (ids, which);
        which
    }
}

impl Publisher {
    /// Whether events of this priority go the long way, where they may be refused before their lane is full.
    #[inline(always)]
    pub(super) fn is_careful(&self, priority: Priority) -> bool {
        priority == Priority::Low && self.may_refuse_low
    }

    /// To be asked when the policy was set.
    pub(super) fn may_refuse_low(policy: FullPolicy, engine: &Engine) -> bool {
        policy.may_shed(Priority::Low) || engine.pressure.share().is_some()
    }

    /// Takes over a newer list of limits. The latest topic may be under one of them now.
    #[inline]
    fn renew_permits(&mut self) {
        if self.slot.is_told() {
            self.slot.heed();
            self.permits.renew();
            self.latest.forget();
        }
    }

    /// Whether events of a topic from this publisher's source are under a rate limit.
    pub(super) fn is_limited(&mut self, type_id: u32, name: &str) -> bool {
        self.renew_permits();
        !self.permits.rules.is_empty()
            && self.permits.on(Ids { type_id, source_id: self.source_id }, || Some(name)) != 0
    }

    /// Looks whether the list of limits is still the newest, and whether an event of this priority has to wait for memory.
    /// Returns whether there are limits at all.
    #[inline]
    pub(in crate::bus) fn look_ahead(&mut self, priority: Priority) -> Result<bool, PublishError> {
        self.renew_permits();
        if priority == Priority::Low && self.engine.pressure.is_on() {
            self.bear_pressure()?;
        }
        Ok(!self.permits.rules.is_empty())
    }

    /// Refuses a Low event while there is memory pressure.
    #[cold]
    fn bear_pressure(&self) -> Result<(), PublishError> {
        let engine = &*self.engine;
        let fill = engine.feel_pressure();
        match engine.pressure.share() {
            Some(share) if engine.pressure.is_on() => Err(PublishError::MemoryPressure {
                fill_percent: (fill * 100.0) as u8,
                share_percent: (share * 100.0).round() as u8,
            }),
            _ => Ok(()),
        }
    }

    /// The limits on an event, whose extension and payload are `rest`.
    pub(in crate::bus) fn limits_on(&mut self, header: &Header, rest: &[u8]) -> Permit {
        let engine = &*self.engine;
        let ids = Ids { type_id: header.type_id, source_id: header.source_id };
        let name = || match ids.type_id {
            0 => Meta::new(header, rest, 0, &engine.directory).ok().map(|meta| meta.topic()),
            id => engine.directory.type_name(id),
        };
        Permit { ids, which: self.permits.on(ids, name), taken: 0 }
    }

    /// Lets an event pass all limits on it, or none.
    pub(in crate::bus) fn pass(&self, permit: &mut Permit) -> Result<(), PublishError> {
        if permit.which == 0 {
            return Ok(());
        }
        // Who closes the bus wakes those who wait for a limit.
        if self.engine.phase() != Phase::Running {
            return Err(closed(&self.engine));
        }
        permit.taken = self.engine.directory.clock.now();
        self.permits.rules.pass(permit.which, permit.ids, permit.taken).map_err(|Spent { limit, until, queues }| {
            PublishError::RateLimited { limit, retry_after: left(until, permit.taken), queues }
        })
    }

    /// An event that passed was not published.
    #[cold]
    pub(in crate::bus) fn give_back(&self, permit: &Permit) {
        if permit.which != 0 {
            let now = self.engine.directory.clock.now();
            self.permits.rules.give_back(permit.which, permit.ids, permit.taken, now);
        }
    }

    /// What to say of a batch that a limit keeps back: when all of its events may pass together, or that they never may.
    /// `refused` is the event that was kept back; nothing of the batch has passed, or has given back what it took.
    #[cold]
    pub(in crate::bus) fn all_or_never(&self, error: PublishError, refused: Permit, batch: &[Permit]) -> PublishError {
        let PublishError::RateLimited { limit, queues, .. } = error else { return error };
        let rules = &self.permits.rules;
        let is_under =
            |event: &&Permit| event.which & 1 << limit != 0 && rules.is_shared_by(limit, event.ids, refused.ids);
        let events = batch.iter().filter(is_under).count();
        let now = self.engine.directory.clock.now();
        match rules.all_pass_at(limit, refused.ids, u32::try_from(events).unwrap_or(u32::MAX), now) {
            Ok(until) => PublishError::RateLimited { limit, retry_after: left(until, now), queues },
            Err(burst) => PublishError::BatchOverRate { limit, events, burst },
        }
    }
}
