//! The targets, one row each, and whether the rounds that were run meet them.
//!
//! A row names our figure, what it is held against and the bound. Nothing is measured here: both figures are medians of
//! the same rounds that the tables show.

mod list;

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Regime;
use crate::questions::{Better, Class, Question};
use crate::report::{grid, median};
use crate::rounds::Figures;
use crate::subject::Poll::{Shipped, Tuned};

use list::Against::{Best, BestBut, Limit, Minus, P95, Subject};
use list::{ELSEWHERE, TARGETS, Target};

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// The bound holds, and so does the stretch.
    Stretch,
    /// The bound holds; the stretch, if there is one, does not.
    Met,
    /// There is only a stretch, and it is not reached.
    Short,
    /// The bound does not hold.
    Missed,
    /// A figure is lacking: not asked, or its regime did not come up.
    Open,
}

/// One row with its figures, one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Held {
    target: &'static str,
    question: String,
    class: String,
    subject: &'static str,
    against: String,
    /// As text: direction, bound and unit.
    required: String,
    /// In the unit of the bound.
    measured: Option<f64>,
    verdict: Verdict,
    regime: Option<Regime>,
    rounds: usize,
    machine: String,
}

/// The questions that the targets need, each as it is asked.
pub(crate) fn questions() -> Vec<Question> {
    let mut needed: Vec<Question> = Vec::new();
    for target in TARGETS {
        let other = match target.against {
            Minus(other) => Some(other),
            _ => None,
        };
        for question in [Some(target.question), other].into_iter().flatten() {
            if !needed.contains(&question) {
                needed.push(question);
            }
        }
    }
    needed
}

/// Holds each target against what was measured.
pub(crate) fn hold(figures: &[Figures], machine: &str) -> Vec<Held> {
    TARGETS.iter().map(|target| target.hold(figures, machine)).collect()
}

impl Target {
    fn hold(&self, figures: &[Figures], machine: &str) -> Held {
        let wanted: &[Regime] = self.regime.as_ref().map_or(&Regime::ALL, std::slice::from_ref);
        let found = wanted.iter().find_map(|&regime| {
            let ours = self.ours(self.question, figures, regime)?;
            Some((regime, ours, self.measure(ours, figures)?))
        });
        let measured = found.map(|(_, _, measured)| measured);
        let reached = |bound: f64| match self.question.better() {
            Better::Higher => measured.is_some_and(|measured| measured >= bound),
            Better::Lower => measured.is_some_and(|measured| measured <= bound),
        };
        Held {
            target: self.id,
            question: self.question.name(),
            class: found.map_or_else(String::new, |(_, ours, _)| ours.class.to_string()),
            subject: self.subject,
            against: self.opponent(),
            required: self.required(),
            measured,
            verdict: match measured {
                None => Verdict::Open,
                Some(_) if self.stretch.is_some_and(reached) => Verdict::Stretch,
                Some(_) => match self.bound.map(reached) {
                    Some(true) => Verdict::Met,
                    Some(false) => Verdict::Missed,
                    None => Verdict::Short,
                },
            },
            regime: found.map(|(regime, ..)| regime),
            rounds: found.map_or(0, |(_, ours, _)| ours.values.len()),
            machine: machine.to_owned(),
        }
    }

    fn ours<'a>(&self, question: Question, figures: &'a [Figures], regime: Regime) -> Option<&'a Figures> {
        let is_ours = |class: Class| (class.poll, class.wait, class.stamps) == (self.poll, self.wait, self.stamps);
        figures.iter().find(|each| {
            each.question == question
                && each.regime == regime
                && each.subject.name == self.subject
                && is_ours(each.class)
        })
    }

    /// In the unit of the bound; `None` when the other side is lacking.
    fn measure(&self, ours: &Figures, figures: &[Figures]) -> Option<f64> {
        let own = median(&ours.values);
        let others = figures.iter().filter(|each| each.question == ours.question && each.regime == ours.regime);
        let best = |left_out: &[&str]| {
            let rivals = others
                .clone()
                .filter(|each| each.subject.rival && !left_out.contains(&each.subject.name))
                .filter(|each| {
                    let Class { poll, wait, stamps, .. } = each.class;
                    (poll, wait, stamps) == (self.poll, self.wait, self.stamps)
                });
            rivals.map(|each| median(&each.values)).reduce(match ours.question.better() {
                Better::Higher => f64::max,
                Better::Lower => f64::min,
            })
        };
        match self.against {
            Subject(name, poll) => {
                let theirs = others.clone().find(|each| {
                    let class = each.class;
                    each.subject.name == name
                        && (class.poll, class.wait, class.stamps) == (poll, self.wait, self.stamps)
                })?;
                Some(own / median(&theirs.values))
            }
            Best => Some(own / best(&[])?),
            BestBut(left_out) => Some(own / best(left_out)?),
            Minus(question) => Some(own - median(&self.ours(question, figures, ours.regime)?.values)),
            Limit => Some(own),
            P95 => ours.latency.as_ref().map(|latency| latency.value_at_quantile(0.95) as f64),
        }
    }

    fn opponent(&self) -> String {
        match self.against {
            Subject(name, Shipped) => name.to_owned(),
            Subject(name, Tuned) => format!("{name}, tuned"),
            Best => "best rival".to_owned(),
            BestBut(left_out) => format!("best rival but {}", left_out.join(", ")),
            Minus(question) => question.name(),
            Limit | P95 => "-".to_owned(),
        }
    }

    fn required(&self) -> String {
        let sign = match self.question.better() {
            Better::Higher => '≥',
            Better::Lower => '≤',
        };
        let unit = match self.against {
            Subject(..) | Best | BestBut(_) => "x",
            Minus(_) => " ns more",
            Limit => match self.question.unit() {
                "x" => "x",
                "% of a core" => " %",
                _ => "/s",
            },
            P95 => " ns p95",
        };
        let bound = self.bound.map(|bound| format!("{sign} {bound}{unit}"));
        let stretch = self.stretch.map(|stretch| format!("stretch {sign} {stretch}{unit}"));
        bound.into_iter().chain(stretch).collect::<Vec<_>>().join(", ")
    }
}

/// One JSON object a line.
pub(crate) fn json(held: &[Held]) -> serde_json::Result<String> {
    let mut text = String::new();
    for row in held {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    Ok(text)
}

/// A table, and how many are met.
pub(crate) fn table(held: &[Held]) -> String {
    let heading = ["target", "question", "subject", "class", "against", "required", "measured", "verdict", "regime"];
    let mut cells = vec![heading.map(str::to_owned).to_vec()];
    cells.extend(held.iter().map(|row| {
        let verdict = match row.verdict {
            Verdict::Open => "open",
            Verdict::Missed => "MISSED",
            Verdict::Met => "met",
            Verdict::Short => "stretch not reached",
            Verdict::Stretch => "met, stretch too",
        };
        vec![
            row.target.to_owned(),
            row.question.clone(),
            row.subject.to_owned(),
            row.class.clone(),
            row.against.clone(),
            row.required.clone(),
            row.measured.map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}")),
            verdict.to_owned(),
            row.regime.map_or("-", Regime::name).to_owned(),
        ]
    }));
    let mut text = String::from("targets\n");
    text.push_str(&grid(&cells, 6));
    for (id, required, where_) in ELSEWHERE {
        writeln!(text, "  {id}: {required}: {where_}").expect("a String takes any text");
    }
    let count = |verdict| held.iter().filter(|row| row.verdict == verdict).count();
    let (met, missed) = (count(Verdict::Met) + count(Verdict::Stretch), count(Verdict::Missed));
    let open = count(Verdict::Open);
    writeln!(text, "{met} met, {missed} missed, {open} open").expect("a String takes any text");
    text
}

#[cfg(test)]
mod tests {
    use super::list::{MANY, SINGLE};
    use super::*;
    use crate::questions::Question::{Burst, CriticalFlood, CriticalFloodDispatch, Throughput11, Throughput21};
    use crate::subject::{Entry, Poll};

    fn figures(question: Question, subject: &str, poll: Poll, regime: Regime, values: &[f64]) -> Figures {
        let subject = Entry::find(subject).expect("the test names a subject that exists");
        let class = question.asked_as().classes(subject).into_iter().find(|class| class.poll == poll);
        let class = class.expect("the question has such a class");
        Figures { question, subject, class, regime, values: values.to_vec(), latency: None }
    }

    fn tuned(mut figures: Figures) -> Figures {
        figures.class.poll = Tuned;
        figures
    }

    fn verdicts(id: &str, figures: &[Figures]) -> Vec<Verdict> {
        hold(figures, "").into_iter().filter(|row| row.target == id).map(|row| row.verdict).collect()
    }

    #[test]
    fn every_target_names_rows_that_the_questions_have() {
        for target in TARGETS {
            let exists = |name: &str, poll: Poll| {
                let entry = Entry::find(name).unwrap_or_else(|| panic!("{name} is no subject"));
                let classes = target.question.asked_as().classes(entry);
                classes.iter().any(|class| (class.poll, class.wait, class.stamps) == (poll, target.wait, target.stamps))
            };
            assert!(exists(target.subject, target.poll), "{target:?}");
            match target.against {
                Subject(name, poll) => assert!(exists(name, poll), "{target:?}"),
                BestBut(left_out) => assert!(left_out.iter().all(|name| exists(name, target.poll)), "{target:?}"),
                Minus(other) => assert_eq!(other.asked_as(), target.question, "one run gives both"),
                Best | Limit | P95 => {}
            }
        }
    }

    #[test]
    fn the_targets_of_the_harness_are_all_there() {
        let mut ids: Vec<_> = TARGETS.iter().map(|target| target.id).collect();
        ids.extend(ELSEWHERE.iter().map(|(id, ..)| *id));
        for number in 1..=18 {
            assert!(ids.contains(&format!("P{number}").as_str()), "P{number}");
        }
    }

    #[test]
    fn a_bound_holds_from_its_own_side_and_in_its_own_regime() {
        let of = |subject, regime, values: &[f64]| figures(Throughput11, subject, Shipped, regime, values);
        let crossbeam = |regime| of("crossbeam-channel", regime, &[10.0]);
        let near = Regime::Near;
        let many = |value: f64, regime| of(MANY, regime, &[value]);
        assert_eq!(verdicts("P2", &[crossbeam(near), many(40.0, near)])[0], Verdict::Met);
        assert_eq!(verdicts("P2", &[crossbeam(near), many(39.9, near)])[0], Verdict::Missed);
        assert_eq!(verdicts("P2", &[crossbeam(Regime::Far), many(40.0, Regime::Far)])[0], Verdict::Open);
        assert_eq!(verdicts("P2", &[crossbeam(Regime::Far), many(40.0, near)])[0], Verdict::Open);

        let burst = |subject, value: f64| figures(Burst, subject, Shipped, near, &[value]);
        let drained = |single: f64| verdicts("P7", &[burst("crossbeam-channel", 100.0), burst(SINGLE, single)])[0];
        assert_eq!((drained(17.0), drained(17.1)), (Verdict::Met, Verdict::Missed));
        let rings = |ours| [of("bare-ring-single", near, &[100.0]), of(SINGLE, near, &[ours])].map(tuned);
        let wished = |ours| verdicts("P1", &rings(ours))[3];
        assert_eq!((wished(74.0), wished(75.0)), (Verdict::Short, Verdict::Stretch));
    }

    #[test]
    fn the_best_rival_is_no_form_of_ours_and_a_stretch_is_told_apart() {
        let of = |subject, values: &[f64]| figures(Throughput21, subject, Shipped, Regime::Near, values);
        let rivals = [of("crossbeam-array-queue", &[10.0]), of("kanal", &[4.0]), of("bare-ring", &[1_000.0])];
        let verdict = |ours: f64| {
            let mut all = rivals.to_vec();
            all.push(of(MANY, &[ours]));
            verdicts("P3", &all)[0]
        };
        assert_eq!([24.0, 25.0, 35.0].map(verdict), [Verdict::Missed, Verdict::Met, Verdict::Stretch]);
    }

    #[test]
    fn a_wait_may_be_one_dispatch_longer_than_the_bound() {
        let of = |question, value: f64| figures(question, MANY, Shipped, Regime::Near, &[value]);
        let verdict = |wait| verdicts("P10", &[of(CriticalFlood, wait), of(CriticalFloodDispatch, 520.0)])[0];
        assert_eq!((verdict(670.0), verdict(671.0)), (Verdict::Met, Verdict::Missed));
    }
}
