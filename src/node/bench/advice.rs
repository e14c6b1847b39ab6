//! Recommended settings, each by a rule of one or two lines and with the figures it follows from.
//!
//! | setting | rule |
//! |---|---|
//! | idle, when latency counts | the least p50 at 10,000/s; of those within 20 % of it the one with the least CPU at 1,000/s |
//! | idle, when CPU counts | at most 10 % of a core for the worker at 1,000/s; of those the least p50 there, and the default if that is within 20 % of it |
//! | pinning | pinned, the default, unless p99 at 10,000/s is at least 1.2 times as long as without |
//! | stamps | every event, the default, unless 1 in 64 makes at least 1.25 times the throughput |
//! | single publisher | if it makes at least 1.1 times the throughput, under the recommended stamps |
//!
//! The last three compare round with round, as rounds that lie close share the mood of the machine: the median of the
//! ratios counts, and only if three rounds in four agree on which is ahead.

use std::fmt;

use serde::Serialize;

use super::figures::{Figure, Spread};
use super::machine::Machine;
use super::questions::{Pace, Question, SAMPLE};
use crate::IdleStrategy;
use crate::node::human::{grouped, nanoseconds};

/// Figures within this factor of the best are as good.
const CLOSE: f64 = 1.2;
/// What a worker may take of a core at 1,000 events a second, in percent, where CPU counts.
const CPU_PERCENT_MAX: f64 = 10.0;
/// Shares of a core this close are the same, in percent.
const CPU_PERCENT_CLOSE: f64 = 5.0;
/// What pinning must cost to be given up.
const UNPINNED_GAIN_MIN: f64 = CLOSE;
/// What sampled stamps must bring.
const STAMPS_GAIN_MIN: f64 = 1.25;
/// What the promise of a single publisher must bring.
const SINGLE_GAIN_MIN: f64 = 1.1;

/// One setting, what to set it to, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    /// Which.
    pub(super) setting: &'static str,
    /// Recommended.
    pub(super) value: String,
    /// How to say it to `Bus::builder()`; empty where there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) code: String,
    /// The figures behind it.
    pub(super) reason: String,
}

/// What an idle strategy came to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Idling {
    idle: IdleStrategy,
    brisk_p50_ns: f64,
    calm_p50_ns: f64,
    /// At 1,000/s, in percent of a core.
    cpu_percent: Option<f64>,
}

/// All the advice that the figures allow.
pub(super) fn advise(machine: &Machine, figures: &[Figure]) -> Vec<Advice> {
    let of = |question: Question| figures.iter().find(|figure| figure.question == question);
    let idlings: Vec<_> = IdleStrategy::ALL
        .into_iter()
        .filter_map(|idle| {
            let (brisk, calm) =
                (of(Question::Latency { idle, pace: Pace::Brisk })?, of(Question::Latency { idle, pace: Pace::Calm })?);
            Some(Idling {
                idle,
                brisk_p50_ns: brisk.spread().median,
                calm_p50_ns: calm.spread().median,
                cpu_percent: calm.worker_cpu().map(|cpu| cpu.median),
            })
        })
        .collect();
    let rates = |single, sampled| of(Question::Throughput { single, sampled }).map(Figure::rounds);
    let p99s = |question| of(question).map(Figure::p99_rounds);
    let default_brisk = Question::Latency { idle: IdleStrategy::default(), pace: Pace::Brisk };

    let mut advice = idle(machine, &idlings);
    if let (Some(pinned), Some(free)) = (p99s(default_brisk), p99s(Question::Unpinned)) {
        advice.push(pinning(&pinned, &free));
    }
    if let (Some(every), Some(sampled)) = (rates(false, false), rates(false, true)) {
        advice.push(stamps(&every, &sampled));
        let pays = Gain::of(&sampled, &every).reaches(STAMPS_GAIN_MIN);
        advice.extend(rates(false, pays).zip(rates(true, pays)).map(|(many, one)| single(&many, &one)));
    }
    advice
}

fn idle(machine: &Machine, idlings: &[Idling]) -> Vec<Advice> {
    let (Some(hot), Some(frugal)) = (fastest(idlings), most_frugal(idlings)) else { return Vec::new() };
    let advice = |setting, idle: IdleStrategy, reason| Advice {
        setting,
        value: idle.to_string(),
        code: format!(".idle(IdleStrategy::{idle:?})"),
        reason,
    };
    let p50s = |one: &Idling| {
        format!(
            "{} at 10,000/s and {} at 1,000/s",
            nanoseconds(one.brisk_p50_ns as u64),
            nanoseconds(one.calm_p50_ns as u64)
        )
    };
    let cpu = |one: &Idling| match one.cpu_percent {
        Some(percent) => format!("{percent:.1} % of a core for the worker at 1,000/s"),
        None => "a share of a core that this system does not tell".to_owned(),
    };
    if hot.idle == frugal.idle {
        let reason = format!("p50 {}; none is clearly faster at 10,000/s, and it costs {}", p50s(frugal), cpu(frugal));
        return vec![advice("idle", frugal.idle, reason)];
    }
    let spins = matches!(hot.idle, IdleStrategy::BusySpin | IdleStrategy::Yield);
    let left = match machine.cores.saturating_sub(2) {
        _ if !spins => String::new(),
        0 => "; beside a busy publisher nothing is left to the rest of the program here".to_owned(),
        cores => format!("; worker and a busy publisher leave {cores} of {} cores", machine.cores),
    };
    vec![
        advice("idle, when latency counts", hot.idle, format!("p50 {}; costs {}{left}", p50s(hot), cpu(hot))),
        advice("idle, when CPU counts", frugal.idle, format!("p50 {}; costs {}", p50s(frugal), cpu(frugal))),
    ]
}

/// The lowest latency; of those as low, the cheapest; of those as cheap, the default, else the first.
fn fastest(idlings: &[Idling]) -> Option<&Idling> {
    let best_ns = idlings.iter().map(|one| one.brisk_p50_ns).min_by(f64::total_cmp)?;
    let close = || idlings.iter().filter(|one| one.brisk_p50_ns <= best_ns * CLOSE);
    let cpu = |one: &Idling| one.cpu_percent.unwrap_or(0.0);
    let least = close().map(cpu).min_by(f64::total_cmp)?;
    let mut cheap = close().filter(|one| cpu(one) <= least + CPU_PERCENT_CLOSE);
    cheap.clone().find(is_default).or_else(|| cheap.next())
}

fn is_default(one: &&Idling) -> bool {
    one.idle == IdleStrategy::default()
}

/// The lowest latency among those that cost little; the default if it is as low, or if the costs are not known.
fn most_frugal(idlings: &[Idling]) -> Option<&Idling> {
    if idlings.iter().any(|one| one.cpu_percent.is_none()) {
        return idlings.iter().find(is_default);
    }
    let cpu = |one: &Idling| one.cpu_percent.unwrap_or(0.0);
    let least = idlings.iter().map(cpu).min_by(f64::total_cmp)?;
    let cheap = || idlings.iter().filter(|one| cpu(one) <= least.max(CPU_PERCENT_MAX));
    let best_ns = cheap().map(|one| one.calm_p50_ns).min_by(f64::total_cmp)?;
    let mut close = cheap().filter(|one| one.calm_p50_ns <= best_ns * CLOSE);
    close.clone().find(is_default).or_else(|| close.find(|one| one.calm_p50_ns <= best_ns))
}

/// How many times one figure is another, round by round.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gain {
    /// Of the rounds' ratios.
    median: f64,
    /// Rounds in which the first was larger.
    ahead: usize,
    rounds: usize,
}

impl Gain {
    /// Of rounds in the same order, at least one.
    fn of(these: &[f64], those: &[f64]) -> Self {
        let mut ratios: Vec<_> = these.iter().zip(those).map(|(this, that)| this / that).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ahead = ratios.iter().filter(|&&ratio| ratio > 1.0).count();
        Self { median: ratios[ratios.len() / 2], ahead, rounds: ratios.len() }
    }

    /// At least `min` in the median, and no matter of chance.
    fn reaches(self, min: f64) -> bool {
        self.median >= min && 4 * self.ahead >= 3 * self.rounds
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, ahead, rounds } = self;
        write!(f, "{median:.2} times the throughput, ahead in {ahead} of {rounds} rounds")
    }
}

fn median(values: &[f64]) -> f64 {
    Spread::of_any(values.to_vec()).map_or(0.0, |spread| spread.median)
}

fn pinning(pinned_ns: &[f64], free_ns: &[f64]) -> Advice {
    let gain = Gain::of(pinned_ns, free_ns);
    let figures = format!(
        "p99 at 10,000/s is {} with worker and publisher pinned, {} without; pinned is slower in {} of {} rounds",
        nanoseconds(median(pinned_ns) as u64),
        nanoseconds(median(free_ns) as u64),
        gain.ahead,
        gain.rounds,
    );
    let (value, code, reason) = if gain.reaches(UNPINNED_GAIN_MIN) {
        ("off", ".pin(false)", format!("{figures}: something else wants the cores they are pinned to"))
    } else {
        ("on, the default", ".pin(true)", format!("{figures}; pin the publishing thread to a core of its own as well"))
    };
    Advice { setting: "pinning", value: value.to_owned(), code: code.to_owned(), reason }
}

fn stamps(every: &[f64], sampled: &[f64]) -> Advice {
    let gain = Gain::of(sampled, every);
    if !gain.reaches(STAMPS_GAIN_MIN) {
        return Advice {
            setting: "stamps",
            value: "every event, the default".to_owned(),
            code: ".stamps(StampPolicy::Every)".to_owned(),
            reason: format!("1 in {SAMPLE} makes {gain}: too little to give up the latency of each event for"),
        };
    }
    let every = median(every);
    // At a tenth of the rate nine tenths of the time are free, with stamps as without.
    let worth = per_second(every / 10.0);
    Advice {
        setting: "stamps",
        value: format!("1 in {SAMPLE} from {worth} on"),
        code: format!(".stamps(StampPolicy::OneIn({SAMPLE}))"),
        reason: format!(
            "a stamp costs {:.0} ns an event, without it is {gain}; below {worth} that is lost in the time between \
             events, so keep every event's latency there",
            1e9 / every * (1.0 - 1.0 / gain.median)
        ),
    }
}

fn single(many: &[f64], one: &[f64]) -> Advice {
    let gain = Gain::of(one, many);
    let (value, code, reason) = if gain.reaches(SINGLE_GAIN_MIN) {
        (
            "if one thread publishes",
            ".single_publisher()",
            format!("it makes {gain}; a second publisher is refused then"),
        )
    } else {
        ("not needed", "", format!("it makes {gain}; publishers may stay many"))
    };
    Advice { setting: "single publisher", value: value.to_owned(), code: code.to_owned(), reason }
}

/// A rate to three digits: `12,300,000/s`.
pub(super) fn per_second(rate: f64) -> String {
    let unit = 10f64.powf((rate.max(1.0).log10().floor() - 2.0).max(0.0));
    format!("{}/s", grouped(((rate / unit).round() * unit) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdleStrategy::{Adaptive, Backoff, BusySpin, Park, Yield};

    fn idling(idle: IdleStrategy, brisk_p50_ns: f64, calm_p50_ns: f64, cpu_percent: f64) -> Idling {
        Idling { idle, brisk_p50_ns, calm_p50_ns, cpu_percent: Some(cpu_percent) }
    }

    /// As a quiet machine shows it.
    fn typical() -> [Idling; 5] {
        [
            idling(BusySpin, 200.0, 900.0, 100.0),
            idling(Yield, 210.0, 950.0, 99.0),
            idling(Backoff, 60_000.0, 500_000.0, 3.0),
            idling(Park, 26_000.0, 30_000.0, 1.2),
            idling(Adaptive, 27_000.0, 33_000.0, 2.1),
        ]
    }

    #[test]
    fn a_spinner_is_for_latency_and_the_default_for_the_cpu() {
        assert_eq!(fastest(&typical()).unwrap().idle, BusySpin);
        assert_eq!(most_frugal(&typical()).unwrap().idle, Adaptive);
    }

    #[test]
    fn a_cheaper_strategy_that_is_as_fast_is_preferred() {
        let mut idlings = typical();
        idlings[3].brisk_p50_ns = 230.0;
        assert_eq!(fastest(&idlings).unwrap().idle, Park);
        idlings[3].brisk_p50_ns = 250.0;
        assert_eq!(fastest(&idlings).unwrap().idle, BusySpin, "a quarter more is not as fast");
    }

    #[test]
    fn the_default_gives_way_to_what_is_cheap_and_faster_by_more_than_a_fifth() {
        let mut idlings = typical();
        idlings[4].calm_p50_ns = 40_000.0;
        assert_eq!(most_frugal(&idlings).unwrap().idle, Park);
        for one in &mut idlings {
            one.cpu_percent = one.cpu_percent.map(|percent| percent + 50.0);
        }
        assert_eq!(most_frugal(&idlings).unwrap().idle, Park, "where all are dear, the cheapest");
    }

    #[test]
    fn without_figures_of_the_cpu_the_default_saves_it() {
        let mut idlings = typical();
        idlings.iter_mut().for_each(|one| one.cpu_percent = None);
        assert_eq!(most_frugal(&idlings).unwrap().idle, Adaptive);
        assert_eq!((fastest(&[]), most_frugal(&[])), (None, None));
    }

    #[test]
    fn idle_advice_names_the_figures_and_what_is_left_of_the_machine() {
        let machine = Machine { processor: "p".into(), system: "s".into(), cores: 4, seats: None };
        let [hot, frugal] = &idle(&machine, &typical())[..] else { panic!("two settings") };
        assert_eq!((hot.code.as_str(), frugal.value.as_str()), (".idle(IdleStrategy::BusySpin)", "adaptive"));
        let reason = "p50 200 ns at 10,000/s and 900 ns at 1,000/s; costs 100.0 % of a core for the worker at 1,000/s; \
                      worker and a busy publisher leave 2 of 4 cores";
        assert_eq!(hot.reason, reason);
        let [one] = &idle(&machine, &typical()[3..])[..] else { panic!("one setting does for both") };
        assert_eq!((one.setting, one.value.as_str()), ("idle", "adaptive"));
    }

    #[test]
    fn the_other_settings_follow_their_rules_at_the_bounds() {
        let all = |value: f64| [value; 4];
        assert_eq!(pinning(&all(1_000.0), &all(840.0)).code, ".pin(true)");
        assert_eq!(pinning(&all(1_000.0), &all(820.0)).code, ".pin(false)");
        assert_eq!(stamps(&all(8e6), &all(9.9e6)).code, ".stamps(StampPolicy::Every)");
        let sampled = stamps(&all(8e6), &all(10e6));
        assert_eq!(sampled.value, "1 in 64 from 800,000/s on");
        assert_eq!(sampled.code, ".stamps(StampPolicy::OneIn(64))");
        let reason = "a stamp costs 25 ns an event, without it is 1.25 times the throughput, ahead in 4 of 4 rounds;";
        assert!(sampled.reason.starts_with(reason), "{}", sampled.reason);
        assert_eq!(single(&all(10e6), &all(10.9e6)).code, "");
        assert_eq!(single(&all(10e6), &all(11e6)).code, ".single_publisher()");
    }

    #[test]
    fn a_gain_that_rounds_do_not_agree_on_is_none() {
        let base = [10.0; 7];
        let gain = |these: &[f64]| Gain::of(these, &base[..these.len()]);
        assert!(gain(&[20.0, 20.0, 9.0, 20.0]).reaches(2.0), "three of four");
        assert!(!gain(&[20.0, 20.0, 9.0]).reaches(1.1), "two of three");
        assert!(!gain(&[10.1; 7]).reaches(1.1), "agreed, but small");
        let moody = Gain::of(&[11.0, 110.0, 11.0], &[10.0, 100.0, 10.0]);
        assert_eq!(moody, Gain { median: 1.1, ahead: 3, rounds: 3 }, "a round that is ten times faster is so for both");
    }

    #[test]
    fn rates_have_three_digits() {
        let expected = [(0.4, "0/s"), (87.6, "88/s"), (12_345.0, "12,300/s"), (98_765_432.0, "98,800,000/s")];
        assert_eq!(expected.map(|(rate, _)| per_second(rate)), expected.map(|(_, text)| text));
    }
}
