//! Runs all rows of one question in interleaved rounds, each run between two ping-pongs, and keeps the regimes apart.

use std::error::Error;
use std::fmt;

use hdrhistogram::Histogram;

use crate::machine::{Load, Machine, Regime};
use crate::questions::{Class, Job, Outcome, Question};
use crate::sink::Fault;
use crate::subject::Entry;

/// Attempts are at most this many times the rounds asked for.
const ATTEMPTS_FACTOR: usize = 3;
/// How long a run of open length should take, in seconds.
const RUN_SECONDS: f64 = 0.04;
/// Events of a run of open length, least and most. The first run of a row takes the least, and only serves to choose how
/// many the others take.
const RUN_EVENTS: [f64; 2] = [100_000.0, 20_000_000.0];
/// The least of them where each goes to many receivers.
const RUN_EVENTS_FLOOR: f64 = 10_000.0;
/// The same for a smoke test, which does without a probe.
const SMOKE_EVENTS: u64 = 20_000;

/// Cores that others may keep busy before it is worth a word.
const OTHERS_CORES_MAX: f64 = 0.1;

/// How much is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Runs of each row in one regime.
    pub(crate) rounds: usize,
    /// Slots of each channel.
    pub(crate) slots: usize,
    /// Tiny counts, and a change of regime does not matter.
    pub(crate) smoke: bool,
}

/// A run that failed, and which.
#[derive(Debug)]
pub(crate) struct Failed {
    subject: &'static str,
    question: Question,
    class: Class,
    fault: Fault,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, question, class, fault } = self;
        write!(f, "{subject} in {} ({class}): {fault}", question.name())
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.fault)
    }
}

/// The figures of one row under one question in one regime.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Which question they answer.
    pub(crate) question: Question,
    /// Whose they are.
    pub(crate) subject: &'static Entry,
    /// Of which class.
    pub(crate) class: Class,
    /// When.
    pub(crate) regime: Regime,
    /// One a run, in [`Question::unit`].
    pub(crate) values: Vec<f64>,
    /// All runs together, in nanoseconds.
    pub(crate) latency: Option<Histogram<u64>>,
}

#[derive(Debug)]
struct Row {
    subject: &'static Entry,
    class: Class,
    /// Events a run, once known.
    events: Option<u64>,
    attempts: usize,
    /// Runs kept, by [`Regime::ALL`].
    kept: [usize; 2],
}

/// What came of one question.
#[derive(Debug)]
pub(crate) struct Answer {
    /// By row, then regime.
    pub(crate) figures: Vec<Figures>,
    /// Runs made, the discarded ones included.
    pub(crate) attempts: usize,
    /// Runs discarded as the regime changed inside them.
    pub(crate) discarded: usize,
    /// Cores that others kept busy meanwhile.
    pub(crate) others: Option<f64>,
}

/// Asks each of `subjects`. The question is one that is [`Question::asked_as`] itself; the answer may hold figures for
/// a second one.
pub(crate) fn ask(
    question: Question,
    subjects: &[&'static Entry],
    machine: &Machine,
    effort: Effort,
) -> Result<Answer, Failed> {
    let mut rows: Vec<_> = subjects
        .iter()
        .flat_map(|subject| question.classes(subject).into_iter().map(move |class| (*subject, class)))
        .map(|(subject, class)| Row { subject, class, events: None, attempts: 0, kept: [0; 2] })
        .collect();
    let mut answer = Answer { figures: Vec::new(), attempts: 0, discarded: 0, others: None };
    let load = Load::now();
    let mut before = machine.regime();
    for round in 0.. {
        let leader = leader(&rows);
        let pending: Vec<_> = (0..rows.len())
            .filter(|&row| rows[row].kept[leader] < effort.rounds)
            .filter(|&row| rows[row].attempts < effort.rounds * ATTEMPTS_FACTOR)
            .collect();
        if pending.is_empty() {
            break;
        }
        // Each round begins with another row, so that none always follows the same one.
        for turn in 0..pending.len() {
            let row = &mut rows[pending[(turn + round) % pending.len()]];
            let outcome = row.run(question, machine, effort).map_err(|fault| Failed {
                subject: row.subject.name,
                question,
                class: row.class,
                fault,
            })?;
            let after = machine.regime();
            row.attempts += 1;
            answer.attempts += 1;
            if before == after || effort.smoke {
                row.kept[index(after)] += 1;
                for sample in outcome.samples {
                    answer.keep(row, after, sample.question, sample.value, sample.latency);
                }
            } else {
                answer.discarded += 1;
            }
            before = after;
        }
    }
    answer.others = Load::now().zip(load).map(|(now, earlier)| now.others_since(&earlier));
    Ok(answer)
}

impl Row {
    fn run(&mut self, question: Question, machine: &Machine, effort: Effort) -> Result<Outcome, Fault> {
        let Effort { slots, smoke, .. } = effort;
        let job = |events| Job { question, class: self.class, machine, events, slots, smoke };
        // What goes to many receivers takes as much longer.
        let [least, most] = RUN_EVENTS;
        let least = (least / question.subscriptions() as f64).max(RUN_EVENTS_FLOOR);
        let events = match self.events {
            Some(events) => events,
            None if smoke => SMOKE_EVENTS / question.subscriptions() as u64,
            None => {
                let probe = (self.subject.run)(&job(least as u64))?;
                let Some(events_per_s) = probe.events_per_s else {
                    // Of fixed length: the probe was a run like any other.
                    self.events = Some(least as u64);
                    return Ok(probe);
                };
                (events_per_s * RUN_SECONDS).clamp(least, most) as u64
            }
        };
        self.events = Some(events);
        (self.subject.run)(&job(events))
    }
}

impl Answer {
    fn keep(&mut self, row: &Row, regime: Regime, question: Question, value: f64, latency: Option<Histogram<u64>>) {
        let known = self.figures.iter_mut().find(|figures| {
            figures.subject.name == row.subject.name
                && (figures.class, figures.regime, figures.question) == (row.class, regime, question)
        });
        let Some(figures) = known else {
            let (subject, class) = (row.subject, row.class);
            self.figures.push(Figures { question, subject, class, regime, values: vec![value], latency });
            return;
        };
        figures.values.push(value);
        if let (Some(all), Some(latency)) = (&mut figures.latency, latency) {
            all.add(latency).expect("both histograms have the same bounds");
        }
    }
}

fn index(regime: Regime) -> usize {
    Regime::ALL.iter().position(|each| *each == regime).expect("ALL has each regime")
}

/// The regime with the most runs so far: the one to fill up.
fn leader(rows: &[Row]) -> usize {
    let runs = |regime: usize| rows.iter().map(|row| row.kept[regime]).sum::<usize>();
    usize::from(runs(1) > runs(0))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs, {} of them discarded as the regime changed", self.attempts, self.discarded)?;
        match self.others {
            Some(cores) if cores >= OTHERS_CORES_MAX => {
                write!(f, "; others kept {cores:.1} cores busy meanwhile: take the figures as soft")
            }
            _ => Ok(()),
        }
    }
}
