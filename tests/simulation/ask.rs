//! Steps of those who ask and of those who answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringmain::{Answer, Meta, Overflow, Pattern, PublishError, RequestError, Requester, SubscribeError};

use crate::draw::Draw;
use crate::parties::{DELIBERATE, Readable};
use crate::requests::{ANSWER, QUERY, Requests};
use crate::scenario::{Grip, Party, Scenario};
use crate::sub::{Action, Sub, Way};
use crate::subjects::{ArchivedSmall, Content, Large, Shape, Small, Spec};

pub(crate) type Asker = Requester<Small, Large>;
type Answered = std::pin::Pin<Box<dyn Future<Output = Result<Answer<Large>, RequestError>>>>;

const REQUESTERS_MAX: usize = 2;
const ASKS_MAX: usize = 8;

/// A request under way.
pub(crate) struct Ask {
    nth: usize,
    /// Given to it when it is polled for the first time.
    number: usize,
    spec: Spec,
    asker: Arc<Asker>,
    future: Answered,
    is_published: bool,
    woken: Arc<Woken>,
}

/// An answer that somebody keeps.
pub(crate) struct Told {
    nth: usize,
    answer: Answer<Large>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Relaxed: all is on one thread.
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Scenario {
    /// Mostly, somebody asks and somebody answers from the start.
    pub(crate) fn begin_requests(&mut self) {
        self.make_requester();
        if !self.draw.one_in(4) {
            self.make_responder();
        }
    }

    /// Something about requests.
    pub(crate) fn tend_requests(&mut self) {
        match self.draw.below(12) {
            0 => self.make_requester(),
            1 => self.make_responder(),
            2..6 => {
                for _ in 0..1 + self.draw.below(3) {
                    self.ask();
                }
            }
            6..9 if !self.asks.is_empty() => {
                let at = self.draw.below(self.asks.len());
                self.look(at);
            }
            9 if !self.asks.is_empty() => {
                let at = self.draw.below(self.asks.len());
                self.cancel(at);
            }
            10 => self.answer_unasked(),
            _ if !self.told.is_empty() => {
                let at = self.draw.below(self.told.len());
                self.let_go(at);
            }
            _ => {}
        }
    }

    fn make_requester(&mut self) {
        let count = self.parties.iter().filter(|party| matches!(party.grip, Grip::Requester(_))).count();
        // Whether the bus lends a publisher once more when it has shut down depends on who had one before.
        if count >= REQUESTERS_MAX || self.is_closed() {
            return;
        }
        let (pending_max, priority) = (self.draw.pick(&[1, 2, 3, 8]), self.draw.pick(&ringmain::Priority::ALL));
        match self.bus().requester_of(QUERY, ANSWER, pending_max) {
            Ok(requester) => {
                self.count("requester made");
                let requester = requester.priority(priority);
                let pattern = Pattern::new(ANSWER.name()).unwrap_or_else(|error| panic!("{error}"));
                let way = Way::Mailbox(pending_max.next_power_of_two() as u64, Overflow::DropNewest);
                let mut sub = Sub::new(pattern, 0b1111, None, None, Some(Shape::Large), way, None);
                sub.requests = Some(Requests::new(pending_max, priority));
                let record = requester.record();
                sub.worker = record.worker;
                let nth = self.world.with(|world| {
                    world.note(format_args!("{} is a requester of {pending_max}", world.subs.len()));
                    world.subs.push(sub);
                    world.subs.len() - 1
                });
                self.parties.push(Party { nth, id: record.id, grip: Grip::Requester(Arc::new(requester)) });
            }
            Err(SubscribeError::NoPublisher { .. }) => {
                self.count("requester refused");
                self.world.with(|world| *world.refused.entry("no_publisher").or_default() += 1);
            }
            Err(error) => self.check(Err(format!("no requester: {error}"))),
        }
    }

    fn make_responder(&mut self) {
        let (nth, mut sub) = (self.world.with(|world| world.subs.len()), self.draw_responder());
        let wish = self.wish(self.bus().subscribe(QUERY), nth, &sub);
        let (world, made_up) = (self.world.clone(), self.draw.next());
        let respond = move |query: &ArchivedSmall, meta: &Meta<'_>| {
            let read = ringmain::Topic::<Small>::content(query).expect("it is read as what it is");
            let mut draw = Draw::new(u128::from(meta.id()) as u64 ^ made_up);
            let answers = world.with(|world| {
                let token = draw.next() ^ world.events.len() as u64;
                let bytes = draw.pick(&[0, 10, 700, 2_000]);
                let mut spec = Spec::plain(&mut draw);
                spec.topic = ANSWER.name();
                spec.content = Content::Large(Large { token, body: vec![7; bytes] });
                (spec.priority, spec.correlation) = (meta.priority(), Some(meta.id()));
                world.answers(nth, meta, read, spec.clone()).then_some(spec.content)
            });
            match answers {
                Some(Content::Large(answer)) => answer,
                _ => std::panic::panic_any(DELIBERATE),
            }
        };
        match wish.respond(ANSWER, respond) {
            Ok(made) => {
                self.count(if sub.trials.is_some() { "responder made: reliable" } else { "responder made" });
                sub.worker = made.record().worker;
                self.world.with(|world| {
                    world.note(format_args!("{nth} is a responder"));
                    world.subs.push(sub);
                });
                self.parties.push(Party { nth, id: made.id(), grip: Grip::Inline(made) });
            }
            Err(SubscribeError::NoPublisher { .. }) => self.count("responder refused"),
            Err(SubscribeError::ShuttingDown) if self.is_closed() => {}
            Err(error) => self.check(Err(format!("no responder: {error}"))),
        }
    }

    /// A request, polled once.
    fn ask(&mut self) {
        let askers: Vec<_> = self
            .parties
            .iter()
            .filter_map(|party| match &party.grip {
                Grip::Requester(requester) => Some((party.nth, Arc::clone(requester))),
                _ => None,
            })
            .collect();
        if askers.is_empty() || self.asks.len() >= ASKS_MAX {
            return;
        }
        let (nth, asker) = askers[self.draw.below(askers.len())].clone();
        let blocks = self.draw.one_in(3);
        if blocks {
            // A request that is refused at once turns no worker, and the model takes it that all of them turn.
            self.run_all();
        }
        let draw = &mut self.draw;
        let timeout = match draw.below(10) {
            0 => Duration::ZERO,
            1 => Duration::MAX,
            _ => Duration::from_millis(draw.pick(&[1, 5_000, 500_000])),
        };
        // No two are asked at one time by the wall clock.
        let asked_at = draw.next() >> 24;
        self.step_wall_clock(asked_at * 1_000_000);
        let token = self.draw.next();
        let query = Small { token, twice: token.wrapping_mul(2) };
        let mut spec = Spec::plain(&mut self.draw);
        (spec.topic, spec.content, spec.created_at) = (QUERY.name(), Content::Small(query), Some(asked_at));
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let (number, is_full, has_responder) = self.world.with(|world| {
            let requests = world.requests(nth);
            spec.priority = requests.priority;
            let is_full = requests.waiting.len() == requests.pending_max;
            (world.begin(nth, timeout_ns), is_full, world.has_responder(spec.priority))
        });
        self.note(format_args!("{nth} asks {number}"));
        let refused = if blocks {
            self.block(nth, number, &spec, &asker, &query, timeout)
        } else {
            let of = Arc::clone(&asker);
            let future: Answered = Box::pin(async move { of.request_async(&query, timeout).await });
            self.poll(Ask { nth, number, spec, asker, future, is_published: false, woken: Default::default() })
        };
        let Some(error) = refused else { return };
        // Refused before it had a place.
        self.world.with(|world| world.requests(nth).waiting.remove(&number));
        let shares = self.world.with(|world| world.overflows_types);
        let right = match &error {
            RequestError::Full { pending_max } => {
                self.count("request refused: full");
                is_full && *pending_max == self.world.with(|world| world.requests(nth).pending_max)
            }
            RequestError::NoResponder { topic } => {
                self.count("request refused: no responder");
                *topic == QUERY.name() && (!has_responder || shares)
            }
            RequestError::ShuttingDown => self.is_closed(),
            _ => false,
        };
        if !right {
            self.check(Err(format!("requester {nth} asks: {error:?}, full {is_full}, responder {has_responder}")));
        }
    }

    /// A request that had a place has failed.
    pub(crate) fn failed(
        &self,
        nth: usize,
        number: usize,
        spec: &Spec,
        error: &RequestError,
        has_waited: bool,
    ) -> Result<(), String> {
        self.world.with(|world| {
            if let RequestError::Publish(error) = error {
                let error: &PublishError = error;
                world.refused(spec, 1, error);
            }
            world.unanswered(nth, number, error, has_waited)
        })
    }

    /// Polls a request. `Some`: it was refused before it had a place.
    fn poll(&mut self, mut ask: Ask) -> Option<RequestError> {
        let (nth, number) = (ask.nth, ask.number);
        let accepted = self.bus().ledger().accepted;
        // Relaxed: all is on one thread.
        ask.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&ask.woken));
        let polled = ask.future.as_mut().poll(&mut Context::from_waker(&waker));
        if self.bus().ledger().accepted > accepted {
            self.count("query published");
            ask.is_published = true;
            self.world.with(|world| world.asked(nth, number, &ask.spec));
        }
        self.note(format_args!("{nth} looks at {number}: {polled:?}"));
        let checked = match polled {
            Poll::Pending => {
                self.count(if ask.is_published { "request waits" } else { "query waits for room" });
                let waits = self.world.with(|world| world.still_waits(nth, number));
                self.asks.push(ask);
                waits
            }
            Poll::Ready(Ok(answer)) => self.take_answer(nth, number, answer),
            Poll::Ready(Err(error @ (RequestError::Full { .. } | RequestError::NoResponder { .. }))) => {
                return Some(error);
            }
            Poll::Ready(Err(error)) => self.failed(nth, number, &ask.spec, &error, false),
        };
        self.check(checked.map_err(|what| format!("request {number} of {nth}: {what}")));
        None
    }

    pub(crate) fn take_answer(&mut self, nth: usize, number: usize, answer: Answer<Large>) -> Result<(), String> {
        let read = ringmain::Topic::<Large>::content(answer.get());
        let result = self.world.with(|world| {
            let id = answer.meta().id();
            if world.index_of(id).is_none() {
                world.learn(&answer.meta());
            }
            let index = world.index_of(id);
            if index.is_none_or(|index| Some(&world.events[index].spec.content) != read.as_ref()) {
                return Err(format!("it was answered otherwise: {read:?}"));
            }
            world.answered(nth, number, id)
        });
        self.told.push(Told { nth, answer });
        if self.draw.one_in(2) {
            self.let_go(self.told.len() - 1);
        }
        result
    }

    /// Somebody has read an answer.
    fn let_go(&mut self, at: usize) {
        let Told { nth, answer } = self.told.swap_remove(at);
        self.world.with(|world| {
            world.requests(nth).kept -= 1;
            world.subs[nth].in_hand -= 1;
            world.subs[nth].acked += 1;
        });
        drop(answer);
    }

    fn look(&mut self, at: usize) {
        let ask = self.asks.swap_remove(at);
        let (nth, number) = (ask.nth, ask.number);
        if let Some(error) = self.poll(ask) {
            self.check(Err(format!("request {number} of {nth} had its place: {error:?}")));
        }
    }

    fn cancel(&mut self, at: usize) {
        let Ask { nth, number, asker, future, .. } = self.asks.swap_remove(at);
        let before = asker.record().ledger;
        drop(future);
        let after = asker.record().ledger;
        self.note(format_args!("{nth} forgets {number}"));
        let checked = self.world.with(|world| world.cancelled(nth, number, after.delivered - before.delivered));
        self.check(checked.map_err(|what| format!("request {number} of {nth}: {what}")));
    }

    /// Somebody answers a query that was asked once, whoever else does.
    fn answer_unasked(&mut self) {
        let nth = self.draw.below(1_000);
        let Some(query) = self.world.with(|world| world.some_query(nth)) else { return };
        let mut spec = Spec::plain(&mut self.draw);
        let token = self.draw.next();
        (spec.topic, spec.content) = (ANSWER.name(), Content::Large(Large { token, body: vec![1; 30] }));
        spec.correlation = Some(query);
        spec.expires_after = self.draw.one_in(4).then(|| Duration::from_millis(self.draw.below(100) as u64));
        self.count("answered by a publisher");
        self.speak(&spec, true);
    }

    /// A requester ends: by its id, or with the last that is asked of it.
    pub(crate) fn end_requester(&mut self, nth: usize, id: ringmain::SubscriptionId, asker: Arc<Asker>) {
        let is_asked = self.asks.iter().any(|ask| ask.nth == nth);
        self.note(format_args!("requester {nth} ends"));
        self.count("requester ended");
        if self.world.with(|world| world.subs[nth].is_live) && (is_asked || self.draw.one_in(2)) {
            self.check(self.bus().unsubscribe(id).map_err(|error| error.to_string()));
        }
        drop(asker);
        self.world.with(|world| world.subs[nth].end());
    }

    /// At the end: whoever asked looks, and lets go of what there is.
    pub(crate) fn ask_all(&mut self) {
        for at in (0..self.asks.len()).rev() {
            let (nth, number) = (self.asks[at].nth, self.asks[at].number);
            let deadline = self.world.with(|world| world.requests(nth).waiting[&number].deadline);
            if deadline == u64::MAX && self.draw.one_in(4) { self.cancel(at) } else { self.look(at) }
        }
        while !self.told.is_empty() {
            self.let_go(self.told.len() - 1);
        }
    }

    /// As many places are taken as there are requests, and answers that nobody waited for have failed.
    pub(crate) fn check_requesters(&self) {
        for party in &self.parties {
            let (nth, Grip::Requester(asker)) = (party.nth, &party.grip) else { continue };
            let waiting = self.world.with(|world| world.requests(nth).waiting.len());
            let late = asker.record().ledger.failed;
            if asker.pending() != waiting || asker.late() != late {
                let is = format!("{} have places, and {} answers were late", asker.pending(), asker.late());
                self.check(Err(format!("{waiting} requests of {nth} wait, {late} answers failed, but {is}")));
            }
        }
    }

    /// After all workers have done what they could: who waits for something that has come has been woken.
    pub(crate) fn check_woken(&self) {
        let sleeps = |ask: &&Ask| {
            // Relaxed: all is on one thread.
            let is_woken = ask.woken.0.load(Ordering::Relaxed);
            !is_woken && self.world.with(|world| world.must_be_woken(ask.nth, ask.number))
        };
        if let Some(ask) = self.asks.iter().find(sleeps) {
            self.check(Err(format!("nobody wakes request {} of {}", ask.number, ask.nth)));
        }
    }

    fn draw_responder(&mut self) -> Sub {
        let mut sub = self.draw_inline();
        sub.pattern = Pattern::new(QUERY.name()).unwrap_or_else(|error| panic!("{error}"));
        (sub.source, sub.divisor, sub.shape) = (None, None, Some(Shape::Small));
        sub.moods = sub.moods.map(|(one_in, _)| (one_in + 1, Action::Panic));
        // Where queries are much alike few would be answered.
        sub.dedup = sub.dedup.filter(|window| !window.by.is_by_id() && self.draw.one_in(3));
        if self.draw.one_in(2) {
            sub.lanes = 0b1111;
        }
        if let Some(trials) = &mut sub.trials {
            trials.rule.order = trials.rule.order.filter(|order| !order.is_by_id());
        }
        sub
    }
}
