//! What the commands `ringmain pipe`, `store`, `dlq`, `config` and `bench` promise, kept by the real binary and read by serde_json.
#![cfg(feature = "daemon")]

mod backup;
mod bench;
mod config;
mod dlq;
mod ends;
#[path = "../support/folder.rs"]
mod folder;
mod forged;
mod lines;
mod power;
#[path = "../support/proof.rs"]
mod proof;
mod readme;
mod store;
mod store_again;
mod terminal;
mod volume;

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use serde_json::Value;

/// The command with `flags`, separated by spaces, and all its streams piped.
fn pipe(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain"));
    command.arg("pipe").args(flags.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run came to.
struct Run {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs the command over `input`.
fn run(flags: &str, input: impl Into<Vec<u8>>) -> Run {
    let mut child = pipe(flags).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.into();
    // A process that ends early, as under --strict, does not read the rest.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let run = finish(child);
    feeder.join().expect("feeding does not panic");
    run
}

fn finish(child: Child) -> Run {
    let output = child.wait_with_output().expect("the process ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let run = Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) };
    // The books of a process are what it says of them.
    if let Some(summary) = run.stderr.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()) {
        assert_eq!(summary["ledger_balanced"], true, "{summary}");
    }
    run
}

impl Run {
    fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The lines of stdout.
    fn events(&self) -> Vec<Value> {
        assert!(self.stdout.is_empty() || self.stdout.ends_with('\n'), "the last line is whole");
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The last line of stderr, and the lines before it.
    fn summary(&self) -> (Value, Vec<&str>) {
        let mut lines: Vec<_> = self.stderr.lines().collect();
        let last = lines.pop().expect("a summary is always written");
        (serde_json::from_str(last).expect(last), lines)
    }

    /// Counts of the summary by name.
    fn counts<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        let (summary, _) = self.summary();
        names.map(|name| summary[name].as_u64().expect(name))
    }
}
