//! Events whose ids nobody tells the model: queries and answers, which the bus publishes for others. Their first reader says them.

use ringmain::{EventId, Meta, Outcome};

use crate::requests::{ANSWER, QUERY};
use crate::sub::{Action, Sub};
use crate::subjects::{Content, Spec};
use crate::world::{Event, World};

/// A responder has come to an answer, and has not heard yet whether it was published.
pub(crate) struct Answering {
    pub(crate) nth: usize,
    pub(crate) query: usize,
    pub(crate) spec: Spec,
}

/// Whether events of this topic get their ids unseen.
pub(crate) fn is_of_requests(topic: &str) -> bool {
    topic == QUERY.name() || topic == ANSWER.name()
}

impl Sub {
    /// It goes by ids, or tells of events that nobody has read: then the filter keeps it from events of requests.
    pub(crate) fn is_kept_from_requests(&self) -> bool {
        let order = self.trials.as_ref().and_then(|trials| trials.rule.order);
        let by = self.newest.as_ref().and_then(|newest| newest.by);
        let likenesses = [order, by, self.dedup.as_ref().map(|window| window.by)];
        let reads_ids = self.divisor.is_some() || likenesses.into_iter().flatten().any(|by| by.is_by_id());
        reads_ids || self.trials.is_some() && !self.is_responder()
    }

    pub(crate) fn is_responder(&self) -> bool {
        self.pattern.as_str() == QUERY.name()
    }
}

impl World {
    /// An event was accepted whose id is not known. Returns what the model calls it.
    pub(crate) fn accepted_unnamed(&mut self, spec: &Spec, deadline: Option<u64>) -> usize {
        let index = self.events.len();
        self.unnamed.push(index);
        // An id that nothing else has: no publisher's time is that late.
        let id = EventId::from(u128::MAX - index as u128);
        self.note(format_args!("accepted {index} {} {}", spec.topic, spec.priority));
        let event = Event::new(id, spec, "service:ringmain".to_owned(), deadline, None, true);
        self.enter(event);
        index
    }

    fn name(&mut self, index: usize, id: EventId) {
        self.unnamed.retain(|&unnamed| unnamed != index);
        self.events[index].id = id;
        if self.by_id.insert(id, index).is_some() {
            self.broken(format!("id {id} came twice"));
        }
        self.query_named(index);
    }

    /// Somebody reads an event whose id is not known: no two have the same token.
    pub(crate) fn learn(&mut self, meta: &Meta<'_>) {
        let is_it = |&index: &usize| {
            let spec = &self.events[index].spec;
            let token = match &spec.content {
                Content::Small(small) => small.token,
                Content::Large(large) => large.token,
                Content::Text(_) | Content::Raw(_) => return false,
            };
            spec.topic == meta.topic() && meta.payload().bytes().windows(8).any(|bytes| bytes == token.to_le_bytes())
        };
        if let Some(index) = self.unnamed.iter().copied().find(is_it) {
            self.name(index, meta.id());
        }
    }

    /// A query that nobody has read has come to its end: its id tells when it was asked, and no two were asked at one time.
    pub(crate) fn learn_by_time(&mut self, id: EventId) {
        let asked_at = (u128::from(id) >> 80) as u64;
        let is_it = |&index: &usize| self.events[index].spec.created_at == Some(asked_at);
        if let Some(index) = self.unnamed.iter().copied().find(is_it) {
            self.name(index, id);
        }
    }

    /// A responder gets a query. Returns its answer; `None`: it is to panic.
    pub(crate) fn answers(&mut self, nth: usize, meta: &Meta<'_>, read: Content, answer: Spec) -> bool {
        let sight = self.see(nth, meta, Some(read), None);
        if sight.action == Action::Panic {
            self.census.count("responder panicked");
            self.responded(nth, sight.index, Outcome::Failed(String::new()));
            return false;
        }
        self.answering = Some(Answering { nth, query: sight.index, spec: answer });
        true
    }

    fn responded(&mut self, nth: usize, query: usize, outcome: Outcome) {
        // A handler on the lane has nothing in hand.
        self.subs[nth].in_hand += u64::from(self.subs[nth].trials.is_none());
        self.finished(nth, query, &outcome);
    }

    /// Whatever happens next: a responder that has not failed has published its answer.
    pub(crate) fn answer_is_out(&mut self) {
        let Some(Answering { nth, query, spec }) = self.answering.take() else { return };
        self.census.count("answer published");
        self.responded(nth, query, Outcome::Ack);
        self.accepted_unnamed(&spec, None);
        if spec.content.is_too_large() || self.is_closed {
            self.broken(format!("an answer was accepted, closed {}: {spec:?}", self.is_closed));
        }
    }

    /// The bus says that handler `nth` failed at an event: a responder, whose answer was refused.
    pub(crate) fn answer_is_refused(&mut self, nth: usize, id: EventId, error: &str) {
        let query = self.index_of(id);
        let Some(answering) = self.answering.take_if(|one| one.nth == nth && Some(one.query) == query) else { return };
        self.census.count("answer refused");
        self.note(format_args!("answer refused: {error}"));
        self.refused_untold += 1;
        self.responded(nth, answering.query, Outcome::Failed(String::new()));
    }
}
