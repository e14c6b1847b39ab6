//! How many instructions does each operation of ringmain take, and has one become dearer than the committed baseline?
//!
//! `cargo run --release -p instructions -- --help` says how to use it.

#![forbid(unsafe_code)]

mod baseline;
mod callgrind;
mod operations;
mod row;
mod stored;

use std::process::ExitCode;

use baseline::{Baseline, TOLERANCE_PERCENT, Toolchain, Verdict};
use clap::Parser;
use operations::Operation;
use row::Row;

/// Two counts of one operation agree to so many percent, or they are not worth comparing with anything.
const SPREAD_PERCENT_MAX: f64 = 0.5;

/// Counts the instructions of each operation of ringmain and compares them with the committed baseline.
///
/// Each operation runs twice under callgrind, in processes with different seeds; both counts must agree to 0.5 %. The
/// machine's load, clock and caches have no part in them. Fails when a count rose by more than 5 %. One that fell by more
/// is told: save it, so that the gain is kept. With another compiler or target than the baseline's, counts are
/// reported but not judged.
#[derive(Debug, Parser)]
struct Args {
    /// Count only these; all otherwise
    #[arg(value_name = "OPERATION", value_parser = find_operation)]
    operations: Vec<&'static Operation>,
    /// Rewrite the baseline, benches/instructions/baseline.txt, with the counts of now
    #[arg(long, conflicts_with = "operations")]
    save: bool,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Name the operations, and count nothing
    #[arg(long)]
    list: bool,
    /// What callgrind is given to run: only this operation, uncounted
    #[arg(long, hide = true, value_name = "OPERATION", value_parser = find_operation)]
    run: Option<&'static Operation>,
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
}

fn find_operation(name: &str) -> Result<&'static Operation, String> {
    Operation::find(name).ok_or_else(|| format!("no such operation; --list names all {}", Operation::all().count()))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(operation) = args.run {
        operation.run(args.seed);
        return ExitCode::SUCCESS;
    }
    if args.list {
        Operation::all().for_each(|operation| println!("{:<18} {}", operation.name, operation.what));
        return ExitCode::SUCCESS;
    }
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    if cfg!(debug_assertions) {
        return Err("counts of a debug build say nothing; run it with --release".to_owned());
    }
    if let Some(reason) = callgrind::missing() {
        let skip = format!("SKIP, nothing was counted: {reason}; ci/setup or `apt-get install valgrind` installs it");
        return if args.save {
            Err(skip)
        } else {
            eprintln!("instructions: {skip}");
            Ok(())
        };
    }
    let toolchain = Toolchain::current();
    let path = Baseline::path();
    let baseline = if args.save { None } else { Some(Baseline::load(&path)?) };
    let judged = baseline.as_ref().is_some_and(|baseline| baseline.toolchain == toolchain);
    let rows = measure(args, &toolchain, baseline.as_ref(), judged)?;
    let spread = rows.iter().map(Row::spread_percent).fold(0.0, f64::max);
    eprintln!("\ninstructions: two counts of an operation differ by at most {spread:.3} %");
    if spread > SPREAD_PERCENT_MAX {
        let unsteady = names(&rows, |row| row.spread_percent() > SPREAD_PERCENT_MAX);
        return Err(format!("that is more than {SPREAD_PERCENT_MAX} %; find what chance has a part in: {unsteady}"));
    }
    let Some(baseline) = baseline else {
        let counts = rows.iter().map(|row| (row.operation.name.to_owned(), row.count())).collect();
        Baseline::new(toolchain, counts).save(&path)?;
        eprintln!("instructions: saved to {}; commit it", path.display());
        return Ok(());
    };
    if !judged {
        let other = baseline.toolchain;
        eprintln!("instructions: NOT JUDGED, the baseline is of another toolchain ({other}); --save takes one of this");
        return Ok(());
    }
    let fell = names(&rows, |row| row.verdict() == Verdict::Fell);
    if !fell.is_empty() {
        eprintln!("instructions: fell by more than {TOLERANCE_PERCENT} %, so --save it: {fell}");
    }
    let rose = names(&rows, |row| row.verdict() == Verdict::Rose);
    if rose.is_empty() {
        return Ok(());
    }
    Err(format!(
        "rose by more than {TOLERANCE_PERCENT} %: {rose}; take the rise away, or --save it and say why in the commit"
    ))
}

/// Counts the operations asked for, and prints each as soon as it is counted.
fn measure(args: &Args, toolchain: &Toolchain, baseline: Option<&Baseline>, judged: bool) -> Result<Vec<Row>, String> {
    let operations = if args.operations.is_empty() { Operation::all().collect() } else { args.operations.clone() };
    if !args.json {
        println!("{toolchain}\n\n{}", Row::head());
    }
    let row = |operation: &'static Operation| {
        let row = Row::measure(operation, baseline.and_then(|baseline| baseline.count(operation.name)))?;
        println!("{}", if args.json { row.json(toolchain, judged) } else { row.line() });
        Ok(row)
    };
    operations.into_iter().map(row).collect()
}

fn names(rows: &[Row], which: impl Fn(&Row) -> bool) -> String {
    let names: Vec<_> = rows.iter().filter(|row| which(row)).map(|row| row.operation.name).collect();
    names.join(", ")
}
