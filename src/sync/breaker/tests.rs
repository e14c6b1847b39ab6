//! A breaker on one thread: its rules one by one, and all of them against a plain list of what happened.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const LIMITS: BreakerLimits = BreakerLimits {
    failures_max: 5,
    per_mille_max: 500,
    events_min: 20,
    window_ns: 10 * SECOND,
    open_ns: 30 * SECOND,
    probes: 1,
};

fn fail(breaker: &Breaker, now: u64) -> Option<BreakerState> {
    breaker.admit(now).expect("it admits");
    breaker.record(now, false)
}

#[test]
fn failures_in_a_row_open_it_and_one_success_breaks_the_row() {
    let breaker = Breaker::new(LIMITS);
    for _ in 0..4 {
        assert_eq!(fail(&breaker, SECOND), None);
    }
    assert_eq!(breaker.record(SECOND, true), None);
    for _ in 0..4 {
        assert_eq!(fail(&breaker, SECOND), None);
    }
    assert_eq!(fail(&breaker, SECOND), Some(BreakerState::Open));
    assert_eq!(breaker.state(2 * SECOND), BreakerState::Open);
    let until = breaker.admit(2 * SECOND).expect_err("it is open");
    assert!(until <= 31 * SECOND && until > 31 * SECOND - (1 << TICK_SHIFT), "{until}");
}

#[test]
fn a_share_of_failures_opens_it_once_there_were_enough_attempts_in_its_window() {
    let limits = BreakerLimits { failures_max: 1_000, ..LIMITS };
    let breaker = Breaker::new(limits);
    // Two of three go well: never half of them fail.
    for nth in 0..300 {
        assert_eq!(breaker.record(nth * SECOND / 10, nth % 3 != 0), None);
    }
    let breaker = Breaker::new(limits);
    let opened = (0..100).find(|nth| breaker.record(SECOND + nth * SECOND / 10, nth % 2 != 0).is_some());
    assert_eq!(opened, Some(20), "the 21st attempt is the first failure with 20 before it at half");
    let slow = Breaker::new(limits);
    for nth in 0..100 {
        assert_eq!(slow.record(nth * SECOND, false), None, "ten attempts a window are not enough");
    }
}

#[test]
fn when_its_time_is_over_probes_decide() {
    let breaker = Breaker::new(BreakerLimits { failures_max: 1, probes: 2, ..LIMITS });
    assert_eq!(fail(&breaker, 0), Some(BreakerState::Open));
    let now = 31 * SECOND;
    assert_eq!(
        (breaker.state(now), breaker.admit(now), breaker.admit(now)),
        (BreakerState::HalfOpen, Ok(true), Ok(false))
    );
    assert_eq!(breaker.admit(now), Err(u64::MAX), "both probes are out");
    breaker.take_back(now);
    assert_eq!(breaker.admit(now), Ok(false), "one of them was not made");
    assert_eq!(breaker.record(now, true), None);
    assert_eq!(breaker.record(now, false), Some(BreakerState::Open));
    assert_eq!(breaker.record(now, true), None, "late");
    let now = 62 * SECOND;
    assert_eq!(breaker.record(now, true), None, "nobody probes yet");
    for _ in 0..2 {
        breaker.admit(now).expect("a probe");
    }
    assert_eq!(breaker.record(now, true), None);
    assert_eq!(breaker.record(now, true), Some(BreakerState::Closed));
    assert_eq!(fail(&breaker, now), Some(BreakerState::Open), "it begins anew");
}

/// The same without a word: what happened since its last change, and its state.
#[derive(Debug)]
struct Plain {
    limits: BreakerLimits,
    state: PlainState,
    /// When each attempt ended, in slices of the window, and whether it went well.
    ended: Vec<(u64, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum PlainState {
    Closed,
    Open { until: u64 },
    Probing { until: u64, out: u8, proved: u8 },
}

impl Plain {
    fn see(&mut self, now: u64) {
        if let PlainState::Open { until } = self.state
            && now >= until
        {
            self.state = PlainState::Probing { until, out: 0, proved: 0 };
        }
    }

    fn admit(&mut self, now: u64) -> Option<u64> {
        self.see(now);
        match &mut self.state {
            PlainState::Closed => None,
            PlainState::Open { until } => Some(*until),
            PlainState::Probing { out, proved, .. } if *out + *proved >= self.limits.probes => Some(u64::MAX),
            PlainState::Probing { out, .. } => {
                *out += 1;
                None
            }
        }
    }

    fn record(&mut self, now: u64, went_well: bool) -> Option<BreakerState> {
        self.see(now);
        let slice = |now: u64| now / (self.limits.window_ns / SLICES as u64);
        self.ended.push((slice(now), went_well));
        let open = PlainState::Open { until: (now + self.limits.open_ns) >> TICK_SHIFT << TICK_SHIFT };
        let next = match self.state {
            PlainState::Closed => {
                let row = self.ended.iter().rev().take_while(|(_, went_well)| !went_well).count();
                let within: Vec<_> = self.ended.iter().filter(|(at, _)| at + SLICES as u64 > slice(now)).collect();
                let failed = within.iter().filter(|(_, went_well)| !went_well).count();
                let is_share = within.len() >= self.limits.events_min as usize
                    && failed * 1_000 >= within.len() * self.limits.per_mille_max as usize;
                (!went_well && (row >= self.limits.failures_max as usize || is_share)).then_some(open)?
            }
            PlainState::Open { .. } | PlainState::Probing { out: 0, .. } => return None,
            PlainState::Probing { .. } if !went_well => open,
            PlainState::Probing { proved, .. } if proved + 1 == self.limits.probes => PlainState::Closed,
            PlainState::Probing { until, out, proved } => {
                self.state = PlainState::Probing { until, out: out - 1, proved: proved + 1 };
                return None;
            }
        };
        self.state = next;
        self.ended.clear();
        Some(if next == PlainState::Closed { BreakerState::Closed } else { BreakerState::Open })
    }

    fn take_back(&mut self, now: u64) {
        self.see(now);
        if let PlainState::Probing { out, .. } = &mut self.state {
            *out = out.saturating_sub(1);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Ask,
    Tell(bool),
    TakeBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![0..SECOND, Just(3 * SECOND), Just(12 * SECOND)];
    let step = prop_oneof![
        2 => wait.prop_map(Step::Wait),
        4 => Just(Step::Ask),
        6 => any::<bool>().prop_map(Step::Tell),
        1 => Just(Step::TakeBack),
    ];
    // Each step looks at all that have ended, and Miri at each of these looks.
    proptest::collection::vec(step, 1..if cfg!(miri) { 60 } else { 300 })
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_of_what_happened_says(
        failures_max in 1..8_u32, per_mille_max in 100..=1_000_u32, events_min in 1..30_u32, probes in 1..4_u8, steps in steps(),
    ) {
        let limits = BreakerLimits { failures_max, per_mille_max, events_min, probes, open_ns: 5 * SECOND, ..LIMITS };
        let breaker = Breaker::new(limits);
        let mut plain = Plain { limits, state: PlainState::Closed, ended: Vec::new() };
        let mut now = 1;
        for step in steps {
            match step {
                Step::Wait(time) => now += time,
                Step::Ask => {
                    let from = breaker.admits_at(now);
                    let again = breaker.admit(now).err();
                    prop_assert_eq!(again, plain.admit(now));
                    prop_assert_eq!(from, again.unwrap_or(now));
                }
                Step::Tell(went_well) => prop_assert_eq!(breaker.record(now, went_well), plain.record(now, went_well)),
                Step::TakeBack => {
                    breaker.take_back(now);
                    plain.take_back(now);
                }
            }
            plain.see(now);
            let state = match plain.state {
                PlainState::Closed => BreakerState::Closed,
                PlainState::Open { .. } => BreakerState::Open,
                PlainState::Probing { .. } => BreakerState::HalfOpen,
            };
            prop_assert_eq!(breaker.state(now), state);
        }
    }
}
