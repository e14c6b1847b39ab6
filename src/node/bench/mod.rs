//! The job `ringmain bench`: this machine measured as an embedder's program would use it, and settings that suit it.
//!
//! ```text
//! machine ─► questions ─► rounds ─► measure, round_trip ─► figures ─► advice ─► table or JSON lines
//!                                                             └─────► plot
//! ```
//!
//! A round asks every question once; there are several, so that each figure has a spread. Every bus is built, used and
//! shut down through the public API, and each event must have arrived.

mod advice;
mod figures;
mod machine;
mod measure;
mod plot;
mod questions;
mod round_trip;
mod rounds;
mod table;

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use self::figures::Report;
use self::machine::{CpuTime, Load, Machine};
use self::plot::PlotFile;
use self::questions::{LeftOut, Question};
use super::args::Bench;
use super::progress::Progress;
use crate::Error;

/// Measures, writes the report to stdout, and returns the exit code.
pub fn run(flags: &Bench) -> ExitCode {
    match job(flags) {
        Ok(()) => ExitCode::SUCCESS,
        // That nobody reads any more is how a pipeline ends, and no error.
        Err(BenchError::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Who cannot be told is not told.
            let _ = writeln!(io::stderr(), "ringmain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn job(flags: &Bench) -> Result<(), BenchError> {
    let begun = Instant::now();
    // Before half a minute is spent on what cannot be written.
    let plot = flags.plot.as_deref().map(|path| reserve(path).map(|file| (path, file))).transpose()?;
    let machine = Machine::survey();
    let (questions, mut left_out) = Question::fit_for(&machine);
    if CpuTime::now().is_none() {
        let reason = "this system does not say how much CPU a thread has used".to_owned();
        left_out.push(LeftOut { what: "cpu".to_owned(), reason });
    }
    let seconds = u64::from(flags.seconds);
    let progress = Progress::of_steps(rounds::rounds(seconds) * questions.len() as u64, seconds);
    let load = Load::now();
    let figures = rounds::ask(&questions, &machine, begun, seconds, &progress);
    progress.end();
    let figures = figures?;
    let advice = advice::advise(&machine, &figures);
    let others_cores = Load::now().zip(load).map(|(now, earlier)| now.others_since(earlier));
    let seconds = begun.elapsed().as_secs_f64();
    let report = Report { machine, figures, left_out, advice, seconds, others_cores };

    let text = if flags.json { report.to_json_lines() } else { table::table(&report) };
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(BenchError::Stdout);
    // Also when nobody reads the report: who asked for a plot gets it.
    if let Some((path, file)) = plot {
        file.write(&plot::svg(&report)).map_err(|error| BenchError::Plot { path: path.to_owned(), error })?;
    }
    printed
}

fn reserve(path: &Path) -> Result<PlotFile, BenchError> {
    PlotFile::reserve(path).map_err(|error| BenchError::Plot { path: path.to_owned(), error })
}

/// Why there is no report.
#[derive(Debug)]
#[non_exhaustive]
pub enum BenchError {
    /// The plot's file cannot be written.
    Plot {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The bus refused something.
    Bus {
        /// The question that was asked.
        question: String,
        /// What it said.
        error: Error,
    },
    /// Events did not arrive.
    Lost {
        /// The question that was asked.
        question: String,
        /// Events that the bus accepted.
        published: u64,
        /// Events that it delivered.
        delivered: u64,
    },
    /// The report cannot be written.
    Stdout(io::Error),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plot { path, error } => write!(
                f,
                "--plot {path:?} cannot be written: {error}; name a file that you may write, in a directory that exists"
            ),
            Self::Bus { question, error } => {
                write!(f, "{question} could not be measured: {error}; on a machine that is very busy, try again later")
            }
            Self::Lost { question, published, delivered } => write!(
                f,
                "{question}: of {published} events {delivered} were delivered; this is a bug of ringmain, please report it with \
                 the machine it happened on"
            ),
            Self::Stdout(error) => write!(f, "stdout cannot be written: {error}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Plot { error, .. } | Self::Stdout(error) => Some(error),
            Self::Bus { error, .. } => Some(error),
            Self::Lost { .. } => None,
        }
    }
}
