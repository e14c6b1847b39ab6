//! How does ringmain's store compare with SQLite, fjall and a plain file that do the same, round by round on the same disk?
//!
//! `cargo run --release -p stores` asks everything in some minutes; `--help` says what.

#![forbid(unsafe_code)]

mod flight;
mod folder;
mod life;
mod rounds;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, thread};

use clap::{Parser, ValueEnum};

use folder::Folder;
use rounds::Effort;

/// Times ringmain's store beside SQLite, fjall and a plain file.
///
/// All keep the same events of 256 bytes. ringmain and SQLite and fjall also keep an index of the aggregate of each. SQLite
/// has a WAL and is synchronous = FULL where an answer means synced, NORMAL where not; SQLite, fjall and the file commit for all
/// who wait at once. What is read back is counted, and a count that is wrong ends the program with an error.
#[derive(Debug, Parser)]
struct Args {
    /// Ask only this; may be given several times. All questions otherwise
    #[arg(long = "question", value_name = "NAME")]
    questions: Vec<Question>,
    /// Rounds; in each everybody has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where the files go, some 8 GB at most; a new folder in it, which is removed at the end
    #[arg(long, value_name = "DIR", default_value_os_t = env::temp_dir())]
    folder: PathBuf,
    /// A thousandth of the events in one round: shows that everything runs, not how fast
    #[arg(long, conflicts_with = "rounds")]
    smoke: bool,
    /// Fill the store in this folder, say so, and wait to be killed: what the program calls itself for
    #[arg(long, value_name = "DIR", hide = true)]
    fill: Option<PathBuf>,
    /// How many events, for that
    #[arg(long, default_value_t = 0, hide = true)]
    events: u64,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Appends that are synced before they are answered
    Durable,
    /// Appends in batches that the operating system has when they are answered
    Written,
    /// Reading everything back
    Replay,
    /// Opening what was closed, and what a killed process left
    Reopen,
    /// Letting old events go
    Retire,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(folder) = &args.fill {
        return life::fill_and_wait(folder, args.events);
    }
    let effort =
        if args.smoke { Effort { rounds: 1, divisor: 1_000 } } else { Effort { rounds: args.rounds, divisor: 1 } };
    let folder = Folder::new(&args.folder);
    println!("machine: {}, {} cores; {} rounds; medians and inner halves", cpu(), cores(), effort.rounds);
    let questions = if args.questions.is_empty() { Question::value_variants() } else { &args.questions };
    for question in questions {
        match question {
            Question::Durable => rounds::durable(effort, &folder),
            Question::Written => rounds::written(effort, &folder),
            Question::Replay => rounds::replay(effort, &folder),
            Question::Reopen => life::reopen(effort, &folder),
            Question::Retire => life::retire(effort, &folder),
        }
    }
    ExitCode::SUCCESS
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    name.unwrap_or("unknown").to_owned()
}
