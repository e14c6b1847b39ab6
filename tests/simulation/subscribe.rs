//! Steps that subscribe, pause and unsubscribe.

use std::time::Duration;

use ringmain::{
    DedupWindow, DeliveryMode, Filter, Overflow, Pattern, Priority, RetryPolicy, Subscribe, SubscribeError,
    SubscriptionId,
};

use crate::breaker::{Breaker, Limits};
use crate::draw::Draw;
use crate::keys::Likeness;
use crate::newest::Newest;
use crate::pace::Pace;
use crate::parties::{Calling, DELIBERATE, Listener, Readable, outcome_of, show};
use crate::scenario::{Grip, Party, Scenario};
use crate::sub::{Action, Sub, Way, Window};
use crate::subjects::{LARGE, PATTERNS, SMALL, SOURCES, Shape, some_time};
use crate::trials::{Rule, Trials};
use crate::unnamed::is_of_requests;
use crate::world::lane_of;

/// Subscriptions at once: more would make every scenario the same.
const SUBS_MAX: usize = 8;

/// How a subscription is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Inline,
    Mailbox,
    Future,
}

/// How long the handler of a future may have an event: the default in half of the cases.
pub(crate) fn draw_call_max_ns(draw: &mut Draw) -> u64 {
    let limit = draw.one_in(2).then(|| Duration::from_millis(draw.pick(&[1, 5, 100])));
    limit.unwrap_or(Duration::from_secs(30)).as_nanos() as u64
}

impl Scenario {
    fn draw_sub(&mut self, form: Form) -> Sub {
        let draw = &mut self.draw;
        let shape = match draw.below(5) {
            0 => Some(Shape::Small),
            1 => Some(Shape::Large),
            _ => None,
        };
        let text = match shape {
            Some(Shape::Small) => SMALL.name(),
            Some(Shape::Large) => LARGE.name(),
            None => draw.pick(&PATTERNS),
        };
        let pattern = Pattern::new(text).unwrap_or_else(|error| panic!("{error}"));
        let least = if draw.one_in(4) { draw.pick(&Priority::ALL) } else { Priority::Low };
        let lanes = Priority::ALL.into_iter().filter(|&one| one >= least).fold(0, |all, one| all | 1 << lane_of(one));
        let source = draw.one_in(8).then(|| draw.pick(&SOURCES));
        let divisor = draw.one_in(5).then(|| 2 + draw.below(4) as u128);
        let mode = draw.below(10);
        let (is_reliable, is_newest) = (mode < 4, mode == 4 && form != Form::Inline);
        let cells = draw.pick(&[1, 2, 4, 16]);
        let pace = draw.one_in(4).then(|| {
            let rejects = !is_newest && draw.one_in(2);
            Pace::draw(draw, rejects)
        });
        // What waits for its rate has a cell.
        let waits = pace.as_ref().is_some_and(|pace| !pace.rejects);
        let way = match form {
            Form::Inline if !is_reliable && !waits => Way::Inline,
            _ if is_reliable => Way::Mailbox(cells, draw.pick(&[Overflow::Block, Overflow::DropNewest])),
            _ => Way::Mailbox(cells, draw.pick(&[Overflow::Block, Overflow::DropNewest, Overflow::DropOldest])),
        };
        let actions: &[Action] = match form {
            Form::Inline => &[Action::Fail, Action::Panic, Action::Relay],
            Form::Mailbox => &[Action::Fail],
            Form::Future => &[Action::Fail, Action::Fail, Action::Fail, Action::Panic],
        };
        let moods = draw.one_in(2).then(|| (1 + draw.below(5) as u128, draw.pick(actions)));
        // What a handler cannot read takes its share of the rate, and under best effort nobody tells of it.
        let shape = shape.filter(|_| !waits || is_reliable || form != Form::Inline);
        let mut sub = Sub::new(pattern, lanes, source, divisor, shape, way, moods);
        sub.pace = pace;
        sub.is_inline = form == Form::Inline;
        sub.is_pulled = form == Form::Mailbox;
        sub.call_max_ns = match form {
            Form::Future => Some(draw_call_max_ns(draw)),
            Form::Inline => self.world.with(|world| world.overruns.draw_call_max_ns()),
            Form::Mailbox => None,
        };
        sub.trials = is_reliable.then(|| Trials::new(draw_rule(draw)));
        sub.breaker = (is_reliable && draw.one_in(3)).then(|| Breaker::new(Limits::draw(draw, false)));
        let keys_max = 1 + draw.below(6);
        sub.newest = is_newest.then(|| Newest::new(draw.one_in(2).then(|| Likeness::draw_calm(draw)), keys_max));
        sub.dedup = draw.one_in(6).then(|| {
            let time = if draw.one_in(2) { Duration::from_secs(3_600) } else { some_time(draw) };
            // A window of no time is refused.
            Window::new(Likeness::draw(draw), (time.as_nanos() as u64).max(1), draw.one_in(2))
        });
        sub
    }

    pub(crate) fn draw_inline(&mut self) -> Sub {
        self.draw_sub(Form::Inline)
    }

    /// As `sub` says.
    pub(crate) fn wish<I: Readable>(&self, subscribe: Subscribe<I>, nth: usize, sub: &Sub) -> Subscribe<I> {
        self.wish_named(subscribe.named(nth.to_string()).filter(self.filters(sub)), sub)
    }

    pub(crate) fn wish_named<I: Readable>(&self, mut wish: Subscribe<I>, sub: &Sub) -> Subscribe<I> {
        if let Way::Mailbox(cells, overflow) = sub.way {
            wish = wish.capacity(cells as usize).overflow(overflow);
        }
        if let Some(trials) = &sub.trials {
            let rule = &trials.rule;
            let (first, max) = (Duration::from_nanos(rule.first_delay_ns), Duration::from_nanos(rule.delay_max_ns));
            let retry = RetryPolicy::default().attempts_max(rule.attempts_max).releases_max(rule.releases_max);
            let timeout = Duration::from_nanos(rule.timeout_ns);
            wish = wish.mode(DeliveryMode::Reliable { timeout }).retry(retry.delays(first, max));
            wish = wish.suspend_after(rule.suspend_after);
            if let Some(breaker) = &sub.breaker {
                wish = wish.breaker(breaker.limits.policy());
            }
            if let Some(order) = rule.order {
                wish = wish.ordered_by(order.key());
            }
        }
        if let Some(call_max_ns) = sub.call_max_ns {
            wish = wish.handler_timeout(Duration::from_nanos(call_max_ns));
        }
        if let Some(pace) = &sub.pace {
            let (rate, over) = pace.rate();
            wish = wish.rate_limit(rate, over);
        }
        if let Some(newest) = &sub.newest {
            wish = wish.mode(DeliveryMode::LatestOnly);
            if let Some(by) = newest.by {
                wish = wish.latest_by(by.key()).keys_max(newest.keys_max);
            }
        }
        if let Some(window) = &sub.dedup {
            let keys = if window.is_wide { 1_000 } else { 2 };
            let time = Duration::from_nanos(window.time_ns);
            wish = wish.dedup(DedupWindow::default().time(time).keys_max(keys).by(window.by.key()));
        }
        wish
    }

    pub(crate) fn subscribe(&mut self) {
        let live = self.parties.len();
        if live >= SUBS_MAX {
            return;
        }
        let form = self.draw.pick(&[Form::Inline, Form::Inline, Form::Mailbox, Form::Future]);
        let mut sub = self.draw_sub(form);
        let nth = self.world.with(|world| world.subs.len());
        let text = sub.pattern.as_str().to_owned();
        let made = match sub.shape {
            Some(Shape::Small) => self.make(self.bus().subscribe(SMALL), nth, form, &mut sub),
            Some(Shape::Large) => self.make(self.bus().subscribe(LARGE), nth, form, &mut sub),
            None => self.make(self.bus().subscribe(text.as_str()), nth, form, &mut sub),
        };
        match made {
            Ok((id, grip)) => {
                self.count(match form {
                    Form::Inline => "subscribed: inline",
                    Form::Mailbox => "subscribed: mailbox",
                    Form::Future => "subscribed: future",
                });
                let kind = match (&sub.trials, &sub.newest) {
                    (Some(trials), _) if trials.rule.order.is_some() => "subscribed: reliable, in order",
                    (Some(_), _) => "subscribed: reliable",
                    (_, Some(_)) => "subscribed: newest",
                    _ => "subscribed: best effort",
                };
                self.count(kind);
                if sub.breaker.is_some() {
                    self.count("subscribed: with a breaker");
                }
                match &sub.pace {
                    Some(pace) if pace.rejects => self.count("subscribed: with a rate that turns away"),
                    Some(_) => self.count("subscribed: with a rate that waits"),
                    None => {}
                }
                self.note(format_args!("{nth} subscribes to {text} {:?} {kind}", sub.way));
                match self.bus().subscription(id) {
                    Ok(record) => sub.worker = record.worker,
                    Err(error) => self.check(Err(error.to_string())),
                }
                let is_plain = sub.trials.is_none() && sub.newest.is_none();
                if form != Form::Inline && is_plain && self.world.with(|world| world.follows_cells) {
                    sub.cells = Some(Default::default());
                }
                self.world.with(|world| world.subs.push(sub));
                self.parties.push(Party { nth, id, grip });
            }
            Err(SubscribeError::ShuttingDown) if self.is_closed() => {}
            Err(error) => self.check(Err(format!("not subscribed: {error}"))),
        }
    }

    fn filters(&self, sub: &Sub) -> Filter {
        let lanes = sub.lanes;
        let mut filter =
            Filter::all().priorities(Priority::ALL.into_iter().filter(|&one| lanes & (1 << lane_of(one)) != 0));
        if let Some(source) = sub.source {
            filter = filter.sources([source]);
        }
        let is_kept = sub.is_kept_from_requests();
        if let Some(divisor) = sub.divisor {
            let world = self.world.clone();
            filter = filter.matching(move |meta| {
                if is_of_requests(meta.topic()) {
                    return false;
                }
                let id = u128::from(meta.id());
                if id.is_multiple_of(2 * divisor) {
                    world.with(|world| world.census.count("predicate panicked"));
                    std::panic::panic_any(DELIBERATE);
                }
                !id.is_multiple_of(divisor)
            });
        } else if is_kept {
            filter = filter.matching(|meta| !is_of_requests(meta.topic()));
        }
        filter
    }

    fn make<I: Readable>(
        &mut self,
        subscribe: Subscribe<I>,
        nth: usize,
        form: Form,
        sub: &mut Sub,
    ) -> Result<(SubscriptionId, Grip), SubscribeError> {
        let subscribe = self.wish(subscribe, nth, sub);
        if form == Form::Mailbox {
            let mailbox = subscribe.mailbox()?;
            return Ok((mailbox.id(), Grip::Mailbox(Box::new(mailbox))));
        }
        if form == Form::Future {
            return self.make_future(subscribe, nth);
        }
        let mut publisher = None;
        if matches!(sub.moods, Some((_, Action::Relay))) && !self.is_closed() {
            publisher = self.bus().publisher().ok().map(|publisher| (publisher, self.next_publisher()));
        }
        let listener = Listener { world: self.world.clone(), nth, clock: self.simulation.clock(), publisher };
        let made = subscribe.handler(listener)?;
        let id = made.id();
        if self.draw.one_in(6) {
            made.forever();
            return Ok((id, Grip::Nobody));
        }
        Ok((id, Grip::Inline(made)))
    }

    /// Has its handler called by a future that the scenario polls.
    pub(crate) fn make_future<I: Readable>(
        &self,
        wish: Subscribe<I>,
        nth: usize,
    ) -> Result<(SubscriptionId, Grip), SubscribeError> {
        let world = self.world.clone();
        let handler = move |delivery: &ringmain::Delivery<I>| {
            let sight = show(delivery, &world, nth);
            world.with(|world| {
                if !world.subs[nth].is_live {
                    world.broken(format!("future {nth} was called after its subscription had ended"));
                }
                world.subs[nth].is_calling = true;
            });
            let mut draw = Draw::new(u128::from(delivery.meta().id()) as u64 ^ sight.token << 8 ^ nth as u64);
            let outcome = outcome_of(draw.next(), sight.action);
            let polls = if draw.one_in(3) { 1 + draw.below(3) } else { 0 };
            Calling { world: world.clone(), nth, sight, polls, outcome: Some(outcome) }
        };
        let future = wish.run(handler)?;
        // One of a service has that in its name, too.
        let is_it = |name: &str| name.rsplit('/').next().is_some_and(|own| own == nth.to_string());
        let found = self.bus().subscriptions().into_iter().find(|record| is_it(&record.name));
        let id = found.expect("it has just been made").id;
        let future = async {
            future.await;
            false
        };
        Ok((id, Grip::Future(Box::pin(future))))
    }

    pub(crate) fn pause_or_resume(&mut self) {
        let live = self.world.with(|world| world.subs.iter().map(|sub| sub.is_live).collect::<Vec<_>>());
        let live: Vec<_> = self.parties.iter().filter(|party| live[party.nth]).collect();
        if live.is_empty() {
            return;
        }
        let party = live[self.draw.below(live.len())];
        let (nth, id) = (party.nth, party.id);
        let pauses = self.world.with(|world| !world.subs[nth].is_paused);
        let result = if pauses { self.bus().pause(id) } else { self.bus().resume(id) };
        self.check(result.map_err(|error| error.to_string()));
        self.note(format_args!("{nth} pauses: {pauses}"));
        self.count(if pauses { "paused" } else { "resumed" });
        self.world.with(|world| {
            let sub = &mut world.subs[nth];
            sub.is_paused = pauses;
            sub.was_paused |= pauses;
        });
    }

    pub(crate) fn resume_all(&mut self) {
        let paused = self.world.with(|world| {
            let paused = world.subs.iter_mut().map(|sub| sub.is_live && std::mem::take(&mut sub.is_paused));
            paused.collect::<Vec<_>>()
        });
        for party in self.parties.iter().filter(|party| paused[party.nth]) {
            self.check(self.bus().resume(party.id).map_err(|error| error.to_string()));
        }
    }

    /// Ends a subscription: by its id, by its handle, or by dropping it.
    pub(crate) fn unsubscribe(&mut self) {
        if self.parties.is_empty() {
            return;
        }
        let at = self.draw.below(self.parties.len());
        let Party { nth, id, grip } = self.parties.swap_remove(at);
        if let Grip::Requester(requester) = grip {
            return self.end_requester(nth, id, requester);
        }
        if let Grip::Service(service) = grip {
            if self.world.with(|world| world.subs[nth].is_live) {
                self.end_service(nth, service);
            }
            return;
        }
        let is_instance = self.world.with(|world| world.subs[nth].instance().is_some());
        if is_instance {
            self.settle_all_of(nth);
            let record = self.bus().subscription(id).ok();
            self.world.with(|world| world.instance_ends(nth, record.as_ref().map(|record| &record.ledger)));
            self.count("instance ended");
            if matches!(&grip, Grip::Mailbox(mailbox) if mailbox.len() > 0) {
                self.count("given back to a service");
            }
        }
        let was_live = self.world.with(|world| world.subs[nth].is_live);
        let queued = match &grip {
            Grip::Mailbox(mailbox) => mailbox.len(),
            Grip::Future(_) | Grip::Inline(_) | Grip::Nobody | Grip::Service(_) | Grip::Requester(_) => 0,
        };
        self.note(format_args!("{nth} ends, with {queued} queued"));
        self.world.with(|world| {
            world.subs[nth].is_ending = true;
            world.census.count("unsubscribed");
        });
        let by_id = was_live && (matches!(grip, Grip::Nobody) || self.draw.one_in(3));
        if by_id {
            self.check(self.bus().unsubscribe(id).map_err(|error| error.to_string()));
            if self.bus().unsubscribe(id) != Err(SubscribeError::NotFound(id)) {
                self.check(Err(format!("subscription {nth} ended twice")));
            }
            self.world.with(|world| world.subs[nth].is_closed = true);
        }
        match grip {
            Grip::Inline(subscription) if !by_id && self.draw.one_in(2) => {
                self.check(subscription.unsubscribe().map_err(|error| error.to_string()));
            }
            Grip::Inline(subscription) => drop(subscription),
            Grip::Nobody | Grip::Service(_) | Grip::Requester(_) => {}
            // It can be emptied although nothing comes any more.
            grip @ (Grip::Mailbox(_) | Grip::Future(_)) if by_id && !is_instance => {
                self.parties.push(Party { nth, id, grip })
            }
            Grip::Mailbox(mailbox) => {
                if queued > 0 {
                    self.count("closed in a mailbox");
                }
                drop(mailbox);
            }
            Grip::Future(future) => {
                if self.world.with(|world| world.subs[nth].is_calling) {
                    self.count("future dropped in a call");
                }
                drop(future);
            }
        }
        self.world.with(|world| {
            world.subs[nth].end();
            world.gives_back(nth);
        });
    }
}

pub(crate) fn draw_rule(draw: &mut Draw) -> Rule {
    let first_delay = Duration::from_micros(draw.pick(&[0, 50, 3_000, 100_000]));
    Rule {
        timeout_ns: Duration::from_millis(draw.pick(&[1, 5, 100, 10_000])).as_nanos() as u64,
        attempts_max: 1 + draw.below(4) as u8,
        releases_max: draw.below(4) as u16,
        first_delay_ns: first_delay.as_nanos() as u64,
        delay_max_ns: 10 * first_delay.as_nanos() as u64,
        order: draw.one_in(2).then(|| Likeness::draw(draw)),
        suspend_after: if draw.one_in(4) { 1 + draw.below(3) as u32 } else { 0 },
    }
}
