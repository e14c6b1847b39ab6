//! The targets themselves: our figure, what it is held against, the bound.

use crate::machine::Regime;
use crate::questions::Question;
use crate::subject::{Poll, Stamps, Wait};

use Against::{Best, BestBut, Limit, Minus, P95, Subject};
use Poll::{Shipped, Tuned};
use Question::{
    Burst, CriticalFlood, CriticalFloodDispatch, Idle, IdleSwitches, ManySubscriptions100, NonMatchingPatterns,
    OneCore, Paced1k, Paced1kCpu, Pingpong, Throughput11, Throughput11Large, Throughput12, Throughput21,
};

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Against {
    /// That of a subject with this poll loop, as a quotient.
    Subject(&'static str, Poll),
    /// That of the best rival of the class, as a quotient.
    Best,
    /// The same, these left out.
    BestBut(&'static [&'static str]),
    /// That of the same subject under another question, as a difference.
    Minus(Question),
    /// Nothing: the bound is in the question's unit.
    Limit,
    /// Nothing: the bound is on the 95th percentile, in nanoseconds.
    P95,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) id: &'static str,
    pub(super) question: Question,
    /// Ours.
    pub(super) subject: &'static str,
    /// The class our figure is taken from; publishers are the subject's.
    pub(super) poll: Poll,
    pub(super) wait: Wait,
    pub(super) stamps: Stamps,
    pub(super) against: Against,
    /// At least this where higher is better, else at most. A row may have a stretch alone.
    pub(super) bound: Option<f64>,
    /// What would be better still.
    pub(super) stretch: Option<f64>,
    /// The regime it speaks of; `None` where it makes no difference.
    pub(super) regime: Option<Regime>,
}

const fn target(id: &'static str, question: Question, subject: &'static str, against: Against, bound: f64) -> Target {
    Target { bound: Some(bound), ..wish(id, question, subject, against) }
}

const fn wish(id: &'static str, question: Question, subject: &'static str, against: Against) -> Target {
    let (poll, wait) = match against {
        Subject(_, poll) => (poll, Wait::Spinning),
        _ => (Shipped, Wait::Spinning),
    };
    let (stamps, bound, stretch, regime) = (Stamps::Sampled, None, None, Some(Regime::Near));
    Target { id, question, subject, poll, wait, stamps, against, bound, stretch, regime }
}

impl Target {
    const fn stretch(self, bound: f64) -> Self {
        Self { stretch: Some(bound), ..self }
    }

    const fn stamped(self) -> Self {
        Self { stamps: Stamps::Each, ..self }
    }

    const fn parked(self) -> Self {
        Self { wait: Wait::Parked, ..self }
    }

    const fn tuned(self) -> Self {
        Self { poll: Tuned, ..self }
    }

    const fn far(self) -> Self {
        Self { regime: Some(Regime::Far), ..self }
    }

    const fn anywhere(self) -> Self {
        Self { regime: None, ..self }
    }
}

const CROSSBEAM: Against = Subject("crossbeam-channel", Shipped);
pub(super) const SINGLE: &str = "ringmain-single";
pub(super) const MANY: &str = "ringmain";
const FOUR: &str = "ringmain-4-workers";
/// Rings for one publisher, which P8 does not ask to be beaten.
const SINGLE_RINGS: &[&str] = &["rtrb", "disruptor-single"];

pub(super) static TARGETS: &[Target] = &[
    target("P1", Throughput11, SINGLE, CROSSBEAM, 6.0),
    target("P1", Throughput11, SINGLE, Subject("disruptor-single", Shipped), 2.0),
    target("P1", Throughput11, SINGLE, Subject("disruptor-single", Tuned), 1.0),
    wish("P1", Throughput11, SINGLE, Subject("bare-ring-single", Tuned)).stretch(0.75),
    target("P2", Throughput11, MANY, CROSSBEAM, 4.0),
    target("P2", Throughput11, MANY, Subject("crossbeam-array-queue", Shipped), 2.5),
    target("P3", Throughput21, MANY, Best, 2.5).stretch(3.5),
    target("P3", Throughput21, MANY, Best, 2.5).tuned().stretch(3.5),
    target("P4", Throughput12, SINGLE, Subject("disruptor-single", Shipped), 1.5).stretch(2.0),
    target("P5", Throughput11Large, SINGLE, CROSSBEAM, 2.5),
    target("P5", Throughput11Large, SINGLE, Subject("bare-ring-single", Tuned), 0.9),
    target("P6", Pingpong, "bare-ring-single", Subject("disruptor-single", Shipped), 1.0),
    target("P6", Pingpong, SINGLE, CROSSBEAM, 0.6).stretch(0.5),
    target("P7", Burst, SINGLE, CROSSBEAM, 0.17),
    target("P7", Burst, MANY, CROSSBEAM, 0.3),
    target("P8", Throughput11, SINGLE, CROSSBEAM, 1.8).stamped(),
    target("P8", Throughput11, SINGLE, BestBut(SINGLE_RINGS), 1.0).stamped(),
    wish("P8", Throughput11, SINGLE, Subject("disruptor-single", Shipped)).stamped().stretch(1.0),
    target("P9", Throughput11, SINGLE, Subject("bare-ring-single", Tuned), 0.9).stretch(0.95),
    target("P9", Throughput11, MANY, Subject("bare-ring", Tuned), 0.8).stretch(0.95),
    target("P10", CriticalFlood, MANY, Minus(CriticalFloodDispatch), 150.0),
    target("P10", CriticalFlood, SINGLE, Minus(CriticalFloodDispatch), 150.0),
    target("P11", Paced1k, MANY, CROSSBEAM, 1.0).parked(),
    target("P11", Paced1k, FOUR, CROSSBEAM, 1.0).parked(),
    target("P11", Paced1kCpu, MANY, CROSSBEAM, 1.0).parked().stretch(0.8),
    target("P11", Paced1kCpu, FOUR, CROSSBEAM, 1.0).parked().stretch(0.8),
    target("P11", Paced1k, FOUR, P95, 100_000.0).parked(),
    target("P11", Paced1kCpu, FOUR, Limit, 10.0).parked(),
    target("P12", Idle, MANY, Limit, 0.1).parked().anywhere(),
    target("P12", IdleSwitches, MANY, Limit, 0.5).parked().anywhere(),
    target("P15", Throughput11, SINGLE, CROSSBEAM, 4.0).far(),
    target("P15", Throughput11, MANY, CROSSBEAM, 4.0).far(),
    target("P15", Throughput11Large, SINGLE, CROSSBEAM, 4.0).far(),
    target("P15", Throughput11Large, MANY, CROSSBEAM, 4.0).far(),
    target("P15", Throughput21, MANY, CROSSBEAM, 4.0).far(),
    target("P15", Throughput12, SINGLE, CROSSBEAM, 4.0).far(),
    target("P15", Throughput12, MANY, CROSSBEAM, 4.0).far(),
    target("P16", OneCore, SINGLE, CROSSBEAM, 1.0).anywhere(),
    target("P16", OneCore, MANY, CROSSBEAM, 1.0).anywhere(),
    target("P16", OneCore, MANY, CROSSBEAM, 1.0).parked().anywhere(),
    target("P17", NonMatchingPatterns, MANY, Limit, 1.02).anywhere(),
    target("P18", ManySubscriptions100, MANY, Subject("tokio-broadcast", Shipped), 0.1),
];

/// Those that other programs answer.
pub(super) static ELSEWHERE: &[(&str, &str, &str)] = &[
    ("P13", "wake check ≤ 1 ns", "cargo bench --bench wake, and the instruction counts of a publish"),
    ("P14", "0 allocations an event", "cargo bench --bench allocation"),
];
