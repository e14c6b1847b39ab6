//! The questions, what each compares, and how a subject is made to answer one once.

mod burst;
mod flood;
mod idle;
mod paced;
mod patterns;
mod pingpong;
mod stage;
mod throughput;

use std::fmt;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::event::{LARGE, SMALL};
use crate::machine::{Machine, Seating};
use crate::sink::Fault;
use crate::subject::{Entry, Plan, Poll, Publishers, Stamps, Subject, Wait};

/// Slots of each channel unless somebody asks for another number: what a lane of a default bus has.
pub(crate) const SLOTS: usize = 16_384;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// Events a second, one publisher, one consumer, 128 B events
    #[value(name = "throughput-1-1")]
    Throughput11,
    /// The same with 1 KiB payloads
    #[value(name = "throughput-1-1-1k")]
    Throughput11Large,
    /// Events a second, two publishers, one consumer
    #[value(name = "throughput-2-1")]
    Throughput21,
    /// Events a second, one publisher, two consumers that each receive every event
    #[value(name = "throughput-1-2")]
    Throughput12,
    /// One-way latency at 100,000 events a second, spinning, from the time the event was due
    #[value(name = "paced-100k")]
    Paced100k,
    /// One-way latency at 1,000 events a second, the consumer parked where it can park
    #[value(name = "paced-1k")]
    Paced1k,
    /// CPU of the whole process meanwhile, the publisher asleep between events
    #[value(name = "paced-1k-cpu")]
    Paced1kCpu,
    /// Half a round trip over two channels
    #[value(name = "pingpong")]
    Pingpong,
    /// 100,000 events at once onto an idle consumer, from the first publish to the last event read
    #[value(name = "burst")]
    Burst,
    /// Wait of rare Critical events in a flood of Normal and Low that a consumer of 500 ns an event cannot keep up with
    #[value(name = "critical-flood")]
    CriticalFlood,
    /// What one call of that consumer's handler took meanwhile
    #[value(name = "critical-flood-dispatch")]
    CriticalFloodDispatch,
    /// Events a second with publisher and consumer on one core
    #[value(name = "one-core")]
    OneCore,
    /// Cost of a delivery when each event goes to one subscription, handled or received on one thread
    #[value(name = "many-subscriptions-1")]
    ManySubscriptions1,
    /// The same with 10 subscriptions
    #[value(name = "many-subscriptions-10")]
    ManySubscriptions10,
    /// The same with 100 subscriptions
    #[value(name = "many-subscriptions-100")]
    ManySubscriptions100,
    /// From publish to handler beside 100,000 patterns that do not match, over the same without them
    #[value(name = "non-matching-patterns")]
    NonMatchingPatterns,
    /// CPU of a process with a default bus that has nothing to do
    #[value(name = "idle")]
    Idle,
    /// How often its threads go to sleep meanwhile
    #[value(name = "idle-switches")]
    IdleSwitches,
}

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Question {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The unit of its figures.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Throughput11 | Self::Throughput11Large | Self::Throughput21 | Self::Throughput12 | Self::OneCore => {
                "Mev/s"
            }
            Self::Paced100k | Self::Paced1k | Self::Pingpong => "ns p50",
            Self::Paced1kCpu | Self::Idle => "% of a core",
            Self::Burst => "ns/event",
            Self::CriticalFlood | Self::CriticalFloodDispatch => "ns p99",
            Self::ManySubscriptions1 | Self::ManySubscriptions10 | Self::ManySubscriptions100 => "ns/delivery",
            Self::NonMatchingPatterns => "x",
            Self::IdleSwitches => "switches/s",
        }
    }

    /// Which direction is good.
    pub(crate) fn better(self) -> Better {
        if self.unit() == "Mev/s" { Better::Higher } else { Better::Lower }
    }

    /// The question whose run answers this one: some runs answer two.
    pub(crate) fn asked_as(self) -> Self {
        match self {
            Self::Paced1kCpu => Self::Paced1k,
            Self::CriticalFloodDispatch => Self::CriticalFlood,
            Self::IdleSwitches => Self::Idle,
            question => question,
        }
    }

    /// Receivers on each consumer thread.
    pub(crate) fn subscriptions(self) -> usize {
        match self {
            Self::ManySubscriptions10 => 10,
            Self::ManySubscriptions100 => 100,
            _ => 1,
        }
    }

    /// True for what is asked of a bus and makes no sense for a channel.
    pub(crate) fn is_about_ringmain(self) -> bool {
        matches!(self, Self::NonMatchingPatterns | Self::Idle | Self::IdleSwitches)
    }

    /// True for events a second between two cores.
    pub(crate) fn is_about_throughput(self) -> bool {
        matches!(self, Self::Throughput11 | Self::Throughput11Large | Self::Throughput21 | Self::Throughput12)
    }

    /// True for what one subscription costs beside others.
    pub(crate) fn is_about_subscriptions(self) -> bool {
        matches!(self, Self::ManySubscriptions1 | Self::ManySubscriptions10 | Self::ManySubscriptions100)
    }

    /// Cores without which the question makes no sense.
    pub(crate) fn cores_min(self) -> usize {
        if self == Self::OneCore || self.is_about_ringmain() { 1 } else { 2 }
    }

    /// The rows that a subject has under this question: none where it cannot take part.
    pub(crate) fn classes(self, subject: &Entry) -> Vec<Class> {
        let stamps: &[Stamps] = match self {
            Self::Throughput11 | Self::Pingpong => &[Stamps::Sampled, Stamps::Each],
            _ => &[Stamps::Sampled],
        };
        if !(subject.takes_part)(self) || self == Self::Throughput21 && subject.publishers == Publishers::One {
            return Vec::new();
        }
        let parked = (Poll::Shipped, Wait::Parked);
        let spinning = subject.polls.iter().map(|poll| (*poll, Wait::Spinning));
        let loops: Vec<_> = match self.asked_as() {
            Self::Paced1k if subject.parks => vec![parked],
            Self::Idle => vec![parked],
            // Turned by hand: there is no loop to speak of.
            Self::NonMatchingPatterns => vec![(Poll::Shipped, Wait::Spinning)],
            Self::OneCore if subject.parks => spinning.chain([parked]).collect(),
            _ => spinning.collect(),
        };
        let class = |stamps: &Stamps| {
            let (publishers, stamps) = (subject.publishers, *stamps);
            loops.iter().map(move |&(poll, wait)| Class { publishers, poll, wait, stamps })
        };
        stamps.iter().flat_map(class).collect()
    }
}

/// Rows are compared within one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// What the form measured admits.
    pub(crate) publishers: Publishers,
    /// The poll loop. Parked rows have none and count as shipped.
    pub(crate) poll: Poll,
    /// How the consumer waits.
    pub(crate) wait: Wait,
    /// Which events are stamped by the subject, or for want of that by the harness. What a latency question needs to
    /// be answered is not counted.
    pub(crate) stamps: Stamps,
}

impl Class {
    /// The class in which the reference of `ratio_to_crossbeam` stands: as shipped, whatever the publishers.
    pub(crate) fn is_reference_for(self, other: Self) -> bool {
        self.poll == Poll::Shipped && self.wait == other.wait && self.stamps == other.stamps
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publishers = match self.publishers {
            Publishers::One => "one",
            Publishers::Many => "many",
        };
        let poll = match self.poll {
            Poll::Shipped => "shipped",
            Poll::Tuned => "tuned",
        };
        let wait = match self.wait {
            Wait::Spinning => "spinning",
            Wait::Parked => "parked",
        };
        let stamps = match self.stamps {
            Stamps::Each => "stamped",
            Stamps::Sampled => "sampled",
        };
        write!(f, "{publishers}/{poll}/{wait}/{stamps}")
    }
}

/// One run to be made.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// As by [`Question::asked_as`].
    pub(crate) question: Question,
    /// The row.
    pub(crate) class: Class,
    /// Where.
    pub(crate) machine: &'a Machine,
    /// How many events where the question leaves that open (throughput).
    pub(crate) events: u64,
    /// Slots of each channel.
    pub(crate) slots: usize,
    /// Just prove that it runs.
    pub(crate) smoke: bool,
}

impl Job<'_> {
    fn plan(&self, seating: Seating) -> Plan {
        let Class { poll, wait, stamps, .. } = self.class;
        Plan { seating, subscriptions: self.question.subscriptions(), capacity: self.slots, poll, wait, stamps }
    }

    /// Events of `total` before a measurement begins: two laps, in which each slot is written for the first time.
    fn warmup(&self, total: u64) -> u64 {
        (2 * self.slots as u64).min(total / 4)
    }

    /// `full` events, or a hundredth of them for a smoke test.
    fn scaled(&self, full: u64) -> u64 {
        if self.smoke { full.div_ceil(100) } else { full }
    }
}

/// One figure of one run.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Which question it answers.
    pub(crate) question: Question,
    /// In [`Question::unit`].
    pub(crate) value: f64,
    /// In nanoseconds, for the latency questions.
    pub(crate) latency: Option<Histogram<u64>>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// One figure, or two.
    pub(crate) samples: Vec<Sample>,
    /// Events a second, to choose the next [`Job::events`] by, where that is open.
    pub(crate) events_per_s: Option<f64>,
}

impl Outcome {
    fn one(question: Question, value: f64, latency: Option<Histogram<u64>>) -> Self {
        Self { samples: vec![Sample { question, value, latency }], events_per_s: None }
    }
}

/// Answers one question once; fails if an event is lost, doubled, out of order or changed.
pub(crate) fn run<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let machine = job.machine;
    match job.question {
        Question::Throughput11 => throughput::run::<S, SMALL>(job, machine.seat(1, 1)),
        Question::Throughput11Large => throughput::run::<S, LARGE>(job, machine.seat(1, 1)),
        Question::Throughput21 => throughput::run::<S, SMALL>(job, machine.seat(2, 1)),
        Question::Throughput12 => throughput::run::<S, SMALL>(job, machine.seat(1, 2)),
        Question::OneCore => throughput::run::<S, SMALL>(job, machine.seat_on_one_core()),
        Question::Paced100k => paced::spinning::<S>(job),
        Question::Paced1k | Question::Paced1kCpu => paced::sleeping::<S>(job),
        Question::Pingpong => pingpong::run::<S>(job),
        Question::Burst => burst::run::<S>(job),
        Question::CriticalFlood | Question::CriticalFloodDispatch => flood::run::<S>(job),
        Question::ManySubscriptions1 | Question::ManySubscriptions10 | Question::ManySubscriptions100 => {
            throughput::run::<S, SMALL>(job, machine.seat(1, 1))
        }
        Question::NonMatchingPatterns => Ok(patterns::run(job)),
        Question::Idle | Question::IdleSwitches => Ok(idle::run(job)),
    }
}
