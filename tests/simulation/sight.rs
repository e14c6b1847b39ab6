//! An event comes to a consumer: is it the right one, at the right time, as it was published?

use ringmain::{Meta, Outcome};

use crate::sub::{Action, Way};
use crate::subjects::Content;
use crate::world::{World, lane_of};

/// An event that a consumer gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) action: Action,
    pub(crate) index: usize,
    /// Names the attempt, under reliable delivery.
    pub(crate) token: u64,
}

impl World {
    /// A subscription gets an event. Returns what it makes of it.
    pub(crate) fn see(&mut self, nth: usize, meta: &Meta<'_>, read: Option<Content>, skipped: Option<u64>) -> Sight {
        let id = meta.id();
        if self.index_of(id).is_none() {
            self.learn(meta);
        }
        let Some(index) = self.index_of(id) else {
            self.broken(format!("subscription {nth} got {id}, which nobody published"));
            return Sight { action: Action::Ack, index: 0, token: 0 };
        };
        let now = self.now;
        self.note(format_args!("seen {index} by {nth} at {now} as {}", meta.sequence()));
        let sight = self.check_sight(nth, index, meta, read).and_then(|()| self.check_way(nth, index, meta, skipped));
        let token = sight.unwrap_or_else(|what| {
            let (event, sub) = (&self.events[index], &self.subs[nth]);
            let what = format!("subscription {nth}, event {index}: {what}; {event:?} {sub:?}");
            self.broken(what);
            0
        });
        let relayed = self.events[index].is_relayed;
        let action = match self.subs[nth].moods {
            Some((_, Action::Relay)) if relayed => Action::Ack,
            Some((one_in, action)) if (u128::from(id) >> 3).is_multiple_of(one_in) => action,
            _ => Action::Ack,
        };
        Sight { action, index, token }
    }

    /// A consumer has come to this outcome, and is about to say so.
    pub(crate) fn finished(&mut self, nth: usize, index: usize, outcome: &Outcome) {
        let sub = &mut self.subs[nth];
        if sub.trials.is_some() {
            return self.settling(nth, index, outcome);
        }
        sub.in_hand -= 1;
        let is_overrun = sub.is_overrun();
        sub.call = None;
        if *outcome == Outcome::Ack && !is_overrun {
            sub.acked += 1;
        } else {
            sub.failed += 1;
        }
    }

    /// A consumer is about to drop an event without a word. Returns whether that counts.
    pub(crate) fn dropped(&mut self, nth: usize, index: usize, token: u64) -> bool {
        // What comes too late once its books are closed may be in none.
        let is_live = self.subs[nth].is_live && !self.subs[nth].is_closed;
        match &mut self.subs[nth].trials {
            None => self.finished(nth, index, &Outcome::Ack),
            Some(trials) if trials.is_current(index, token) => {
                self.settling(nth, index, &Outcome::Failed(String::new()));
            }
            Some(trials) => {
                trials.taken_away -= 1;
                *if is_live { &mut trials.late } else { &mut trials.late_after } += 1;
                self.census.count("too late");
                self.note(format_args!("{nth} is too late with {index}"));
                return false;
            }
        }
        true
    }

    /// What depends on how hard the subscription tries. Returns the name of a reliable attempt.
    fn check_way(&mut self, nth: usize, index: usize, meta: &Meta<'_>, skipped: Option<u64>) -> Result<u64, String> {
        let (told, now) = (self.events[index].spec.attempt, self.now);
        if self.subs[nth].admit(now, self.is_stopped)? {
            self.census.count("probe made");
        }
        if self.subs[nth].trials.is_some() {
            let (token, failures) = self.attempt(nth, index, meta.attempt())?;
            return if meta.attempt() == told.saturating_add(failures) {
                Ok(token)
            } else {
                Err(format!("attempt {} of an event that has failed {failures} times", meta.attempt()))
            };
        }
        if meta.attempt() != told {
            return Err("its envelope changed".to_owned());
        }
        if !self.subs[nth].is_inline {
            self.subs[nth].in_hand += 1;
            self.subs[nth].call = self.subs[nth].call_max_ns.map(|limit| (now.saturating_add(limit), false));
        }
        if self.subs[nth].instance().is_some() {
            return self
                .lands(nth, index, meta.attempt())
                .map_or_else(|| self.leaves_service(nth, index), |_| Ok(()))
                .map(|()| 0);
        }
        if self.subs[nth].newest.is_some() {
            return self.take_newest(nth, index, skipped).map(|()| 0);
        }
        self.check_next(nth, index)?;
        self.passes_throttle(nth, index)?;
        if self.subs[nth].way == Way::Inline {
            self.let_in(nth, index)?;
        }
        self.take(nth, index).map(|()| 0)
    }

    fn check_sight(&mut self, nth: usize, index: usize, meta: &Meta<'_>, read: Option<Content>) -> Result<(), String> {
        let now = self.now;
        let (first, accepted) = (self.first_sequence, self.events.len());
        let (event, sub) = (&mut self.events[index], &mut self.subs[nth]);
        let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        check(event.deadline.is_none_or(|deadline| now <= deadline), "delivered after its deadline")?;
        check(event.due.is_none_or(|due| now >= due), "delivered before its time")?;
        check(meta.topic() == event.spec.topic && meta.priority() == event.spec.priority, "topic or priority changed")?;
        check(meta.source() == event.source, "its source changed")?;
        check(meta.correlation() == event.spec.correlation, "its correlation changed")?;
        check(meta.get("user") == event.spec.metadata, "its envelope changed")?;
        let bytes = meta.payload().bytes();
        let same = match (&event.spec.content, &read) {
            (content, Some(read)) => read == content,
            (Content::Text(text), None) => meta.payload().text() == Some(text),
            (Content::Raw(raw), None) => bytes == raw,
            (Content::Small(_) | Content::Large(_), None) => !bytes.is_empty(),
        };
        check(same, "its payload changed")?;
        let place = meta.sequence().wrapping_sub(first);
        if event.sequence.is_none() {
            event.known_since = accepted;
        }
        check(*event.sequence.get_or_insert(place) == place, "two subscriptions saw it at two places of its lane")?;
        if sub.is_inline {
            check(sub.is_live, "the handler was called after its subscription had ended")?;
            check(!sub.is_paused, "the handler was called while it was paused")?;
            check(self.is_turning, "the handler was called while no worker turned")?;
        }
        Ok(())
    }

    /// Under best effort: it comes in its turn, and once.
    fn check_next(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let now = self.now;
        let (event, sub) = (&self.events[index], &mut self.subs[nth]);
        let (lane, place) = (lane_of(event.spec.priority), event.sequence);
        if sub.last[lane] >= place {
            return Err("it came again, or out of order".to_owned());
        }
        sub.last[lane] = place;
        if let Some(at) = sub.loose.iter().position(|&loose| loose == index) {
            sub.loose.swap_remove(at);
            return Ok(());
        }
        let position = sub.expected[lane].iter().position(|&expected| expected == index);
        let position = position.ok_or("it is not to get this event, or not again")?;
        let skipped: Vec<_> = sub.expected[lane].drain(..=position).take(position).collect();
        for skipped in skipped {
            let missed = &self.events[skipped];
            if !self.subs[nth].skip(missed, now) {
                return Err(format!("event {skipped} before it never came"));
            }
        }
        Ok(())
    }
}
