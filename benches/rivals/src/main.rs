//! How does ringmain compare with the channels people use today, in one process, on the same cores, round by round?
//!
//! `cargo run --release -p rivals -- --list` names the questions and the subjects.

#![forbid(unsafe_code)]

mod event;
mod machine;
mod plot;
mod questions;
mod report;
mod rounds;
mod sink;
mod subject;
mod targets;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use machine::{Machine, NEAR_NS_MAX};
use questions::{Question, SLOTS};
use rounds::Effort;
use subject::{Entry, Publishers, SUBJECTS};

/// Times ringmain beside the channels people use today.
///
/// All run the same events with the same capacity, pinning and waiting; an event that is lost, doubled, late in its
/// order or changed ends the program with an error.
#[derive(Debug, Parser)]
struct Args {
    /// Ask only this; may be given several times. All questions otherwise
    #[arg(long = "question", value_name = "NAME")]
    questions: Vec<Question>,
    /// Measure only this subject; may be given several times. Ratios are to what is measured
    #[arg(long = "subject", value_name = "NAME", value_parser = find_subject)]
    subjects: Vec<&'static Entry>,
    /// Runs of each row in one regime; up to three times as many are made if the regime changes
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Slots of each channel, a power of two. Between two cores much depends on whether they all fit a core's own cache
    #[arg(long, default_value_t = SLOTS as u32, value_parser = clap::value_parser!(u32).range(1_024..=1 << 20))]
    slots: u32,
    /// Print one JSON object a line instead of tables
    #[arg(long)]
    json: bool,
    /// Ask what the targets need, and say of each whether it is met
    #[arg(long)]
    targets: bool,
    /// Draw the latency percentiles of the latency questions into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// One round of tiny counts: shows that everything runs, not how fast
    #[arg(long, conflicts_with = "rounds")]
    smoke: bool,
    /// Name the questions and subjects, and measure nothing
    #[arg(long)]
    list: bool,
}

fn find_subject(name: &str) -> Result<&'static Entry, String> {
    Entry::find(name).ok_or_else(|| format!("no such subject; --list names all {}", SUBJECTS.len()))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rivals: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if args.list {
        list();
        return Ok(());
    }
    let machine = Machine::survey().ok_or("the system does not tell which cores this process may use")?;
    let questions = match (args.questions.is_empty(), args.targets) {
        (false, _) => args.questions.clone(),
        (true, true) => targets::questions(),
        (true, false) => Question::value_variants().to_vec(),
    };
    let subjects = if args.subjects.is_empty() { SUBJECTS.iter().collect() } else { args.subjects.clone() };
    if let Some(question) = questions.iter().find(|question| question.cores_min() > machine.cores()) {
        return Err(format!(
            "{} needs two cores, one for publishers and one for consumers; this process may use {}. \
             Ask --question one-core, or allow it another core",
            question.name(),
            machine.cores(),
        ));
    }
    if !args.slots.is_power_of_two() {
        return Err(format!("--slots {} is no power of two; try {}", args.slots, args.slots.next_power_of_two()));
    }
    let slots = args.slots as usize;
    let effort = Effort { rounds: if args.smoke { 1 } else { usize::from(args.rounds) }, slots, smoke: args.smoke };
    if args.json {
        eprintln!("{}", header(&machine, slots));
    } else {
        println!("{}", header(&machine, slots));
    }
    let mut asked: Vec<Question> = Vec::new();
    let mut figures = Vec::new();
    for question in questions.iter().map(|question| question.asked_as()) {
        if asked.contains(&question) {
            continue;
        }
        asked.push(question);
        let answer = rounds::ask(question, &subjects, &machine, effort).map_err(|failed| failed.to_string())?;
        eprintln!("{}: {answer}", question.name());
        for &reported in questions.iter().filter(|each| each.asked_as() == question) {
            let lines = report::lines(reported, &answer.figures, &machine.name);
            if args.json {
                print!("{}", report::json(&lines).map_err(|error| error.to_string())?);
            } else {
                println!("{}", report::table(reported, &lines));
            }
        }
        figures.extend(answer.figures);
    }
    if args.targets {
        let held = targets::hold(&figures, &machine.name);
        if args.json {
            print!("{}", targets::json(&held).map_err(|error| error.to_string())?);
        } else {
            println!("{}", targets::table(&held));
        }
    }
    if let Some(path) = &args.plot {
        let svg = plot::svg(&figures, &machine.name).ok_or("--plot: none of these questions is about latency")?;
        fs::write(path, svg).map_err(|error| format!("--plot {}: {error}", path.display()))?;
    }
    Ok(())
}

fn header(machine: &Machine, slots: usize) -> String {
    let seats = |publishers, consumers| {
        let seating = machine.seat(publishers, consumers);
        let ids = |cores: &[core_affinity::CoreId]| {
            cores.iter().map(|core| core.id.to_string()).collect::<Vec<_>>().join("+")
        };
        format!("{} -> {}", ids(&seating.publishers), ids(&seating.consumers))
    };
    let pinning = if machine.cores() < 2 {
        "all threads on one core".to_owned()
    } else {
        format!(
            "cores of publishers -> consumers: 1-1 {}, 2-1 {}, 1-2 {} (threads that share a core yield instead of \
             spinning); round trip {:.0} ns, near is under {NEAR_NS_MAX} ns",
            seats(1, 1),
            seats(2, 1),
            seats(1, 2),
            machine.round_trip_ns(),
        )
    };
    format!("{}; {pinning}; {slots} slots; class = publishers/poll loop/waiting/stamps\n", machine.name)
}

fn list() {
    println!("questions:");
    for question in Question::value_variants() {
        let value = question.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string).unwrap_or_default();
        println!("  {:<23} {:<12} {help}", question.name(), question.unit());
    }
    println!("subjects:");
    for subject in SUBJECTS {
        let publishers = match subject.publishers {
            Publishers::One => "one publisher",
            Publishers::Many => "many publishers",
        };
        let parks = if subject.parks { "spins or parks" } else { "only spins" };
        let rival = if subject.rival { "" } else { ", no rival" };
        println!("  {:<22} {publishers}, {parks}{rival}", subject.name);
    }
}
