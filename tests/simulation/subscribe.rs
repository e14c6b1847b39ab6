//! Steps that subscribe, pause and unsubscribe.

use ringmain::{Filter, Overflow, Pattern, Priority, Subscribe, SubscribeError, SubscriptionId};

use crate::parties::{DELIBERATE, Listener, Readable};
use crate::scenario::{Grip, Party, Scenario};
use crate::subjects::{LARGE, PATTERNS, SMALL, SOURCES, Shape};
use crate::world::{Action, Sub, Way, lane_of};

/// Subscriptions at once: more would make every scenario the same.
const SUBS_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline,
    Mailbox,
    Future,
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
        let way = match form {
            Form::Inline => Way::Inline,
            Form::Mailbox | Form::Future => {
                let cells = draw.pick(&[1, 2, 4, 16]);
                Way::Mailbox(cells, draw.pick(&[Overflow::Block, Overflow::DropNewest, Overflow::DropOldest]))
            }
        };
        let actions: &[Action] =
            if form == Form::Inline { &[Action::Fail, Action::Panic, Action::Relay] } else { &[Action::Fail] };
        let moods = draw.one_in(2).then(|| (1 + draw.below(5) as u128, draw.pick(actions)));
        Sub::new(pattern, lanes, source, divisor, shape, way, moods)
    }

    pub(crate) fn subscribe(&mut self) {
        let live = self.parties.len();
        if live >= SUBS_MAX {
            return;
        }
        let form = self.draw.pick(&[Form::Inline, Form::Inline, Form::Mailbox, Form::Future]);
        let mut sub = self.draw_sub(form);
        if form == Form::Future {
            sub.shape = None;
            sub.pattern = Pattern::new("**").unwrap_or_else(|error| panic!("{error}"));
        }
        let nth = self.world.with(|world| world.subs.len());
        let text = sub.pattern.as_str().to_owned();
        let made = match sub.shape {
            Some(Shape::Small) => self.make(self.bus().subscribe(SMALL), nth, form, &mut sub),
            Some(Shape::Large) => self.make(self.bus().subscribe(LARGE), nth, form, &mut sub),
            None if form == Form::Future => self.make_future(&sub, nth),
            None => self.make(self.bus().subscribe(text.as_str()), nth, form, &mut sub),
        };
        match made {
            Ok((id, grip)) => {
                self.count(match form {
                    Form::Inline => "subscribed: inline",
                    Form::Mailbox => "subscribed: mailbox",
                    Form::Future => "subscribed: future",
                });
                self.note(format_args!("{nth} subscribes to {text} {:?}", sub.way));
                if form != Form::Inline && self.world.with(|world| world.follows_cells) {
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
        if let Some(divisor) = sub.divisor {
            let world = self.world.clone();
            filter = filter.matching(move |meta| {
                let id = u128::from(meta.id());
                if id.is_multiple_of(2 * divisor) {
                    world.with(|world| world.census.count("predicate panicked"));
                    std::panic::panic_any(DELIBERATE);
                }
                !id.is_multiple_of(divisor)
            });
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
        let subscribe = subscribe.named(nth.to_string()).filter(self.filters(sub));
        if let Way::Mailbox(cells, overflow) = sub.way {
            let mailbox = subscribe.capacity(cells as usize).overflow(overflow).mailbox()?;
            return Ok((mailbox.id(), Grip::Mailbox(Box::new(mailbox))));
        }
        assert_eq!(form, Form::Inline, "futures are made elsewhere");
        let mut publisher = None;
        if matches!(sub.moods, Some((_, Action::Relay))) && !self.is_closed() {
            publisher = self.bus().publisher().ok().map(|publisher| (publisher, self.next_publisher()));
        }
        let listener = Listener { world: self.world.clone(), nth, publisher };
        let made = subscribe.handler(listener)?;
        let id = made.id();
        if self.draw.one_in(6) {
            made.forever();
            return Ok((id, Grip::Nobody));
        }
        Ok((id, Grip::Inline(made)))
    }

    fn make_future(&mut self, sub: &Sub, nth: usize) -> Result<(SubscriptionId, Grip), SubscribeError> {
        let Way::Mailbox(cells, overflow) = sub.way else { panic!("a future has a mailbox") };
        let name = nth.to_string();
        let world = self.world.clone();
        let handler = move |delivery: std::sync::Arc<ringmain::Delivery<Pattern>>| {
            let outcome = world.with(|world| {
                let action = world.see(nth, &delivery.meta(), None);
                let sub = &mut world.subs[nth];
                if !sub.is_live {
                    world.broken(format!("future {nth} was called after its subscription had ended"));
                } else if action == Action::Fail {
                    sub.failed += 1;
                    return Err("as it was told to");
                } else {
                    sub.acked += 1;
                }
                Ok(())
            });
            std::future::ready(outcome)
        };
        let subscribe = self.bus().subscribe("**").named(name.clone()).filter(self.filters(sub));
        let future = subscribe.capacity(cells as usize).overflow(overflow).run(handler)?;
        let found = self.bus().subscriptions().into_iter().find(|record| record.name == name);
        let id = found.expect("it has just been made").id;
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
        let was_live = self.world.with(|world| world.subs[nth].is_live);
        let queued = match &grip {
            Grip::Mailbox(mailbox) => mailbox.len(),
            Grip::Future(_) | Grip::Inline(_) | Grip::Nobody => 0,
        };
        self.note(format_args!("{nth} ends, with {queued} queued"));
        self.world.with(|world| {
            world.subs[nth].end();
            world.census.count("unsubscribed");
        });
        let by_id = was_live && (matches!(grip, Grip::Nobody) || self.draw.one_in(3));
        if by_id {
            self.check(self.bus().unsubscribe(id).map_err(|error| error.to_string()));
            if self.bus().unsubscribe(id) != Err(SubscribeError::NotFound(id)) {
                self.check(Err(format!("subscription {nth} ended twice")));
            }
        }
        match grip {
            Grip::Inline(subscription) if !by_id && self.draw.one_in(2) => {
                self.check(subscription.unsubscribe().map_err(|error| error.to_string()));
            }
            Grip::Inline(subscription) => drop(subscription),
            Grip::Nobody => {}
            // It can be emptied although nothing comes any more.
            grip @ (Grip::Mailbox(_) | Grip::Future(_)) if by_id => self.parties.push(Party { nth, id, grip }),
            Grip::Mailbox(mailbox) => {
                if queued > 0 {
                    self.count("closed in a mailbox");
                }
                drop(mailbox);
            }
            Grip::Future(future) => drop(future),
        }
    }
}
