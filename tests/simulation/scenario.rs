//! One scenario: a bus, those who use it, and steps drawn from a seed until all is delivered or the bus is shut down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{Bus, FullPolicy, Notice, Publisher, StampPolicy, SubscriptionId, SubscriptionLedger};

use crate::ask::{Ask, Asker, Told};
use crate::census::Census;
use crate::draw::Draw;
use crate::hear::hear;
use crate::letters::Letters;
use crate::oracle;
use crate::overrun::Overruns;
use crate::pace::Pace;
use crate::parties::{Hand, Inbox, Shared};
use crate::pressure::Pressure;
use crate::services::Service;
use crate::sub::Sub;
use crate::subjects::{PAYLOAD_BYTES_MAX, some_time};
use crate::world::World;

pub(crate) type Future = std::pin::Pin<Box<dyn std::future::Future<Output = bool>>>;

/// What the wall clock says at first, in nanoseconds of Unix time.
const NEW_YEAR_2026: u64 = 1_767_225_600_000_000_000;

/// What a finished scenario leaves.
pub(crate) struct Done {
    pub(crate) census: Census,
    pub(crate) steps: u64,
    pub(crate) virtual_ns: u64,
    pub(crate) trace_hash: u64,
}

/// A publisher, and its number among all there were.
pub(crate) struct Speaker {
    pub(crate) publisher: Publisher,
    pub(crate) nth: usize,
    pub(crate) source: String,
}

/// Who holds a subscription.
pub(crate) enum Grip {
    Inline(ringmain::Subscription),
    /// It lives as long as the bus.
    Nobody,
    Mailbox(Box<dyn Inbox>),
    Service(ringmain::Service),
    Requester(Arc<Asker>),
    Future(Future),
}

/// A subscription, live or over but still being emptied.
pub(crate) struct Party {
    pub(crate) nth: usize,
    pub(crate) id: SubscriptionId,
    pub(crate) grip: Grip,
}

pub(crate) struct Scenario {
    // In this order: whatever hangs on the bus goes first, or last, as the seed says.
    pub(crate) hands: Vec<Hand>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) told: Vec<Told>,
    pub(crate) parties: Vec<Party>,
    pub(crate) speakers: Vec<Speaker>,
    pub(crate) simulation: Simulation,
    pub(crate) world: Shared,
    pub(crate) draw: Draw,
    pub(crate) publishers_made: usize,
    weights: Vec<usize>,
    pub(crate) blocks: usize,
    workers: usize,
    pub(crate) steps: u64,
    pub(crate) has_requests: bool,
    /// What the wall clock says.
    unix_ns: u64,
}

/// What the steps are; they have weights of their own in each scenario.
const STEPS: [fn(&mut Scenario); 22] = [
    Scenario::publish,
    Scenario::publish_in_full,
    Scenario::publish_batch,
    Scenario::publish_loan,
    Scenario::publish_borrowed,
    Scenario::subscribe,
    Scenario::unsubscribe,
    Scenario::pause_or_resume,
    Scenario::pull,
    Scenario::settle,
    Scenario::turn,
    Scenario::run_all,
    Scenario::move_clock,
    Scenario::flush,
    Scenario::change_speakers,
    Scenario::shut_down,
    Scenario::extend,
    Scenario::tend_letters,
    Scenario::tend_services,
    Scenario::change_rules,
    Scenario::change_limits,
    Scenario::tend_requests,
];
const USUAL: [usize; 22] = [12, 6, 3, 2, 2, 3, 1, 2, 6, 3, 10, 4, 4, 1, 1, 0, 1, 3, 4, 2, 1, 0];

impl Scenario {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut draw = Draw::new(seed);
        let workers = 1 + draw.below(4);
        let limit = draw.pick(&[8, 12, 32, 100]);
        let first_sequence = draw.pick(&[0, u64::from(u32::MAX) - 3, u64::MAX - 20]);
        let (small, large) = (1 + draw.below(12), 1 + draw.below(4));
        let mut types_max = 64;
        let mut scheduled_max = draw.pick(&[0, 3, 64]);
        let policy = match draw.below(3) {
            0 => FullPolicy::REJECT,
            1 => FullPolicy::wait(Duration::from_secs(1)),
            _ => FullPolicy::REJECT.shed_low_above(draw.pick(&[25, 50, 75])),
        };
        let sources_max = draw.pick(&[1, 2, 64]);
        let mut builder = Bus::builder()
            .workers(workers)
            .max_queue_size(limit)
            .slot_bytes(draw.pick(&[128, 256]))
            .payload_bytes_max(PAYLOAD_BYTES_MAX)
            .blocks([(600, small), (4_096, large)])
            .turn_max(1 + draw.below(20))
            .critical_burst_max(1 + draw.below(8) as u32)
            .stamps(if draw.one_in(3) { StampPolicy::OneIn(1 + draw.below(4) as u32) } else { StampPolicy::Every })
            .when_full(policy)
            .sources_max(sources_max)
            .first_sequence(first_sequence);
        if draw.one_in(6) {
            types_max = 1 + draw.below(4);
        }
        builder = builder.types_max(types_max);
        if draw.one_in(8) {
            scheduled_max = 0;
            builder = builder.single_publisher();
        } else {
            builder = builder.publishers_max(6).scheduled_max(scheduled_max);
        }
        let throttle = draw.one_in(8).then(|| Pace::draw_wide(&mut draw));
        if let Some(pace) = &throttle {
            builder = builder.throttle(pace.rate().0);
        }
        let share = draw.one_in(5).then(|| draw.pick(&[0.25, 0.5, 0.9]));
        if let Some(share) = share {
            builder = builder.memory_pressure(share);
        }
        let strikes = draw.one_in(5).then(|| (8 + draw.below(100), draw.next()));
        let letters_max = draw.pick(&[1_000, 1_000, 1_000, 3, 0]);
        let letters = Letters::new(letters_max);
        let world = World::new(first_sequence, limit as u64, types_max < 64, scheduled_max, letters);
        let world = Shared(Arc::new(Mutex::new(world)));
        // Of events that wait in a mailbox the bus tells ids only.
        let has_requests = draw.one_in(3);
        let follows_cells = !has_requests && draw.one_in(2);
        let told = world.clone();
        builder = builder.enable_debug(follows_cells).dead_letters_max(letters_max);
        builder = builder.observer(move |notice: &Notice<'_>| told.at_once(|world| hear(world, notice)));
        world.with(|world| {
            world.follows_cells = follows_cells;
            world.knows_sources = sources_max == 64;
            world.pressure = share.map(Pressure::new);
            world.throttle = throttle.map(|pace| (pace, Default::default()));
            world.trace = traced.then(Vec::new);
            world.overruns = Overruns::draw(seed);
        });
        builder = builder.worker_restarts_max(u32::MAX);
        #[cfg(feature = "stall")]
        crate::strikes::begin(strikes);
        #[cfg(not(feature = "stall"))]
        let _ = strikes;
        let simulation = Simulation::new(builder, seed).unwrap_or_else(|error| panic!("{error}"));
        // Each scenario has favourites, and things that it never does.
        let mut weights: Vec<_> = USUAL.iter().map(|&usual| usual * draw.pick(&[0, 1, 1, 2, 5])).collect();
        weights[0] += 4;
        weights[5] += 1;
        weights[10] += 1;
        weights[21] = if has_requests { draw.pick(&[6, 15, 40]) } else { 0 };
        weights[15] = usize::from(draw.one_in(3));
        Self {
            hands: Vec::new(),
            asks: Vec::new(),
            told: Vec::new(),
            parties: Vec::new(),
            speakers: Vec::new(),
            simulation,
            world,
            draw,
            publishers_made: 0,
            weights,
            blocks: small + large,
            workers,
            steps: 0,
            has_requests,
            unix_ns: NEW_YEAR_2026,
        }
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.simulation.bus()
    }

    pub(crate) fn count(&self, kind: &'static str) {
        self.world.with(|world| world.census.count(kind));
    }

    pub(crate) fn note(&self, line: std::fmt::Arguments<'_>) {
        self.world.with(|world| world.note(line));
    }

    pub(crate) fn check(&self, result: Result<(), String>) {
        if let Err(what) = result {
            self.world.with(|world| world.broken(what));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.world.with(|world| world.is_closed)
    }

    fn violation(&self) -> Option<String> {
        self.world.with(|world| {
            let trace = world.trace.take();
            if let Some(lines) = &trace {
                lines.iter().for_each(|line| println!("{line}"));
            }
            world.trace = trace.map(|_| Vec::new());
            world.violation.take()
        })
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Done, String> {
        for _ in 0..self.draw.below(5) {
            self.subscribe();
        }
        if self.has_requests {
            self.begin_requests();
        }
        let steps = 40 + self.draw.below(160);
        for _ in 0..steps {
            self.one_step()?;
        }
        self.finish();
        if let Some(broken) = self.violation() {
            return Err(broken);
        }
        let (steps, mut draw) = (self.steps, self.draw);
        let done = self.world.with(|world| Done {
            census: world.census.clone(),
            steps,
            virtual_ns: world.now,
            trace_hash: world.trace_hash(),
        });
        // The bus may go first or last; neither panics nor hangs.
        if draw.one_in(2) {
            drop(self.simulation);
            drop((self.asks, self.told, self.hands, self.parties, self.speakers));
        } else {
            drop((self.speakers, self.hands, self.parties, self.told, self.asks));
            drop(self.simulation);
        }
        Ok(done)
    }

    fn one_step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.world.with(|world| world.pressure.iter_mut().for_each(Pressure::step_begins));
        let step = self.draw.weighted(&self.weights);
        self.note(format_args!("step {} is {step}", self.steps));
        STEPS[step](self);
        self.check(self.world.with(|world| oracle::check_dying(world)));
        self.check(self.world.with(|world| world.check_breakers()));
        self.check(self.world.with(|world| world.check_hung()));
        self.check_requesters();
        let ledger = self.bus().ledger();
        self.check(self.world.with(|world| oracle::check_books(world, &ledger)));
        self.violation().map_or(Ok(()), Err)
    }

    fn turn(&mut self) {
        let worker = self.draw.below(self.workers);
        self.drive_one(Some(worker), |simulation| simulation.turn(worker));
    }

    pub(crate) fn run_all(&mut self) {
        self.world.with(|world| world.overruns.is_possible = true);
        self.drive(|simulation| {
            simulation.run();
        });
        self.world.with(|world| world.overruns.is_possible = false);
        self.check_hands(true);
        self.check_woken();
        self.check_services();
        if self.bus().ledger().in_lanes > 0 {
            self.count("lane held up by a mailbox");
        }
    }

    fn check_services(&self) {
        if self.is_closed() || self.bus().ledger().in_lanes > 0 {
            return;
        }
        for record in self.bus().services() {
            self.check(self.world.with(|world| world.check_service(&record)));
        }
    }

    fn move_clock(&mut self) {
        if self.draw.one_in(6) {
            self.count("wall clock stepped");
            // Anywhere, or back by less than the events in the lanes may wait.
            let back = some_time(&mut self.draw).as_nanos() as u64;
            let to = if self.draw.one_in(2) { self.draw.next() >> 3 } else { self.unix_ns.saturating_sub(back) };
            self.step_wall_clock(to);
            return;
        }
        self.count("clock moved");
        let by = some_time(&mut self.draw);
        self.advance(by);
    }

    pub(crate) fn step_wall_clock(&mut self, unix_ns: u64) {
        self.unix_ns = unix_ns;
        self.simulation.step_wall_clock(unix_ns);
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.unix_ns += by.as_nanos() as u64;
        self.simulation.advance(by);
        self.world.with(|world| world.now += by.as_nanos() as u64);
    }

    /// Lets workers turn, and holds what they did against the model.
    pub(crate) fn drive<R>(&mut self, how: impl FnOnce(&Simulation) -> R) -> R {
        self.drive_one(None, how)
    }

    /// The same, of one worker.
    fn drive_one<R>(&mut self, worker: Option<usize>, how: impl FnOnce(&Simulation) -> R) -> R {
        let before = self.live_ledgers();
        self.world.with(|world| world.before_turn(worker));
        let spared: Vec<_> = self.world.with(|world| before.iter().map(|&(nth, _)| world.is_spared(nth)).collect());
        self.world.with(|world| before.iter().for_each(|(nth, ledger)| world.recount(*nth, ledger.queued)));
        let result = how(&self.simulation);
        self.check_hands(false);
        let ledger = self.bus().ledger();
        let after = self.live_ledgers();
        let is_at_rest = ledger.in_lanes == 0;
        let checked = self.world.with(|world| {
            world.after_turn(ledger.scheduled);
            world.note(format_args!("turned: {} in lanes, {} scheduled", ledger.in_lanes, ledger.scheduled));
            for (((nth, before), (_, after)), was_spared) in before.iter().zip(&after).zip(spared) {
                let checked = world.check_spared(*nth, before, after, was_spared);
                checked.map_err(|what| format!("subscription {nth}: {what}"))?;
                oracle::check_filling(&world.subs[*nth], before, after)?;
                let checked = world.check_requester(*nth, before, after, is_at_rest);
                checked.map_err(|what| format!("requester {nth}: {what}"))?;
                let checked = world.check_turned_away(*nth, before, after);
                checked.map_err(|what| format!("subscription {nth}: {what}"))?;
            }
            if is_at_rest {
                world.lanes_are_empty();
                world.census.count("books checked at rest");
                for (nth, ledger) in &after {
                    let checked = oracle::check_at_rest(world, *nth, ledger)
                        .and_then(|()| oracle::check_waiting(world, *nth, ledger, worker.is_none()))
                        .and_then(|()| oracle::check_held(world, *nth, ledger, worker.is_none()));
                    checked.map_err(|what| format!("subscription {nth}: {what}"))?;
                }
            }
            Ok(())
        });
        self.check(checked);
        result
    }

    /// The books of each subscription that is alive.
    pub(crate) fn live_ledgers(&self) -> Vec<(usize, SubscriptionLedger)> {
        let live = self.world.with(|world| world.subs.iter().map(|sub| sub.is_live).collect::<Vec<_>>());
        let parties = self.parties.iter().filter(|party| live[party.nth]);
        let look = |party: &Party| {
            let record = oracle::record_of(self.bus(), party.id);
            (party.nth, record.breaker.map(|breaker| breaker.state), record.ledger)
        };
        let looks: Vec<_> = parties.map(look).collect();
        self.world.with(|world| {
            for &(nth, state, _) in &looks {
                let ours = world.subs[nth].breaker.as_ref().map(|breaker| breaker.state(world.now));
                if ours != state {
                    world.broken(format!("the breaker of subscription {nth} is {state:?}, and should be {ours:?}"));
                }
            }
        });
        looks.into_iter().map(|(nth, _, ledger)| (nth, ledger)).collect()
    }

    fn flush(&mut self) {
        let routed = self.bus().ledger().routed;
        let result = self.drive(|simulation| simulation.bus().flush());
        let ledger = self.bus().ledger();
        self.note(format_args!("flush {result:?}"));
        // A pause holds what is in its mailbox, and nobody waits for that.
        let paused = self.world.with(|world| world.subs.iter().map(|sub| sub.is_paused).collect::<Vec<_>>());
        let held = self.live_ledgers().into_iter().filter(|(nth, _)| paused[*nth]);
        let held: u64 = held.map(|(_, ledger)| ledger.open()).sum();
        let waits = ledger.subscriptions.open() > held;
        let settled = ledger.in_lanes == 0 && !waits;
        // Letters on their way back have no place in the books before they have a cell.
        let is_returning = self.world.with(|world| {
            let to_service = |sub: &Sub| sub.service().is_some_and(Service::is_getting_back);
            let of = |sub: &Sub| sub.trials.as_ref().is_some_and(|trials| trials.returning().next().is_some());
            world.subs.iter().any(|sub| of(sub) || to_service(sub))
        });
        self.count(if result.is_ok() { "flush came to an end" } else { "flush timed out" });
        // What handlers published meanwhile, and what came due, is not waited for.
        let right = if result.is_ok() { settled || ledger.routed > routed } else { !settled || is_returning };
        if !right {
            self.check(Err(format!("flush said {result:?}, settled is {settled}: {ledger:?}")));
        }
    }
}
