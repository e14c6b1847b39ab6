//! The flags of the command line, and the help that teaches them.

use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::backup::flags::{BACKUP_HELP, Backup, RESTORE_HELP, Restore};
use super::client::health::{self, Health};
use super::client::publish::{self, Publish};
use super::client::replay::Replay;
use super::client::rules::Rules as RulesOf;
use super::client::services::{self, Services};
use super::client::tail::{self, Tail};
use super::dlq::flags::Dlq;
use super::ingress::{LINE_BYTES_MAX, Rules};
use super::store::flags::{Limits, Store};
use crate::{DeliveryMode, IdleStrategy, Pattern};

/// An event bus on the command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringmain", bin_name = "ringmain", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run a node: a bus with a store, services, and an interface over HTTP, until SIGTERM or SIGINT ends it
    ///
    /// It writes `listening on http://ADDRESS` to stdout when it takes events, and all else that it has to say to stderr. SIGTERM and
    /// SIGINT let it bring what it took to its end, a second one ends it at once. SIGHUP, and a change of the file, let it read its
    /// configuration again.
    #[command(after_long_help = SERVE_HELP, after_help = "`ringmain serve --help` has examples.")]
    Serve(Serve),
    /// Publish an event at a running node, or every line of stdin as one, and write their ids
    #[command(after_long_help = publish::HELP, after_help = "`ringmain publish --help` has examples.")]
    Publish(Publish),
    /// Write the events of a running node as they come, also over cuts
    #[command(after_long_help = tail::HELP, after_help = "`ringmain tail --help` has examples.")]
    Tail(Tail),
    /// Say whether a running node is ready, and how well its parts are
    #[command(after_long_help = health::HELP, after_help = "`ringmain health --help` has examples.")]
    Health(Health),
    /// See what runs beside the bus of a running node, and start, stop or restart it
    #[command(after_long_help = services::HELP, after_help = "`ringmain services --help` has examples.")]
    Services(Services),
    /// See which services of a running node get which events, why, and what other rules would change: list, explain, diff
    #[command(subcommand)]
    Rules(RulesOf),
    /// Publish past events of a running node once more, to those who take replays: begin, list, show, cancel
    #[command(subcommand)]
    Replay(Replay),
    /// Look at a configuration as `serve` would read it, without starting anything: check, show
    #[command(subcommand)]
    Config(Config),
    /// Publish every line of stdin as an event and write what is delivered to stdout
    ///
    /// A line is a JSON object: a CloudEvent (it has `specversion`), the short form
    /// {"type": .., "data": ..}, or, with --type, JSON of any shape. Each --on is one subscription; a
    /// delivered event is one line of CloudEvents 1.0 JSON with the attributes `priority` and
    /// `subscription`, in order for each subscription and priority. Nothing is dropped: while a
    /// subscription is behind, reading stdin waits. A summary goes to stderr at the end.
    #[command(after_long_help = EXAMPLES, after_help = "`ringmain pipe --help` has examples.")]
    Pipe(Pipe),
    /// Keep events in a folder, and find them again: append, query, export, import, verify
    #[command(subcommand)]
    Store(Store),
    /// Copy a store as a whole, with a manifest by which `restore` knows that the copy is whole
    ///
    /// Events, archives, snapshots, cursors, dead letters, timers and sagas are in it, as they are at one moment.
    #[command(after_long_help = BACKUP_HELP, after_help = "`ringmain backup --help` has examples.")]
    Backup(Backup),
    /// Make a store of a backup, once every file of it was looked at, and read all of it
    #[command(after_long_help = RESTORE_HELP, after_help = "`ringmain restore --help` has examples.")]
    Restore(Restore),
    /// See what subscriptions gave up on and a store keeps, try it again, or remove it: list, show, redrive, purge
    #[command(subcommand)]
    Dlq(Dlq),
    /// Measure this machine in about 30 seconds, and recommend settings for it
    ///
    /// Latency by idle strategy at 10,000 and 1,000 events a second, what it costs to wake a parked
    /// worker, the way between two cores, and throughput; each several times in turn, with its spread.
    /// Then settings for `Bus::builder()`, each with the figures it follows from. Let the machine be
    /// otherwise quiet, or measure it as busy as your program will find it.
    #[command(after_long_help = BENCH_HELP, after_help = "`ringmain bench --help` says how to read the figures.")]
    Bench(Bench),
}

/// The flags of `ringmain pipe`.
#[derive(Debug, Clone, Args)]
pub struct Pipe {
    /// Subscribe to the types that match PATTERN: `*` is one segment, `**` any number, a lone `*`
    /// everything; may be repeated
    #[arg(long, value_name = "PATTERN", default_value = "**", value_parser = Pattern::new)]
    pub on: Vec<Pattern>,

    /// How lines are read.
    #[command(flatten)]
    pub lines: LineFlags,

    /// Run this many worker threads, 1 to 16 [default: the allowed cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: Option<u8>,

    /// What a worker does while it has nothing to do, from the lowest latency and a whole core each to
    /// no CPU; `adaptive` spins briefly, then yields, then sleeps
    #[arg(long, value_name = "STRATEGY", default_value_t, value_parser = idle_strategies())]
    pub idle: IdleStrategy,

    /// Let this many events wait in each priority before reading stdin waits
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub capacity: u32,

    /// Try each event once; or until a line was made of it: three attempts, the second and third after up to 100 and 200 ms,
    /// what fails then is a dead letter; or only the newest one that waits when a line is to be made, the others are dropped
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub mode: Mode,

    /// Let each attempt fail with this probability, 0 to 1, to see what becomes of it
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub fail_rate: f64,

    /// Draw failures from this seed: the same seed and lines fail the same attempts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Keep every event in the store in DIR, which is made if it is not there: one more subscription, `journal`, in the summary;
    /// dead letters too, for `ringmain dlq`
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Limits of the store.
    #[command(flatten)]
    pub limits: Limits,

    /// Write no events to stdout, only the summary to stderr
    #[arg(long)]
    pub quiet: bool,

    /// Write the summary as a table, or as JSON on the last line of stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub summary: SummaryForm,
}

/// The flags that say how lines are read.
#[derive(Debug, Clone, Args)]
pub struct LineFlags {
    /// Take any JSON object as data and the text of its member FIELD as its type, unfit characters made `-`
    #[arg(long = "type", value_name = "FIELD")]
    pub type_field: Option<String>,

    /// Take the priority from the member FIELD of every line: critical, high, normal or low [default:
    /// `priority` where a line has it, else normal]
    #[arg(long, value_name = "FIELD")]
    pub priority_field: Option<String>,

    /// Name the source of lines that do not name their own
    #[arg(long, value_name = "NAME", default_value = "pipe", value_parser = NonEmptyStringValueParser::new())]
    pub source: String,

    /// Stop at the first malformed line with exit code 2, instead of naming it on stderr and going on
    #[arg(long)]
    pub strict: bool,
}

/// The flags of `ringmain serve`. Each stands above the same setting in the file and in the environment.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Read the configuration from FILE, of YAML, and again when it changes
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Listen at ADDRESS, an IP address and a port; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Keep events in the store in DIR, which is made if it is not there [default: ./ringmain-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Whether to keep room for one more file of state, 32 MiB, for when the disk is full: yes or no [default: yes]
    #[arg(long, value_name = "SWITCH")]
    pub state_reserve: Option<String>,

    /// Publish what happens to the files in DIR; may be repeated
    #[arg(long, value_name = "DIR")]
    pub watch: Vec<PathBuf>,

    /// Let in only who has a token of FILE, in which each line is a name, `sha256:` with the hash of the token, and what it may:
    /// `admin`, `publish=PATTERN,..`, `subscribe=PATTERN,..`
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The commands of `ringmain config`. They take the flags of `ringmain serve`.
#[derive(Debug, Clone, Subcommand)]
pub enum Config {
    /// Say whether a node could begin with this configuration, or all that is wrong with it, each with its line, variable or flag
    #[command(after_long_help = CHECK_HELP, after_help = "`ringmain config check --help` has examples.")]
    Check(Serve),
    /// Write every setting with its value and where that comes from
    #[command(after_long_help = SHOW_HELP, after_help = "`ringmain config show --help` has examples.")]
    Show(ShowConfig),
}

/// The flags of `ringmain config show`.
#[derive(Debug, Clone, Args)]
pub struct ShowConfig {
    /// Leave out what nobody has set
    #[arg(long)]
    pub set: bool,

    /// Write one JSON object, with what each setting takes, its default, and what it is for
    #[arg(long)]
    pub json: bool,

    /// Those of the node.
    #[command(flatten)]
    pub node: Serve,
}

/// The flags of `ringmain bench`.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Take about this many seconds, 3 to 600; with more of them there are more rounds, and steadier figures
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(3..=600))]
    pub seconds: u16,

    /// Draw latency percentiles by idle strategy into FILE, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Write one JSON object a line instead of the table, times in nanoseconds
    #[arg(long)]
    pub json: bool,
}

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Mode {
    /// One attempt: what fails is counted
    #[default]
    BestEffort,
    /// Three attempts, then a dead letter
    Reliable,
    /// The newest of those that wait, one attempt; the others are dropped and counted
    Latest,
}

impl From<Mode> for DeliveryMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::BestEffort => Self::BestEffort,
            Mode::Reliable => Self::reliable(),
            Mode::Latest => Self::LatestOnly,
        }
    }
}

/// How the summary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SummaryForm {
    /// Aligned, with units, for people
    #[default]
    Table,
    /// One line, latencies in nanoseconds, for programs
    Json,
}

impl LineFlags {
    /// How these flags ask for lines to be read.
    pub fn rules(&self) -> Rules {
        Rules {
            source: self.source.clone(),
            type_field: self.type_field.clone(),
            priority_field: self.priority_field.clone(),
            line_bytes_max: LINE_BYTES_MAX,
        }
    }
}

/// Shown by `--help`; a test runs each line through the parser.
const EXAMPLES: &str = r#"Examples:
  One event in, one CloudEvent out:
    echo '{"type": "orders.placed", "data": {"id": 7}}' | ringmain pipe

  Two subscriptions, each with its own lines; an event that matches both is written twice:
    ringmain pipe --on 'orders.*' --on '**.failed' < events.ndjson

  A log in JSON, its `event` member as the type and its `severity` as the priority:
    echo '{"event": "Login failed", "severity": "high", "user": "kim"}' | ringmain pipe --type event --priority-field severity

  How fast, without output; the last line of stderr is JSON:
    ringmain pipe --quiet --summary json --idle busy-spin < events.ndjson

  What retries do when one attempt in five fails; the summary tells of retries and dead letters:
    ringmain pipe --mode reliable --fail-rate 0.2 --seed 7 --quiet < events.ndjson

  Where only what holds now counts; the summary's `dropped` says how many events a newer one took the place of:
    ringmain pipe --on price.tea --mode latest < events.ndjson

  What passes is kept, and found again:
    ringmain pipe --data ./events --quiet < events.ndjson
    ringmain store query --data ./events --newest-first --limit 3

  What is given up is kept too, to be looked at and tried again:
    ringmain pipe --data ./events --mode reliable --fail-rate 0.5 --quiet < events.ndjson
    ringmain dlq list --data ./events --limit 3

  In a build: stop at the first malformed line with exit code 2:
    ringmain pipe --strict --quiet < events.ndjson

Lines:
  A line is UTF-8, at most 1 MiB of data, nested at most 64 deep, no member twice. A malformed line is
  named on stderr by its number and counted, and the rest goes on. Blank lines are skipped. A type is
  dotted segments of letters, digits, `_` and `-`.

Exit codes:
  0  all lines were read, malformed ones, if any, are in the summary; or nobody reads stdout any more
  1  stdin could not be read, stdout not be written, or the store in --data failed or is open in another process
  2  wrong flags, or a malformed line under --strict"#;

/// Shown by `ringmain serve --help`.
const SERVE_HELP: &str = r#"Examples:
  A node, and an event for it:
    ringmain serve --data ./events
    curl -d '{"type": "orders.placed", "data": {"id": 7}}' -H 'content-type: application/json' http://127.0.0.1:8080/v1/events
    curl 'http://127.0.0.1:8080/v1/events?type=orders.*'

  At a free port, with a file of settings that is read again when it changes:
    ringmain serve --listen 127.0.0.1:0 --config ringmain.yaml

  For those who have a token:
    echo "ci sha256:$(printf %s SECRET | sha256sum | cut -d' ' -f1) publish=build.** subscribe=build.**" > tokens
    ringmain serve --token-file tokens
    curl -H 'authorization: Bearer SECRET' 'http://127.0.0.1:8080/v1/events?type=build.**'

Settings:
  Defaults, then FILE, then the environment, then flags; later ones win. A setting `http.page_max` of FILE is RINGMAIN_HTTP_PAGE_MAX
  in the environment.

Exit codes:
  0  it was ended by a signal, and nothing was left
  1  it could not start, or something was left, which stderr names; what was acknowledged is delivered after the next start
  2  wrong flags, or a configuration with faults, each of which stderr names"#;

/// Shown by `ringmain config check --help`.
const CHECK_HELP: &str = r#"Examples:
  Before a node is given another file:
    ringmain config check --config ringmain.yaml && kill -HUP "$(pidof ringmain)"

  A fault names its place as compilers do, so that editors find it:
    ringmain.yaml:3:14: core.workers = "many" is not a whole number

Exit codes:
  0  a node could begin with it; files that it names, and the address, are first looked at by `serve`
  2  wrong flags, or a configuration with faults, each of which stderr names"#;

/// Shown by `ringmain config show --help`.
const SHOW_HELP: &str = r#"Examples:
  What differs from the defaults, and who says so:
    RINGMAIN_HTTP_PAGE_MAX=50 ringmain config show --set --listen 127.0.0.1:0

  Every setting with its help:
    ringmain config show --json | jq -r '.settings[] | "\(.name) (\(.takes)): \(.help)"'

Exit codes:
  0  it was written
  2  wrong flags, or a configuration with faults, each of which stderr names"#;

/// Shown by `ringmain bench --help`.
const BENCH_HELP: &str = r#"Examples:
  The table, and a picture of it for the browser:
    ringmain bench --plot latency.svg

  For a program: the settings recommended here, as they are given to `Bus::builder()`:
    ringmain bench --json | jq -r 'select(.code).code'

  As in a container with one core:
    taskset -c 0 ringmain bench --seconds 10

Reading:
  A figure is the median of the rounds; behind it stand the lowest and the highest round. Where these lie far
  apart, somebody else used the machine: measure again, or longer. Absolute times of shared machines move from
  run to run; what holds is how rows of one run compare.
  `near` and `far` say how long a cache line takes between the two cores and back, under 220 ns or more. A far
  machine hands events over several times slower, whatever is set.
  A machine of one core is not asked what takes two; the end of the table says what was left out, and why.

JSON:
  `record` is machine, figure, left_out or recommendation. The machine lists the names of all figures under
  `questions`; a figure has its `question`, `unit` (ns or events/s), `median`, `low`, `high` and `rounds`.

Exit codes:
  0  all was measured, and every event arrived; or nobody reads stdout any more
  1  FILE or stdout cannot be written, or the bus failed
  2  wrong flags"#;

fn probability(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    found.ok_or_else(|| "a probability is a number from 0 to 1".to_owned())
}

fn idle_strategies() -> impl TypedValueParser<Value = IdleStrategy> {
    PossibleValuesParser::new(IdleStrategy::ALL.map(IdleStrategy::as_str)).try_map(|name| name.parse::<IdleStrategy>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Priority;
    use crate::node::ingress;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn pipe(flags: &[&str]) -> Result<Pipe, clap::Error> {
        let words = ["ringmain", "pipe"].iter().chain(flags);
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Pipe(pipe) => pipe,
            other => panic!("{other:?}"),
        })
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    /// The words of a shell line whose only quotes are single.
    fn words(line: &str) -> Vec<String> {
        line.split('\'')
            .enumerate()
            .flat_map(|(at, piece)| match at % 2 {
                1 => vec![piece.to_owned()],
                _ => piece.split_whitespace().map(str::to_owned).collect(),
            })
            .collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let pipe = pipe(&[]).expect("no flag is required");
        assert_eq!(pipe.on, [pattern("**")]);
        assert_eq!(pipe.lines.rules(), Rules::default());
        assert_eq!((pipe.workers, pipe.capacity, pipe.idle), (None, 10_000, IdleStrategy::Adaptive));
        assert_eq!((pipe.quiet, pipe.lines.strict, pipe.summary), (false, false, SummaryForm::Table));
        assert_eq!((pipe.mode, pipe.fail_rate, pipe.seed), (Mode::BestEffort, 0.0, 0));
    }

    #[test]
    fn every_flag_arrives() {
        let flags = "--on a.* --on b --type kind --priority-field level --source web --workers 3 --idle park \
                     --capacity 5 --data here --segment-bytes 8388608 --quiet --summary json --strict --mode reliable --fail-rate 0.25 --seed 9";
        let pipe = pipe(&flags.split_whitespace().collect::<Vec<_>>()).expect("all are known");
        assert_eq!(pipe.on, [pattern("a.*"), pattern("b")]);
        assert_eq!((pipe.workers, pipe.capacity, pipe.idle), (Some(3), 5, IdleStrategy::Park));
        assert_eq!((pipe.data, pipe.limits.segment_bytes), (Some(PathBuf::from("here")), 8 << 20));
        assert_eq!((pipe.quiet, pipe.lines.strict, pipe.summary), (true, true, SummaryForm::Json));
        assert_eq!((pipe.mode, pipe.fail_rate, pipe.seed), (Mode::Reliable, 0.25, 9));
        let Rules { source, type_field, priority_field, .. } = pipe.lines.rules();
        assert_eq!(
            (source.as_str(), type_field.as_deref(), priority_field.as_deref()),
            ("web", Some("kind"), Some("level"))
        );
    }

    #[test]
    fn the_idle_strategies_go_by_their_names_and_help_lists_them() {
        for idle in IdleStrategy::ALL {
            assert_eq!(pipe(&["--idle", idle.as_str()]).expect("a strategy").idle, idle);
        }
        let help = pipe(&["--help"]).expect_err("help ends the parse").to_string();
        assert!(help.contains("[possible values: busy-spin, yield, backoff, park, adaptive]"), "{help}");
    }

    #[test]
    fn values_out_of_range_are_refused_with_exit_code_2() {
        for flags in [
            ["--workers", "0"],
            ["--workers", "17"],
            ["--capacity", "0"],
            ["--capacity", "1000001"],
            ["--on", "a..b"],
            ["--idle", "sleep"],
            ["--summary", "xml"],
            ["--source", ""],
            ["--mode", "sometimes"],
            ["--fail-rate", "1.1"],
            ["--fail-rate", "often"],
            ["--seed", "x"],
            ["--segment-bytes", "8388608"],
            ["--no-such-flag", "1"],
        ] {
            assert_eq!(pipe(&flags).expect_err("refused").exit_code(), 2, "{flags:?}");
        }
    }

    #[test]
    fn a_wrong_pattern_is_refused_with_its_place() {
        let refused = pipe(&["--on", "orders.ord*"]).expect_err("a wildcard fills its segment").to_string();
        assert!(refused.contains("'orders.ord*' for '--on <PATTERN>': the segment \"ord*\" at byte 7"), "{refused}");
    }

    #[test]
    fn help_shows_every_flag_with_its_default_and_the_examples() {
        let help = pipe(&["--help"]).expect_err("help ends the parse");
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        let help = help.to_string();
        for part in [
            "Usage: ringmain pipe [OPTIONS]",
            "A line is a JSON object",
            "--on <PATTERN>",
            "[default: **]",
            "--type <FIELD>",
            "--priority-field <FIELD>",
            "--source <NAME>",
            "[default: pipe]",
            "--workers <N>",
            "[default: the allowed cores, at most 4]",
            "--idle <STRATEGY>",
            "[default: adaptive]",
            "--capacity <N>",
            "[default: 10000]",
            "--mode <MODE>",
            "[default: best-effort]",
            "- latest:",
            "--fail-rate <P>",
            "--seed <N>",
            "--quiet",
            "--summary <FORM>",
            "[default: table]",
            "--strict",
            "Examples:",
        ] {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
    }

    #[test]
    fn every_example_of_bench_works_and_its_defaults_are_the_documented_ones() {
        let examples = BENCH_HELP.lines().filter_map(|line| line.split_once("ringmain bench"));
        let benches: Vec<_> = examples
            .map(|(_, flags)| {
                let flags = words(flags.split('|').next().unwrap_or_default());
                let words = ["ringmain", "bench"].into_iter().chain(flags.iter().map(String::as_str));
                match Cli::try_parse_from(words).expect("an example").command {
                    Command::Bench(Bench { seconds, plot, json }) => (seconds, plot, json),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(benches, [(30, Some("latency.svg".into()), false), (30, None, true), (10, None, false)]);
    }

    #[test]
    fn version_is_the_package_version() {
        let version = Cli::try_parse_from(["ringmain", "--version"]).expect_err("version ends the parse");
        assert_eq!(version.to_string(), concat!("ringmain ", env!("CARGO_PKG_VERSION"), "\n"));
    }

    #[test]
    fn every_example_in_the_help_works() {
        let mut events = Vec::new();
        let mut commands = 0;
        for line in EXAMPLES.lines().filter(|line| line.contains("ringmain pipe")) {
            let (input, command) = line.split_once("ringmain pipe").expect("just seen");
            let command = command.split('<').next().unwrap_or_default();
            let flags = words(command);
            let pipe = pipe(&flags.iter().map(String::as_str).collect::<Vec<_>>()).expect(line);
            commands += 1;
            if let Some(event) = words(input).iter().find(|word| word.starts_with('{')) {
                let rules = pipe.lines.rules();
                let event = ingress::parse(event.as_bytes(), &rules).expect(line);
                events.push((event.event_type.into_owned(), event.priority));
            }
        }
        assert_eq!(commands, 9);
        assert_eq!(events, [("orders.placed".to_owned(), None), ("Login-failed".to_owned(), Some(Priority::High))]);
    }
}
