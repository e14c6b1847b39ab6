//! Turns figures into lines: medians, ratios within a regime, a table for people and JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Regime;
use crate::questions::{Better, Question};
use crate::rounds::Figures;
use crate::subject::{REFERENCE, TAXED};

/// One row of the table, one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    question: String,
    class: String,
    subject: &'static str,
    unit: &'static str,
    better: Better,
    regime: Regime,
    median: f64,
    min: f64,
    max: f64,
    /// Our median over that of crossbeam-channel as shipped, with the same waiting and stamping, in the same regime.
    ratio_to_crossbeam: Option<f64>,
    /// Our median over that of the best rival of the same class in the same regime. Above 1 is ahead where higher is
    /// better, below 1 where lower is.
    ratio_to_best_rival: Option<f64>,
    rounds: usize,
    machine: String,
    #[serde(skip)]
    percentiles: Option<[u64; 5]>,
}

/// The lines of one question, best first within a class and regime.
pub(crate) fn lines(question: Question, figures: &[Figures], machine: &str) -> Vec<Line> {
    let figures: Vec<_> = figures.iter().filter(|figures| figures.question == question).collect();
    let mut lines: Vec<_> = figures
        .iter()
        .map(|ours| {
            let median = median(&ours.values);
            let rivals = figures.iter().filter(|other| other.regime == ours.regime);
            let crossbeam = rivals
                .clone()
                .find(|other| other.subject.name == REFERENCE && other.class.is_reference_for(ours.class))
                .map(|other| self::median(&other.values));
            let best = rivals
                .filter(|other| other.subject.rival && other.class == ours.class)
                .map(|other| self::median(&other.values))
                .reduce(match question.better() {
                    Better::Higher => f64::max,
                    Better::Lower => f64::min,
                });
            Line {
                question: question.name(),
                class: ours.class.to_string(),
                subject: ours.subject.name,
                unit: question.unit(),
                better: question.better(),
                regime: ours.regime,
                median,
                min: ours.values.iter().copied().fold(f64::INFINITY, f64::min),
                max: ours.values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                ratio_to_crossbeam: crossbeam.map(|theirs| median / theirs),
                ratio_to_best_rival: best.map(|theirs| median / theirs),
                rounds: ours.values.len(),
                machine: machine.to_owned(),
                percentiles: ours.latency.as_ref().map(|latency| {
                    let at = |quantile| latency.value_at_quantile(quantile);
                    [at(0.5), at(0.95), at(0.99), at(0.999), latency.max()]
                }),
            }
        })
        .collect();
    lines.sort_by(|a, b| {
        let by_place = (a.regime.name(), &a.class).cmp(&(b.regime.name(), &b.class)).reverse();
        let by_median = match question.better() {
            Better::Higher => b.median.total_cmp(&a.median),
            Better::Lower => a.median.total_cmp(&b.median),
        };
        by_place.then(by_median)
    });
    lines
}

/// The middle of them; the mean of the two middle ones where there are two; not a number of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// One JSON object a line.
pub(crate) fn json(lines: &[Line]) -> serde_json::Result<String> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(text)
}

/// A table with a heading, for one question.
pub(crate) fn table(question: Question, lines: &[Line]) -> String {
    let better = match question.better() {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    let mut heading =
        vec!["subject", "class", "regime", "median", "min", "max", "x crossbeam", "x best rival", "rounds"];
    let with_percentiles = lines.iter().any(|line| line.percentiles.is_some());
    if with_percentiles {
        heading.extend(["p50", "p95", "p99", "p99.9", "max ns"]);
    }
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut cells: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    cells.extend(lines.iter().map(|line| {
        let mut row = vec![line.subject.to_owned(), line.class.clone(), line.regime.name().to_owned()];
        row.extend([line.median, line.min, line.max].map(figure));
        row.extend([ratio(line.ratio_to_crossbeam), ratio(line.ratio_to_best_rival), line.rounds.to_string()]);
        row.extend(line.percentiles.iter().flatten().map(u64::to_string));
        row
    }));
    let mut text = format!("{}, {} ({better})\n", question.name(), question.unit());
    text.push_str(&grid(&cells, 3));
    for tax in taxes(question, lines) {
        text.push_str(&tax);
    }
    text
}

/// Cells in columns, the first `names` of them to the left, figures to the right.
pub(crate) fn grid(cells: &[Vec<String>], names: usize) -> String {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in cells {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let written =
                if column < names { write!(text, "  {cell:<width$}") } else { write!(text, "  {cell:>width$}") };
            written.expect("a String takes any text");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// What everything but the ring costs: the share of the bare ring's throughput that ringmain does not reach.
fn taxes(question: Question, lines: &[Line]) -> Vec<String> {
    if !question.is_about_throughput() {
        return Vec::new();
    }
    let pairs = TAXED.iter().flat_map(|&(full, bare)| {
        let bares = lines.iter().filter(move |line| line.subject == bare);
        bares.filter_map(move |bare| {
            let same = |line: &&Line| (line.regime, &line.class) == (bare.regime, &bare.class);
            Some((lines.iter().filter(same).find(|line| line.subject == full)?, bare))
        })
    });
    pairs
        .map(|(full, bare)| {
            let percent = (1.0 - full.median / bare.median) * 100.0;
            let regime = full.regime.name();
            format!("  feature tax, {} {regime}: {percent:.1} % ({} of {})\n", full.class, full.subject, bare.subject)
        })
        .collect()
}

/// Three significant digits, for reading.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Entry, Poll, Wait};

    fn figures(question: Question, subject: &str, poll: Poll, regime: Regime, values: &[f64]) -> Figures {
        let subject = Entry::find(subject).expect("the test names a subject that exists");
        let class = question
            .classes(subject)
            .into_iter()
            .find(|class| class.poll == poll && class.wait == Wait::Spinning)
            .expect("the question has such a class");
        Figures { question, subject, class, regime, values: values.to_vec(), latency: None }
    }

    fn line<'a>(lines: &'a [Line], subject: &str, class: &str, regime: Regime) -> &'a Line {
        lines
            .iter()
            .find(|line| line.subject == subject && line.class.contains(class) && line.regime == regime)
            .expect("the line is there")
    }

    #[test]
    fn ratios_stay_within_class_and_regime() {
        let of = |subject, poll, regime, values: &[f64]| figures(Question::Throughput21, subject, poll, regime, values);
        let all = [
            of("crossbeam-channel", Poll::Shipped, Regime::Near, &[30.0, 10.0, 20.0]),
            of("kanal", Poll::Shipped, Regime::Near, &[40.0]),
            of("kanal", Poll::Tuned, Regime::Near, &[80.0]),
            of("kanal", Poll::Shipped, Regime::Far, &[4.0]),
        ];
        let lines = lines(Question::Throughput21, &all, "a machine");
        let crossbeam = line(&lines, "crossbeam-channel", "shipped", Regime::Near);
        assert_eq!((crossbeam.median, crossbeam.min, crossbeam.max, crossbeam.rounds), (20.0, 10.0, 30.0, 3));
        assert_eq!(crossbeam.ratio_to_best_rival, Some(0.5));
        let tuned = line(&lines, "kanal", "tuned", Regime::Near);
        assert_eq!((tuned.ratio_to_crossbeam, tuned.ratio_to_best_rival), (Some(4.0), Some(1.0)));
        let far = line(&lines, "kanal", "shipped", Regime::Far);
        assert_eq!((far.ratio_to_crossbeam, far.ratio_to_best_rival), (None, Some(1.0)));
    }

    #[test]
    fn the_best_rival_is_the_lowest_where_lower_is_better() {
        let of = |subject, values: &[f64]| figures(Question::Burst, subject, Poll::Shipped, Regime::Near, values);
        let lines = lines(Question::Burst, &[of("crossbeam-channel", &[30.0]), of("kanal", &[20.0, 10.0])], "");
        let crossbeam = line(&lines, "crossbeam-channel", "shipped", Regime::Near);
        assert_eq!(crossbeam.ratio_to_best_rival, Some(2.0));
        assert_eq!(lines[0].subject, "kanal");
    }

    #[test]
    fn the_feature_tax_compares_a_form_with_its_own_ring() {
        let of = |subject, poll, values: &[f64]| figures(Question::Throughput11, subject, poll, Regime::Near, values);
        let all = [
            of("ringmain-single", Poll::Tuned, &[90.0]),
            of("bare-ring-single", Poll::Tuned, &[100.0]),
            of("bare-ring-single", Poll::Shipped, &[50.0]),
            of("bare-ring", Poll::Tuned, &[70.0]),
        ];
        let taxes = taxes(Question::Throughput11, &lines(Question::Throughput11, &all, ""));
        assert_eq!(taxes.len(), 1, "{taxes:?}");
        assert!(taxes[0].contains("10.0 %") && taxes[0].contains("one/tuned"), "{taxes:?}");
        // The bare ring is no rival: nobody is compared with it.
        let lines = lines(Question::Throughput11, &all, "");
        assert!(lines.iter().all(|line| line.ratio_to_best_rival.is_none()));
    }

    #[test]
    fn json_has_the_agreed_fields_and_no_others() {
        let all = [figures(Question::Pingpong, "kanal", Poll::Shipped, Regime::Near, &[90.0])];
        let text = json(&lines(Question::Pingpong, &all, "a machine")).expect("a line is plain data");
        let value: serde_json::Value = serde_json::from_str(text.trim()).expect("it is JSON");
        let keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut agreed = [
            "question",
            "class",
            "subject",
            "unit",
            "better",
            "regime",
            "median",
            "min",
            "max",
            "ratio_to_crossbeam",
            "ratio_to_best_rival",
            "rounds",
            "machine",
        ];
        agreed.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(keys, agreed);
        assert_eq!((&value["better"], &value["regime"]), (&"lower".into(), &"near".into()));
    }
}
