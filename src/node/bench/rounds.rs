//! All questions in turn, several rounds of them, within the time given.
//!
//! A machine that others share is slower for a while, then faster. Each round asks every question once and begins with
//! another, so that a slow while falls on all of them alike, and the spread over the rounds shows it.

use std::time::{Duration, Instant};

use super::BenchError;
use super::figures::Figure;
use super::machine::Machine;
use super::measure::measure;
use super::questions::Question;
use crate::node::progress::Progress;

/// Seconds of a round, if they make an odd number of rounds within [`ROUNDS`].
const ROUND_SECONDS: u64 = 4;
const ROUNDS: [u64; 2] = [3, 15];

/// How many rounds fit into `seconds`; odd, so that a median is one of them.
pub(super) fn rounds(seconds: u64) -> u64 {
    (seconds / ROUND_SECONDS).clamp(ROUNDS[0], ROUNDS[1] + 1).saturating_sub(1) | 1
}

/// Asks `questions` until `seconds` have passed since `begun`; the figures stand in the order of the questions.
///
/// # Errors
/// When the bus refuses something, or an event does not arrive.
pub(super) fn ask(
    questions: &[Question],
    machine: &Machine,
    begun: Instant,
    seconds: u64,
    progress: &Progress,
) -> Result<Vec<Figure>, BenchError> {
    let rounds = rounds(seconds);
    let mut figures: Vec<_> = questions.iter().map(|&question| Figure::new(question)).collect();
    let mut time = Time::new(begun + Duration::from_secs(seconds), rounds, questions);
    for round in 0..rounds {
        for turn in 0..figures.len() {
            let at = (turn + round as usize) % figures.len();
            let figure = &mut figures[at];
            let question = figure.question;
            progress.begin(format_args!("round {} of {rounds}, {question}", round + 1));
            let until = time.slice(question.weight(), Instant::now());
            let sample = measure(question, machine, until)
                .map_err(|error| BenchError::Bus { question: question.to_string(), error })?;
            if sample.published != sample.delivered {
                let (published, delivered) = (sample.published, sample.delivered);
                return Err(BenchError::Lost { question: question.to_string(), published, delivered });
            }
            figure.add(sample);
            progress.count();
        }
    }
    Ok(figures)
}

/// Shares what is left of the time among what is left to ask, so that a slice that overruns shortens those to come.
#[derive(Debug)]
struct Time {
    end: Instant,
    weight_left: f64,
}

impl Time {
    fn new(end: Instant, rounds: u64, questions: &[Question]) -> Self {
        let weights: f64 = questions.iter().map(|question| question.weight()).sum();
        Self { end, weight_left: weights * rounds as f64 }
    }

    /// The end of a slice that begins `now`.
    fn slice(&mut self, weight: f64, now: Instant) -> Instant {
        let left = self.end.saturating_duration_since(now);
        let share = (weight / self.weight_left).clamp(0.0, 1.0);
        self.weight_left -= weight;
        now + left.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_odd_and_grow_with_the_time() {
        let expected = [(3, 3), (12, 3), (16, 3), (20, 5), (30, 7), (60, 15), (600, 15)];
        assert_eq!(expected.map(|(seconds, _)| (seconds, rounds(seconds))), expected);
        assert!((3..=600).all(|seconds| rounds(seconds) % 2 == 1 && (3..=15).contains(&rounds(seconds))));
    }

    #[test]
    fn slices_fill_the_time_by_weight() {
        let begun = Instant::now();
        let questions = Question::all();
        let mut time = Time::new(begun + Duration::from_secs(30), 3, &questions);
        let (mut now, mut of_first) = (begun, Vec::new());
        for _ in 0..3 {
            for (at, question) in questions.iter().enumerate() {
                let until = time.slice(question.weight(), now);
                if at == 0 {
                    of_first.push(until - now);
                }
                now = until;
            }
        }
        let off = (now - begun).abs_diff(Duration::from_secs(30));
        assert!(off < Duration::from_micros(1), "{off:?}");
        assert!(of_first.iter().all(|slice| slice.abs_diff(of_first[0]) < Duration::from_micros(1)), "{of_first:?}");
    }

    #[test]
    fn a_slice_that_overruns_shortens_the_rest_and_not_the_end() {
        let begun = Instant::now();
        let questions = [Question::LineRoundTrip; 4];
        let mut time = Time::new(begun + Duration::from_secs(4), 1, &questions);
        let weight = questions[0].weight();
        assert_eq!(time.slice(weight, begun), begun + Duration::from_secs(1));
        let late = begun + Duration::from_secs(2);
        assert!(
            (time.slice(weight, late) - late).abs_diff(Duration::from_secs_f64(2.0 / 3.0)) < Duration::from_micros(1)
        );
        let over = begun + Duration::from_secs(5);
        assert_eq!(time.slice(weight, over), over, "when the time is up, slices are as short as can be");
    }
}
