//! What is asked of the machine: names, weights, and what a machine of one core is not asked.

use std::fmt;
use std::time::Duration;

use super::machine::Machine;
use crate::IdleStrategy;

/// A sampled bus stamps one event in so many.
pub(super) const SAMPLE: u32 = 64;

/// One thing to measure. Displays as the name that the JSON lines carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// A cache line from core to core and back.
    LineRoundTrip,
    /// An event from publisher to handler, and the handler's answer back in a mailbox.
    EventRoundTrip,
    /// From publish to the end of the handler, one event at a time.
    Latency {
        /// What the worker does between events.
        idle: IdleStrategy,
        /// How far apart these are.
        pace: Pace,
    },
    /// As `Latency` with the default idle strategy at 10,000/s, neither worker nor publisher pinned.
    Unpinned,
    /// Events a second from one publisher to one worker that is never idle.
    Throughput {
        /// Whether the bus is built for a single publisher.
        single: bool,
        /// Whether one event in [`SAMPLE`] is stamped, instead of each.
        sampled: bool,
    },
}

/// How far apart events are, and what the publisher does in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// 10,000 events a second by a publisher that keeps its core.
    Brisk,
    /// 1,000 events a second by a publisher that sleeps.
    Calm,
}

impl Pace {
    /// Both, the faster first.
    pub(super) const ALL: [Self; 2] = [Self::Brisk, Self::Calm];

    /// Events a second.
    pub(super) const fn per_second(self) -> u32 {
        match self {
            Self::Brisk => 10_000,
            Self::Calm => 1_000,
        }
    }

    /// From one event to the next.
    pub(super) const fn period(self) -> Duration {
        Duration::from_micros(1_000_000 / self.per_second() as u64)
    }
}

/// What was not measured, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct LeftOut {
    /// A question's name, or `cpu`.
    pub(super) what: String,
    /// Why.
    pub(super) reason: String,
}

impl Question {
    /// All of them, in the order of the table.
    pub(super) fn all() -> Vec<Self> {
        let latency = Pace::ALL.into_iter().flat_map(|pace| IdleStrategy::ALL.map(|idle| Self::Latency { idle, pace }));
        let throughput = [false, true]
            .into_iter()
            .flat_map(|single| [false, true].map(|sampled| Self::Throughput { single, sampled }));
        [Self::LineRoundTrip, Self::EventRoundTrip]
            .into_iter()
            .chain(latency)
            .chain([Self::Unpinned])
            .chain(throughput)
            .collect()
    }

    /// Those that make sense on `machine`, and the others with the reason.
    pub(super) fn fit_for(machine: &Machine) -> (Vec<Self>, Vec<LeftOut>) {
        let (mut fit, mut left_out) = (Vec::new(), Vec::new());
        for question in Self::all() {
            match question.unfit(machine) {
                None => fit.push(question),
                Some(reason) => left_out.push(LeftOut { what: question.to_string(), reason }),
            }
        }
        (fit, left_out)
    }

    fn unfit(self, machine: &Machine) -> Option<String> {
        let cores = machine.cores;
        match self {
            Self::LineRoundTrip | Self::EventRoundTrip if machine.is_single() => {
                Some(format!("goes between two cores; this process may use {cores}"))
            }
            Self::Latency { idle: IdleStrategy::BusySpin, .. } if machine.is_single() => {
                Some(format!("a spinning worker would keep the publisher from its core; this process may use {cores}"))
            }
            Self::Unpinned if machine.is_single() => {
                Some(format!("there is no choice between cores; this process may use {cores}"))
            }
            Self::Unpinned if machine.seats.is_none() => Some("this system pins no threads to cores".to_owned()),
            _ => None,
        }
    }

    /// Its share of the time, compared with others: slow events need more of it.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::LineRoundTrip | Self::EventRoundTrip => 0.5,
            Self::Latency { pace: Pace::Calm, .. } => 2.0,
            Self::Latency { .. } | Self::Unpinned | Self::Throughput { .. } => 1.0,
        }
    }

    /// What its figures are in.
    pub(super) fn unit(self) -> &'static str {
        if matches!(self, Self::Throughput { .. }) { "events/s" } else { "ns" }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineRoundTrip => f.write_str("round_trip/line"),
            Self::EventRoundTrip => f.write_str("round_trip/event"),
            Self::Latency { idle, pace } => write!(f, "latency/{idle}/{}", pace.per_second()),
            Self::Unpinned => {
                write!(f, "latency/{}/{}/unpinned", IdleStrategy::default(), Pace::Brisk.per_second())
            }
            Self::Throughput { single, sampled } => {
                let form = if *single { "single" } else { "many" };
                let stamps = if *sampled { format!("1-in-{SAMPLE}") } else { "every".to_owned() };
                write!(f, "throughput/{form}/{stamps}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bench::machine::Seats;
    use core_affinity::CoreId;

    fn machine(cores: usize, pins: bool) -> Machine {
        let seats = pins.then_some(Seats { worker: CoreId { id: 0 }, publisher: CoreId { id: 1 } });
        Machine { processor: "p".to_owned(), system: "s".to_owned(), cores, seats }
    }

    fn names(questions: &[Question]) -> Vec<String> {
        questions.iter().map(Question::to_string).collect()
    }

    #[test]
    fn two_cores_are_asked_everything() {
        let (fit, left_out) = Question::fit_for(&machine(2, true));
        assert_eq!(left_out, []);
        let mut names = names(&fit);
        assert_eq!(names.len(), 17);
        names.dedup();
        assert_eq!(names.len(), 17, "each question has a name of its own");
    }

    #[test]
    fn one_core_is_spared_what_needs_two_and_is_told_why() {
        let (fit, left_out) = Question::fit_for(&machine(1, false));
        let left: Vec<_> = left_out.iter().map(|left| left.what.as_str()).collect();
        let expected = [
            "round_trip/line",
            "round_trip/event",
            "latency/busy-spin/10000",
            "latency/busy-spin/1000",
            "latency/adaptive/10000/unpinned",
        ];
        assert_eq!(left, expected);
        assert!(left_out.iter().all(|left| left.reason.ends_with("this process may use 1")));
        assert_eq!(names(&fit)[..2], ["latency/yield/10000", "latency/backoff/10000"]);
        assert_eq!(fit.len() + left.len(), Question::all().len());
    }

    #[test]
    fn a_system_that_pins_nothing_is_not_asked_about_pinning() {
        let (_, left_out) = Question::fit_for(&machine(2, false));
        let [left] = &left_out[..] else { panic!("{left_out:?}") };
        assert_eq!(left.what, "latency/adaptive/10000/unpinned");
    }
}
