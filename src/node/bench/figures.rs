//! What the rounds add up to: medians, their spread, merged latencies; and the JSON lines made of them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::advice::Advice;
use super::machine::Machine;
use super::measure::Sample;
use super::questions::{LeftOut, Pace, Question};
use crate::IdleStrategy;
use crate::node::summary::Quantiles;

/// A cache line that comes back within so many nanoseconds stayed near.
pub(super) const NEAR_NS_MAX: f64 = 220.0;

/// What an event does to a worker that sleeps, seen from both sides. At this pace each event finds it asleep.
pub(super) const WAKE_UP: Question = Question::Latency { idle: IdleStrategy::Park, pace: Pace::Calm };
/// The name under which the figure of [`WAKE_UP`] stands a second time.
const WAKE_UP_NAME: &str = "wake/1000";

/// The answers to one question, one a round.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// What was asked.
    pub(super) question: Question,
    samples: Vec<Sample>,
}

impl Figure {
    pub(super) fn new(question: Question) -> Self {
        Self { question, samples: Vec::new() }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The answer of each round.
    pub(super) fn rounds(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.value).collect()
    }

    /// Of the rounds' answers: nanoseconds (themselves medians), or events a second.
    pub(super) fn spread(&self) -> Spread {
        Spread::of(self.rounds())
    }

    /// The latencies of all rounds together, where they were asked for.
    pub(super) fn latency(&self) -> Option<Histogram<u64>> {
        let mut all: Option<Histogram<u64>> = None;
        for paced in self.samples.iter().filter_map(|sample| sample.paced.as_ref()) {
            match &mut all {
                None => all = Some(paced.latency.clone()),
                Some(all) => all.add(&paced.latency).expect("all rounds have the same bounds"),
            }
        }
        all
    }

    /// Of the rounds' 99th percentiles, in nanoseconds.
    pub(super) fn p99(&self) -> Option<Spread> {
        self.of_paced(|sample| Some(sample.paced.as_ref()?.latency.value_at_quantile(0.99) as f64))
    }

    /// Of how long the call of `publish` took, in nanoseconds; each round's is itself a median.
    pub(super) fn publish_call(&self) -> Option<Spread> {
        self.of_paced(|sample| Some(sample.paced.as_ref()?.publish_ns))
    }

    /// Of the worker's share of a core, in percent.
    pub(super) fn worker_cpu(&self) -> Option<Spread> {
        self.of_paced(|sample| Some(sample.paced.as_ref()?.cpu_percent?.0))
    }

    /// Of the whole process's share of a core, in percent.
    pub(super) fn process_cpu(&self) -> Option<Spread> {
        self.of_paced(|sample| Some(sample.paced.as_ref()?.cpu_percent?.1))
    }

    /// Events accepted, and of these delivered, over all rounds.
    pub(super) fn events(&self) -> (u64, u64) {
        let both = self.samples.iter().map(|sample| (sample.published, sample.delivered));
        both.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn of_paced(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        let values: Vec<_> = self.samples.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    }
}

/// The middle and the ends of some values, at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (values.first(), values.last()) else {
            unreachable!("each question is asked at least once");
        };
        Self { median: values[values.len() / 2], low, high }
    }
}

/// Points of a distribution.
pub(super) fn quantiles(latency: &Histogram<u64>) -> Quantiles {
    let at = |quantile| latency.value_at_quantile(quantile);
    Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: latency.max() }
}

/// Whether two cores are near each other, by the time a cache line takes there and back.
pub(super) fn regime(line_ns: f64) -> &'static str {
    if line_ns < NEAR_NS_MAX { "near" } else { "far" }
}

/// All that a run has to say.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) figures: Vec<Figure>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) advice: Vec<Advice>,
    pub(super) seconds: f64,
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Line<'a> {
    Machine {
        ringmain: &'a str,
        processor: &'a str,
        system: &'a str,
        cores: usize,
        worker_core: Option<usize>,
        publisher_core: Option<usize>,
        seconds: f64,
        rounds: usize,
        questions: Vec<String>,
    },
    Figure {
        question: String,
        unit: &'a str,
        median: f64,
        low: f64,
        high: f64,
        rounds: Vec<f64>,
        #[serde(flatten)]
        extra: Extra,
        events_published: u64,
        events_delivered: u64,
    },
    LeftOut(&'a LeftOut),
    Recommendation(&'a Advice),
}

/// What only some figures have.
#[derive(Serialize, Default)]
struct Extra {
    #[serde(skip_serializing_if = "Option::is_none")]
    regime: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ns: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish_call_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_cpu_percent: Option<f64>,
}

impl Report {
    /// The figure of one question, if it was asked.
    pub(super) fn figure(&self, question: Question) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.question == question)
    }

    /// Rounds of each question.
    pub(super) fn rounds(&self) -> usize {
        self.figures.first().map_or(0, |figure| figure.samples.len())
    }

    /// One JSON object a line: the machine, each figure, what was left out, what is recommended.
    pub(super) fn to_json_lines(&self) -> String {
        let machine = &self.machine;
        let head = Line::Machine {
            ringmain: env!("CARGO_PKG_VERSION"),
            processor: &machine.processor,
            system: &machine.system,
            cores: machine.cores,
            worker_core: machine.seats.map(|seats| seats.worker.id),
            publisher_core: machine.seats.map(|seats| seats.publisher.id),
            seconds: self.seconds,
            rounds: self.rounds(),
            questions: self.named().map(|(name, _)| name).collect(),
        };
        let lines = [head]
            .into_iter()
            .chain(self.named().map(|(name, figure)| figure.line(name)))
            .chain(self.left_out.iter().map(Line::LeftOut))
            .chain(self.advice.iter().map(Line::Recommendation));
        lines
            .map(|line| serde_json::to_string(&line).expect("numbers, texts and fixed names always serialise") + "\n")
            .collect()
    }

    /// The figures and the names they go by.
    fn named(&self) -> impl Iterator<Item = (String, &Figure)> {
        let wake_up = self.figure(WAKE_UP).map(|figure| (WAKE_UP_NAME.to_owned(), figure));
        self.figures.iter().map(|figure| (figure.question.to_string(), figure)).chain(wake_up)
    }
}

impl Figure {
    fn line(&self, question: String) -> Line<'static> {
        let Spread { median, low, high } = self.spread();
        let extra = Extra {
            regime: (self.question == Question::LineRoundTrip).then(|| regime(median)),
            latency_ns: self.latency().as_ref().map(quantiles),
            publish_call_ns: self.publish_call().map(|spread| spread.median),
            worker_cpu_percent: self.worker_cpu().map(|spread| spread.median),
            process_cpu_percent: self.process_cpu().map(|spread| spread.median),
        };
        let (events_published, events_delivered) = self.events();
        let (unit, rounds) = (self.question.unit(), self.rounds());
        Line::Figure { question, unit, median, low, high, rounds, extra, events_published, events_delivered }
    }
}
