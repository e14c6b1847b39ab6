//! Requests as they ought to be: each has its own answer or a reason why not, and nobody else's.
//!
//! A requester is a subscription of the model, to the answers to its own queries. What its worker brings to a request stays in
//! hand until whoever asked lets go of it.

use std::collections::{BTreeMap, HashMap};

use ringmain::{EventId, Priority, RequestError, SubscriptionLedger, Topic};

use crate::sub::Way;
use crate::subjects::{Large, Small, Spec};
use crate::world::World;

pub(crate) const QUERY: Topic<Small> = Topic::new("sim.query");
pub(crate) const ANSWER: Topic<Large> = Topic::new("sim.answer");

/// Whether the answer to a request has been brought to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    No,
    Maybe,
    Yes,
}

/// A request that has a place.
#[derive(Debug)]
pub(crate) struct Request {
    begun: u64,
    pub(crate) deadline: u64,
    /// Its event, once it is published.
    pub(crate) query: Option<usize>,
    brought: Brought,
    /// Answers to it that are on their way.
    coming: Vec<usize>,
}

/// All requests of one requester.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) pending_max: usize,
    pub(crate) priority: Priority,
    /// By their numbers.
    pub(crate) waiting: BTreeMap<usize, Request>,
    made: usize,
    /// The numbers of their requests, by the events that ask.
    by_event: HashMap<usize, usize>,
    /// By the ids of their queries, all there ever were.
    by_query: HashMap<EventId, usize>,
    /// Answers in users' hands.
    pub(crate) kept: u64,
    /// Some answer found no cell since all that came was brought.
    has_lost: bool,
}

/// A request that blocks has been made, and nobody has looked since.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) nth: usize,
    pub(crate) number: usize,
    pub(crate) spec: Spec,
}

impl Requests {
    pub(crate) fn new(pending_max: usize, priority: Priority) -> Self {
        let (waiting, by_event, by_query) = Default::default();
        Self { pending_max, priority, waiting, made: 0, by_event, by_query, kept: 0, has_lost: false }
    }

    pub(crate) fn is_asked(&self, query: EventId) -> bool {
        self.by_query.contains_key(&query)
    }

    fn count(&self, brought: Brought) -> u64 {
        self.waiting.values().filter(|request| request.brought == brought).count() as u64
    }
}

impl World {
    pub(crate) fn requests(&mut self, nth: usize) -> &mut Requests {
        self.subs[nth].requests.as_mut().expect("asked of requesters only")
    }

    /// Whether anybody subscribes to queries of this priority.
    pub(crate) fn has_responder(&self, priority: Priority) -> bool {
        self.subs.iter().any(|sub| sub.wants_kind(QUERY.name(), priority))
    }

    /// A request is polled for the first time. Returns its number.
    pub(crate) fn begin(&mut self, nth: usize, timeout_ns: u64) -> usize {
        let begun = self.now;
        let requests = self.requests(nth);
        let deadline = begun.saturating_add(timeout_ns);
        let request = Request { begun, deadline, query: None, brought: Brought::No, coming: Vec::new() };
        requests.made += 1;
        requests.waiting.insert(requests.made, request);
        requests.made
    }

    /// The query of a request was published, to be seen before its time is over.
    pub(crate) fn asked(&mut self, nth: usize, number: usize, spec: &Spec) {
        let deadline = self.requests(nth).waiting.get(&number).map(|request| request.deadline);
        let index = self.accepted_unnamed(spec, deadline);
        let requests = self.requests(nth);
        requests.by_event.insert(index, number);
        if let Some(request) = requests.waiting.get_mut(&number) {
            request.query = Some(index);
        }
    }

    /// A query got its id.
    pub(crate) fn query_named(&mut self, index: usize) {
        let id = self.events[index].id;
        for requests in self.subs.iter_mut().filter_map(|sub| sub.requests.as_mut()) {
            if let Some(&number) = requests.by_event.get(&index) {
                requests.by_query.insert(id, number);
            }
        }
    }

    /// An event was accepted that may be an answer.
    pub(crate) fn answer_accepted(&mut self, index: usize) {
        let Self { events, subs, .. } = self;
        let event = &events[index];
        let Some(query) = event.spec.correlation.filter(|_| event.spec.topic == ANSWER.name()) else { return };
        for requests in subs.iter_mut().filter(|sub| sub.is_live).filter_map(|sub| sub.requests.as_mut()) {
            let number = requests.by_query.get(&query);
            if let Some(request) = number.and_then(|number| requests.waiting.get_mut(number)) {
                request.coming.push(index);
            }
        }
    }

    /// Workers turned: what came to a requester was brought to requests, each of which gets one, or to nobody.
    pub(crate) fn check_requester(
        &mut self,
        nth: usize,
        before: &SubscriptionLedger,
        after: &SubscriptionLedger,
        is_at_rest: bool,
    ) -> Result<(), String> {
        let Self { subs, events, now, is_closed, census, overruns, .. } = self;
        let sub = &mut subs[nth];
        let (Some(requests), Way::Mailbox(cells, _)) = (&mut sub.requests, sub.way) else { return Ok(()) };
        let over = after.dropped.overflow - before.dropped.overflow;
        // An answer that comes is brought before the next one, unless a pause has kept some in their cells.
        let is_full = after.in_flight + after.queued == cells || before.queued > 0;
        if over > 0 && !is_full && !*is_closed {
            return Err(format!("{over} answers found no cell, and there is one: {before:?} became {after:?}"));
        }
        if after.in_flight < before.in_flight || after.delivered != before.delivered {
            return Err(format!("answers have gone that were brought: {before:?} became {after:?}"));
        }
        if after.failed > before.failed {
            census.count("answer that nobody waits for");
        }
        if over > 0 {
            census.count("answer without a cell");
        }
        requests.has_lost |= over > 0;
        let has_all = is_at_rest && after.queued == 0 && !*is_closed;
        for request in requests.waiting.values_mut().filter(|request| request.brought != Brought::Yes) {
            let is_there_at =
                |then: u64| request.coming.iter().any(|&index| events[index].deadline.is_none_or(|due| then <= due));
            if is_there_at(overruns.begun) {
                // Nobody knows on which side of a handler that took its time it was looked at.
                let is_in_time = is_there_at(*now) && *now < request.deadline;
                let is_sure = has_all && !requests.has_lost && is_in_time && request.brought == Brought::No;
                request.brought = if is_sure { Brought::Yes } else { Brought::Maybe };
            }
        }
        if has_all {
            requests.waiting.values_mut().for_each(|request| request.coming.clear());
            requests.has_lost = false;
        }
        let least = requests.count(Brought::Yes) + requests.kept;
        if !(least..=least + requests.count(Brought::Maybe)).contains(&after.in_flight) {
            return Err(format!("{requests:?} have their answers, but {after:?}"));
        }
        (sub.in_hand, sub.failed) = (after.in_flight, after.failed);
        Ok(())
    }

    /// Whoever asked looks, and nothing has come of it yet.
    pub(crate) fn still_waits(&mut self, nth: usize, number: usize) -> Result<(), String> {
        let (now, is_over) = (self.now, self.is_closed || self.subs[nth].is_closed);
        let Some(request) = self.requests(nth).waiting.get_mut(&number) else { return Ok(()) };
        if request.brought == Brought::Yes || request.deadline <= now || is_over {
            return Err(format!("it waits, closed {is_over}: {request:?}"));
        }
        request.brought = Brought::No;
        Ok(())
    }

    /// Whoever asked gets an answer: the event `id`.
    pub(crate) fn answered(&mut self, nth: usize, number: usize, id: EventId) -> Result<(), String> {
        self.census.count("request answered");
        let Some(request) = self.requests(nth).waiting.remove(&number) else { return Err("it was over".to_owned()) };
        self.requests(nth).kept += 1;
        let index = self.index_of(id).ok_or("nobody published its answer")?;
        let answer = &self.events[index];
        let is_its = request.query.is_some_and(|query| answer.spec.correlation == Some(self.events[query].id));
        if !is_its || answer.spec.topic != ANSWER.name() || request.brought == Brought::No {
            return Err(format!("event {index} is no answer to {request:?}: {answer:?}"));
        }
        Ok(())
    }

    /// Whatever happens while a request blocks, its query has been published: workers turn after that.
    pub(crate) fn query_is_out(&mut self) {
        if let Some(Asking { nth, number, spec }) = self.asking.take() {
            self.asked(nth, number, &spec);
        }
    }

    /// A request ends without an answer; `has_waited`: until nothing was left to do.
    pub(crate) fn unanswered(
        &mut self,
        nth: usize,
        number: usize,
        error: &RequestError,
        has_waited: bool,
    ) -> Result<(), String> {
        let (now, is_over) = (self.now, self.is_closed || self.subs[nth].is_closed);
        let Some(request) = self.requests(nth).waiting.remove(&number) else { return Err("it was over".to_owned()) };
        let right = match error {
            RequestError::TimedOut { after } => {
                self.census.count("request timed out");
                (has_waited || now >= request.deadline) && after.as_nanos() == u128::from(now - request.begun)
            }
            RequestError::ShuttingDown => {
                self.census.count("request, and the bus or its requester ended");
                is_over
            }
            RequestError::Publish(_) => request.query.is_none(),
            _ => false,
        };
        if right && request.brought != Brought::Yes {
            return Ok(());
        }
        Err(format!("{error:?}, closed {is_over}, of {request:?}"))
    }

    /// Whoever asked lets go of a request before anything came of it; `had`: answers that went with it.
    pub(crate) fn cancelled(&mut self, nth: usize, number: usize, had: u64) -> Result<(), String> {
        self.census.count("request cancelled");
        let Some(request) = self.requests(nth).waiting.remove(&number) else { return Err("it was over".to_owned()) };
        let sub = &mut self.subs[nth];
        sub.acked += had;
        sub.in_hand -= had;
        match (request.brought, had) {
            (Brought::Yes, 1) | (Brought::No, 0) | (Brought::Maybe, 0 | 1) => Ok(()),
            _ => Err(format!("{had} answers went with {request:?}")),
        }
    }

    /// Whether somebody who asked must have been woken by now.
    pub(crate) fn must_be_woken(&self, nth: usize, number: usize) -> bool {
        let sub = &self.subs[nth];
        let request = sub.requests.as_ref().and_then(|requests| requests.waiting.get(&number));
        request.is_some_and(|request| {
            request.brought == Brought::Yes || request.deadline <= self.now || self.is_stopped || sub.is_closed
        })
    }

    /// An id of a query that has been asked, for those who answer without being a responder.
    pub(crate) fn some_query(&self, nth: usize) -> Option<EventId> {
        let queries = (0..self.events.len()).filter(|&index| self.events[index].spec.topic == QUERY.name());
        let named: Vec<_> = queries.filter(|index| !self.unnamed.contains(index)).collect();
        named.get(nth % named.len().max(1)).map(|&index| self.events[index].id)
    }
}
