//! Stderr while a job runs: messages, and below them one line that says how far it is.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::human::grouped;

/// The line is drawn from then on.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// The line is drawn anew this often, also while nothing happens.
const REDRAW: Duration = Duration::from_millis(100);

/// Where messages go, and the line that shows progress.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    line: Option<ProgressBar>,
    counts: Counts,
}

/// What the line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Events or steps that are done.
    Done,
    /// The position of the last event, of all there are.
    Positions,
    /// Bytes that are done, of all there are.
    Bytes,
}

impl Progress {
    /// Shows the line when stderr is a terminal that no other output shares.
    pub(super) fn new(stdout_is_used: bool) -> Self {
        let shared = stdout_is_used && io::stdout().is_terminal();
        let line = (io::stderr().is_terminal() && !shared).then(|| {
            let style = ProgressStyle::with_template("{human_pos} events, {rate} events/s, {elapsed}");
            let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
                // Only a text that is full would refuse.
                let _ = text.write_str(&grouped(state.per_sec().round() as u64));
            };
            let style = style.expect("the template is well-formed").with_key("rate", rate);
            soon(ProgressBar::no_length().with_style(style))
        });
        Self { line, counts: Counts::Done }
    }

    /// Shows nothing, only messages.
    pub(super) const fn silent() -> Self {
        Self { line: None, counts: Counts::Done }
    }

    /// Shows how far it is on the way to the position `last`.
    pub(super) fn of_events(last: u64, stdout_is_used: bool) -> Self {
        let template = "{bar:32} {percent} %, {human_pos} of {human_len} events, {eta} left";
        Self { line: bar(last, stdout_is_used, template), counts: Counts::Positions }
    }

    /// Shows how many of `total` bytes are done: counted by [`reading`](Self::reading), or told.
    pub(super) fn of_bytes(total: u64, stdout_is_used: bool) -> Self {
        let template = "{bar:32} {percent} %, {binary_bytes} of {binary_total_bytes}, {eta} left";
        Self { line: bar(total, stdout_is_used, template), counts: Counts::Bytes }
    }

    /// Shows how many of so many files are done, where stderr is a terminal.
    pub(super) fn of_files(total: u64) -> Self {
        let template = "{bar:32} {percent} %, {human_pos} of {human_len} files, {eta} left";
        Self { line: bar(total, false, template), counts: Counts::Done }
    }

    /// Counts what is read, if bytes are counted.
    pub(super) fn reading<'r>(&self, input: impl Read + 'r) -> Box<dyn Read + 'r> {
        match &self.line {
            Some(line) if self.counts == Counts::Bytes => Box::new(line.wrap_read(input)),
            _ => Box::new(input),
        }
    }

    /// Shows how many of `steps` steps are done, where stderr is a terminal; nothing may be written to stdout meanwhile.
    /// It is drawn between steps only, so that drawing disturbs no measurement.
    pub(super) fn of_steps(steps: u64, seconds: u64) -> Self {
        let line = io::stderr().is_terminal().then(|| {
            let template = format!("{{bar:16}} {{elapsed}} of about {seconds} s, {{wide_msg}}");
            let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
            ProgressBar::new(steps).with_style(style)
        });
        Self { line, counts: Counts::Done }
    }

    /// Says which step begins.
    pub(super) fn begin(&self, step: impl Display) {
        if let Some(line) = &self.line {
            line.set_message(step.to_string());
        }
    }

    /// Counts one event, or one step.
    pub(super) fn count(&self) {
        if let Some(line) = self.line.as_ref().filter(|_| self.counts == Counts::Done) {
            line.inc(1);
        }
    }

    /// Counts the event at a position, or so many bytes in all.
    pub(super) fn count_at(&self, position: u64) {
        match (&self.line, self.counts) {
            (Some(line), Counts::Positions | Counts::Bytes) => line.set_position(position),
            _ => self.count(),
        }
    }

    /// Writes text to stderr, above the line.
    pub(super) fn say(&self, text: &str) {
        // Who cannot be told is not told.
        let say = || drop(io::stderr().write_all(text.as_bytes()));
        match &self.line {
            Some(line) => line.suspend(say),
            None => say(),
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

/// A line with an end, where stderr is a terminal that no other output shares.
fn bar(total: u64, stdout_is_used: bool, template: &str) -> Option<ProgressBar> {
    let shared = stdout_is_used && io::stdout().is_terminal();
    (io::stderr().is_terminal() && !shared).then(|| {
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        soon(ProgressBar::new(total).with_style(style))
    })
}

/// The same line, which is drawn once the job has taken a second: what is done before that needs none.
fn soon(line: ProgressBar) -> ProgressBar {
    line.set_draw_target(ProgressDrawTarget::hidden());
    let waiting = line.downgrade();
    thread::spawn(move || {
        thread::sleep(SHOWN_AFTER);
        if let Some(line) = waiting.upgrade().filter(|line| !line.is_finished()) {
            line.set_draw_target(ProgressDrawTarget::stderr());
            line.enable_steady_tick(REDRAW);
        }
    });
    line
}
