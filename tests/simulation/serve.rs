//! Steps that open services, make and end instances, and say how they are.

use std::time::Duration;

use ringmain::{Balance, DeliveryMode, Overflow, Pattern, Priority, RetryPolicy, ServiceHealth, SubscribeError};

use crate::breaker::{Breaker, Limits};
use crate::keys::Likeness;
use crate::pace::Pace;
use crate::parties::Listener;
use crate::scenario::{Grip, Party, Scenario};
use crate::services::{Instance, Role, SERVICES, Sent, Service};
use crate::sub::{Action, Sub, Way};
use crate::subscribe::{Form, draw_call_max_ns, draw_rule};
use crate::trials::Trials;

/// Instances of all services at once.
const INSTANCES_MAX: usize = 5;

impl Scenario {
    /// Opens a service, or changes something about one.
    pub(crate) fn tend_services(&mut self) {
        match self.draw.below(8) {
            0 | 1 => self.open_service(),
            2..6 => self.make_instance(),
            _ => self.change_health(),
        }
    }

    fn reliable(&mut self, role: Role, overflow: Overflow) -> Sub {
        let cells = self.draw.pick(&[1, 2, 4, 16]);
        let pattern = Pattern::new("*").unwrap_or_else(|error| panic!("{error}"));
        let mut sub = Sub::new(pattern, 0b1111, None, None, None, Way::Mailbox(cells, overflow), None);
        sub.trials = Some(Trials::new(draw_rule(&mut self.draw)));
        // What comes to it no pattern says.
        (sub.role, sub.is_vague) = (role, true);
        sub
    }

    fn open_service(&mut self) {
        let name = self.draw.pick(&SERVICES);
        let (balance, takes_any) = match self.draw.below(6) {
            0 => (Balance::LeastConnections, true),
            1 => (Balance::WeightedRandom, false),
            2 => (Balance::HealthBased, true),
            3 => (Balance::PriorityBased { top_for: self.draw.one_in(2).then_some(Priority::High) }, true),
            4 => (Balance::Affinity(Likeness::draw(&mut self.draw).key()), false),
            _ => (Balance::RoundRobin, true),
        };
        let overflow = self.draw.pick(&[Overflow::Block, Overflow::DropNewest]);
        let mut sub = self.reliable(
            Role::Service(Service {
                name,
                takes_any,
                at_large: Default::default(),
                adrift: Default::default(),
                is_owed: false,
                sent: Sent::none(),
                drops_at_end: false,
            }),
            overflow,
        );
        let Some(trials) = &mut sub.trials else { return };
        (trials.rule.order, trials.rule.suspend_after) = (None, 0);
        trials.rule.first_delay_ns = trials.rule.first_delay_ns.max(50_000);
        trials.rule.delay_max_ns = trials.rule.first_delay_ns * 10;
        trials.rule.attempts_max = 1 + self.draw.below(10) as u8;
        let (rule, Way::Mailbox(cells, _)) = (&trials.rule, sub.way) else { return };
        let delays = (Duration::from_nanos(rule.first_delay_ns), Duration::from_nanos(rule.delay_max_ns));
        let retry = RetryPolicy::default().attempts_max(rule.attempts_max).delays(delays.0, delays.1);
        let wish = self.bus().service(name).balance(balance).retry(retry).capacity(cells as usize).overflow(overflow);
        match wish.open() {
            Ok(service) => {
                let record = service.record();
                sub.worker = record.worker;
                self.count("service opened");
                let nth = self.world.with(|world| {
                    if world.service_named(name).is_some() {
                        world.broken(format!("service {name} was opened twice"));
                    }
                    world.note(format_args!("{} is service {name}", world.subs.len()));
                    world.services.insert(name, world.subs.len());
                    world.subs.push(sub);
                    world.services_change();
                    world.subs.len() - 1
                });
                self.parties.push(Party { nth, id: record.subscription, grip: Grip::Service(service) });
            }
            Err(SubscribeError::ShuttingDown) if self.is_closed() => {}
            Err(SubscribeError::Service(_)) if self.world.with(|world| world.service_named(name).is_some()) => {}
            Err(error) => self.check(Err(format!("service {name} was not opened: {error}"))),
        }
    }

    fn make_instance(&mut self) {
        let instances =
            self.world.with(|world| world.subs.iter().filter(|sub| sub.is_live && sub.instance().is_some()).count());
        let services: Vec<_> = self.parties.iter().filter(|party| matches!(party.grip, Grip::Service(_))).collect();
        if services.is_empty() || instances >= INSTANCES_MAX {
            return;
        }
        let (at, draw) = (self.draw.below(services.len()), &mut self.draw);
        let (service, Grip::Service(handle)) = (services[at].nth, &services[at].grip) else { return };
        let (handle, weight, priority) = (handle.clone(), draw.below(3) as u32, draw.below(3) as i32);
        let is_reliable = !draw.one_in(3);
        let breaker = (is_reliable && draw.one_in(2)).then(|| Breaker::new(Limits::draw(draw, true)));
        let pace = draw.one_in(4).then(|| Pace::draw(draw, false));
        let mut sub =
            self.reliable(Role::Instance(Instance { service, health: ServiceHealth::Healthy }), Overflow::Block);
        let form = match self.draw.below(6) {
            0 | 1 if is_reliable => Form::Inline,
            0..4 => Form::Mailbox,
            _ => Form::Future,
        };
        (sub.breaker, sub.pace, sub.is_inline) = (breaker, pace, form == Form::Inline);
        sub.is_pulled = form == Form::Mailbox;
        sub.call_max_ns = match form {
            Form::Future => Some(draw_call_max_ns(&mut self.draw)),
            Form::Inline => self.world.with(|world| world.overruns.draw_call_max_ns()),
            Form::Mailbox => None,
        };
        let actions: &[_] = if sub.is_pulled { &[] } else { &[Action::Fail, Action::Panic] };
        sub.moods =
            (!sub.is_pulled && self.draw.one_in(2)).then(|| (1 + self.draw.below(5) as u128, self.draw.pick(actions)));
        if !is_reliable {
            sub.trials = None;
        }
        let nth = self.world.with(|world| world.subs.len());
        let mode = if is_reliable { DeliveryMode::reliable() } else { DeliveryMode::BestEffort };
        let wish = handle.instance(nth.to_string()).mode(mode).weight(weight).priority(priority);
        let wish = self.wish_named(wish, &sub);
        let made = match form {
            Form::Inline => {
                let clock = self.simulation.clock();
                let listener = Listener { world: self.world.clone(), nth, clock, publisher: None };
                wish.handler(listener).map(|made| (made.id(), Grip::Inline(made)))
            }
            Form::Mailbox => wish.mailbox().map(|mailbox| (mailbox.id(), Grip::Mailbox(Box::new(mailbox)))),
            Form::Future => self.make_future(wish, nth),
        };
        match made {
            Ok((id, grip)) => {
                self.count(match form {
                    Form::Inline => "instance made: inline",
                    Form::Mailbox => "instance made",
                    Form::Future => "instance made: future",
                });
                if !is_reliable {
                    self.count("instance made: best effort");
                }
                self.world.with(|world| {
                    sub.worker = world.subs[service].worker;
                    if let Some(service) = world.subs[service].service_mut() {
                        service.drops_at_end |= !is_reliable;
                    }
                    world.note(format_args!("{nth} is an instance of {service}"));
                    world.subs.push(sub);
                });
                self.parties.push(Party { nth, id, grip });
            }
            Err(SubscribeError::ShuttingDown) if self.is_closed() => {}
            Err(error) => self.check(Err(format!("no instance: {error}"))),
        }
    }

    fn change_health(&mut self) {
        let draw = &mut self.draw;
        let health = draw.pick(&[ServiceHealth::Healthy, ServiceHealth::Degraded, ServiceHealth::Unhealthy]);
        let instances = self.world.with(|world| {
            let named = |(nth, sub): (usize, &Sub)| {
                let service = sub.instance().filter(|_| sub.is_live)?.service;
                Some((nth, world.subs[service].service()?.name))
            };
            world.subs.iter().enumerate().filter_map(named).collect::<Vec<_>>()
        });
        if instances.is_empty() {
            return;
        }
        let (nth, service) = draw.pick(&instances);
        let result = self.bus().update_service_health(service, &nth.to_string(), health);
        self.check(result.map_err(|error| error.to_string()));
        self.count("health of an instance changed");
        self.set_health(nth, health);
    }

    fn set_health(&self, nth: usize, health: ServiceHealth) {
        self.world.with(|world| {
            world.note(format_args!("{nth} is {health:?}"));
            if let Role::Instance(instance) = &mut world.subs[nth].role {
                instance.health = health;
            }
        });
    }

    /// Ends a service, and with it its instances.
    pub(crate) fn end_service(&mut self, nth: usize, service: ringmain::Service) {
        self.note(format_args!("service {nth} ends"));
        self.count("service ended");
        let is_part = |sub: &Sub| sub.instance().is_some_and(|instance| instance.service == nth);
        self.world.with(|world| {
            world.services_change();
            world.subs.iter_mut().filter(|sub| is_part(sub)).for_each(|sub| sub.is_ending = true);
            world.subs[nth].is_ending = true;
        });
        self.check(service.end().map_err(|error| error.to_string()));
        self.world.with(|world| {
            world.subs.iter_mut().filter(|sub| is_part(sub)).for_each(Sub::end);
            world.subs[nth].end();
        });
    }

    /// Before an instance ends: its consumer says what it makes of what it has.
    pub(crate) fn settle_all_of(&mut self, nth: usize) {
        while let Some(at) = self.hands.iter().position(|hand| hand.nth == nth) {
            self.settle_one(at);
        }
    }
}
