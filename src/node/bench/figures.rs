//! What the rounds add up to: medians, their spread, merged latencies; and the JSON lines made of them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::advice::Advice;
use super::machine::Machine;
use super::measure::{Paced, Sample};
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
        Spread::of_any(self.rounds()).expect("each question is asked at least once")
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

    /// The 99th percentile of each round, in nanoseconds, where latency was asked for.
    pub(super) fn p99_rounds(&self) -> Vec<f64> {
        let paced = self.samples.iter().filter_map(|sample| sample.paced.as_ref());
        paced.map(|paced| paced.latency.value_at_quantile(0.99) as f64).collect()
    }

    /// Of the rounds' 99th percentiles, in nanoseconds.
    pub(super) fn p99(&self) -> Option<Spread> {
        Spread::of_any(self.p99_rounds())
    }

    /// Of how long the call of `publish` took, in nanoseconds; each round's is itself a median.
    pub(super) fn publish_call(&self) -> Option<Spread> {
        self.of_paced(|paced| Some(paced.publish_ns))
    }

    /// Of the worker's share of a core, in percent.
    pub(super) fn worker_cpu(&self) -> Option<Spread> {
        self.of_paced(|paced| Some(paced.cpu_percent?.0))
    }

    /// Of the whole process's share of a core, in percent.
    pub(super) fn process_cpu(&self) -> Option<Spread> {
        self.of_paced(|paced| Some(paced.cpu_percent?.1))
    }

    /// Events accepted, and of these delivered, over all rounds.
    pub(super) fn events(&self) -> (u64, u64) {
        let both = self.samples.iter().map(|sample| (sample.published, sample.delivered));
        both.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn of_paced(&self, value: impl Fn(&Paced) -> Option<f64>) -> Option<Spread> {
        Spread::of_any(self.samples.iter().filter_map(|sample| value(sample.paced.as_ref()?)).collect())
    }
}

/// The middle and the ends of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Spread {
    /// `None` of no values.
    pub(super) fn of_any(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        Some(Self { median: values.get(values.len() / 2).copied()?, low: *values.first()?, high: *values.last()? })
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
    /// Cores that others kept busy meanwhile; `None` where the system does not say.
    pub(super) others_cores: Option<f64>,
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
        others_cores: Option<f64>,
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
    p99_of_rounds_ns: Option<f64>,
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
            others_cores: self.others_cores,
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
        let median_of = |spread: Option<Spread>| spread.map(|spread| hundredths(spread.median));
        let extra = Extra {
            regime: (self.question == Question::LineRoundTrip).then(|| regime(median)),
            latency_ns: self.latency().as_ref().map(quantiles),
            p99_of_rounds_ns: median_of(self.p99()),
            publish_call_ns: median_of(self.publish_call()),
            worker_cpu_percent: median_of(self.worker_cpu()),
            process_cpu_percent: median_of(self.process_cpu()),
        };
        let (events_published, events_delivered) = self.events();
        Line::Figure {
            question,
            unit: self.question.unit(),
            median: hundredths(median),
            low: hundredths(low),
            high: hundredths(high),
            rounds: self.rounds().into_iter().map(hundredths).collect(),
            extra,
            events_published,
            events_delivered,
        }
    }
}

/// More digits would say nothing.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use core_affinity::CoreId;
    use serde_json::{Value, json};

    use crate::node::bench::machine::Seats;

    /// A round of `question` whose latencies, if it asks for these, are all `value`.
    fn sample(question: Question, value: f64) -> Sample {
        let mut latency = Histogram::new_with_bounds(1, 1 << 40, 2).unwrap();
        latency.record_n(value as u64, 1_000).unwrap();
        let is_paced = matches!(question, Question::Latency { .. } | Question::Unpinned);
        let paced = is_paced.then_some(Paced { latency, publish_ns: value / 10.0, cpu_percent: Some((1.5, 3.0)) });
        Sample { value, paced, published: 1_000, delivered: 1_000 }
    }

    /// Three rounds of all questions on two cores: 100, 200 and 120 (ns, or events a second).
    pub(in crate::node::bench) fn report() -> Report {
        let figures = Question::all().into_iter().map(|question| Figure {
            question,
            samples: [100.0, 200.0, 120.0].map(|value| sample(question, value)).to_vec(),
        });
        let seats = Seats { worker: CoreId { id: 0 }, publisher: CoreId { id: 1 } };
        Report {
            machine: Machine { processor: "<P>".into(), system: "linux 6".into(), cores: 2, seats: Some(seats) },
            figures: figures.collect(),
            left_out: vec![LeftOut { what: "cpu".into(), reason: "no books".into() }],
            advice: vec![Advice { setting: "s", value: "v".into(), code: String::new(), reason: "r".into() }],
            seconds: 3.0,
            others_cores: Some(1.25),
        }
    }

    #[test]
    fn a_figure_has_the_middle_and_the_ends_of_its_rounds_and_all_their_latencies() {
        let report = report();
        let figure = report.figure(WAKE_UP).expect("it is asked");
        assert_eq!(figure.spread(), Spread { median: 120.0, low: 100.0, high: 200.0 });
        assert_eq!(figure.publish_call(), Spread::of_any(vec![10.0, 12.0, 20.0]));
        assert_eq!((figure.worker_cpu().unwrap().median, figure.process_cpu().unwrap().median), (1.5, 3.0));
        let latency = figure.latency().expect("it is one of latency");
        assert_eq!((latency.len(), latency.min(), latency.max()), (3_000, 100, 200));
        assert_eq!((figure.p99_rounds(), figure.events()), (vec![100.0, 200.0, 120.0], (3_000, 3_000)));
        assert_eq!(Spread::of_any(Vec::new()), None);
    }

    #[test]
    fn json_lines_are_machine_figures_left_out_and_recommendations() {
        let text = report().to_json_lines();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let (head, figures) = (&lines[0], &lines[1..19]);
        assert_eq!((&head["record"], &head["publisher_core"]), (&json!("machine"), &json!(1)));
        let names: Vec<_> = figures.iter().map(|figure| figure["question"].clone()).collect();
        assert_eq!(head["questions"], Value::Array(names));
        assert_eq!((&figures[0]["regime"], &figures[0]["latency_ns"]), (&json!("near"), &Value::Null));
        assert_eq!(figures[17]["question"], "wake/1000");
        assert_eq!((&figures[17]["latency_ns"]["p50"], &figures[17]["worker_cpu_percent"]), (&json!(120), &json!(1.5)));
        assert_eq!(figures[16]["unit"], "events/s");
        assert_eq!(lines[19], json!({"record": "left_out", "what": "cpu", "reason": "no books"}));
        assert_eq!(lines[20], json!({"record": "recommendation", "setting": "s", "value": "v", "reason": "r"}));
        assert_eq!(lines.len(), 21);
    }
}
