//! The jobs of the command line that ask a running node, over the interface that everybody has: `publish`, `tail`, `health`,
//! `services`, `rules` and `replay`, and `store query` and `dlq` where they have `--url`.
//!
//! ```text
//! flags ──► connect ──► HTTP, JSON ──► shown ──► stdout, exit code
//!              └──────► socket: WebSocket, CloudEvents, resumed after a cut
//! ```

mod connect;
pub mod health;
pub(super) mod letters;
pub mod publish;
pub(super) mod query;
pub mod replay;
pub mod rules;
pub mod services;
mod shown;
mod socket;
pub mod tail;

use std::fs;
use std::io;
use std::process::ExitCode;

use serde_json::Value;

pub use self::connect::{Remote, Token, Where};
use super::store::{Failure, ended, print};

/// Publishes what the flags or stdin say, and returns the exit code.
pub fn publish(flags: &publish::Publish) -> ExitCode {
    ended(publish::publish(flags))
}

/// Writes events as they come, and returns the exit code.
pub fn tail(flags: &tail::Tail) -> ExitCode {
    ended(tail::tail(flags))
}

/// Says how a node is, and returns the exit code.
pub fn health(flags: &health::Health) -> ExitCode {
    ended(health::health(flags))
}

/// Shows or changes what runs beside the bus, and returns the exit code.
pub fn services(flags: &services::Services) -> ExitCode {
    ended(services::services(flags))
}

/// Shows rules, and what they would do, and returns the exit code.
pub fn rules(command: &rules::Rules) -> ExitCode {
    ended(rules::rules(command))
}

/// Begins, shows or ends replays, and returns the exit code.
pub fn replay(command: &replay::Replay) -> ExitCode {
    ended(replay::replay(command))
}

/// A member that is text, or nothing.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A member that is an array, or none.
fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// The texts of an array, in a row.
fn joined(texts: &Value) -> String {
    let texts: Vec<_> = texts.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(", ")
}

/// Writes a text, with a line feed where it has none.
fn write(text: &str) -> Result<(), Failure> {
    print(text.as_bytes())?;
    if text.is_empty() || text.ends_with('\n') { Ok(()) } else { print(b"\n") }
}

/// What a file has, or stdin where it is `-`.
fn read(file: &str) -> Result<String, Failure> {
    let (read, name) =
        if file == "-" { (io::read_to_string(io::stdin()), "stdin") } else { (fs::read_to_string(file), file) };
    read.map_err(|error| Failure::Said(format!("{name} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::{health, publish, replay, rules, services, tail};
    use crate::node::args::Cli;

    /// The words of a shell line whose only quotes are single.
    fn words(line: &str) -> Vec<String> {
        let quoted = |(at, piece): (usize, &str)| match at % 2 {
            1 => vec![piece.to_owned()],
            _ => piece.split_whitespace().map(str::to_owned).collect(),
        };
        line.split('\'').enumerate().flat_map(quoted).collect()
    }

    #[test]
    fn every_example_in_the_help_works() {
        let helps = [
            (publish::HELP, 5),
            (tail::HELP, 5),
            (health::HELP, 3),
            (services::HELP, 4),
            (rules::LIST_HELP, 2),
            (rules::EXPLAIN_HELP, 2),
            (rules::DIFF_HELP, 3),
            (replay::BEGIN_HELP, 4),
            (replay::LIST_HELP, 2),
            (replay::SHOW_HELP, 1),
            (replay::CANCEL_HELP, 1),
        ];
        for (help, examples) in helps {
            let lines = help
                .lines()
                .filter(|line| line.starts_with("    "))
                .filter_map(|line| line.find("ringmain ").map(|at| &line[at..]));
            let mut commands = 0;
            for line in lines {
                let end =
                    [" | ", " > ", " < ", " && "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
                Cli::try_parse_from(words(&line[..end])).expect(line);
                commands += 1;
            }
            assert_eq!(commands, examples, "{help}");
            assert!(help.contains("Exit codes:"), "{help}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_exit_code_2() {
        for line in [
            "publish",
            "publish a --text",
            "publish a 1 --priority urgent",
            "publish a 1 --url 127.0.0.1:8080",
            "publish a 1 --token x --token-file y",
            "publish a 1 --timeout 0",
            "tail a..b",
            "tail --limit 0",
            "tail --after -1",
            "services begin x",
            "services stop",
            "rules explain",
            "rules diff",
            "replay begin --rate 0",
            "replay begin --from yesterday",
            "replay show",
        ] {
            let words = ["ringmain"].into_iter().chain(line.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_flags_that_name_a_node_stand_on_either_side_of_a_verb() {
        for line in [
            "services --url http://x:1 stop watcher",
            "services stop watcher --url http://x:1",
            "rules list --json --token t",
        ] {
            let words = ["ringmain"].into_iter().chain(line.split_whitespace());
            Cli::try_parse_from(words).expect(line);
        }
        let help = Cli::try_parse_from(["ringmain", "tail", "--help"]).expect_err("help ends the parse");
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        for part in ["--url <URL>", "--token-file <FILE>", "RINGMAIN_TOKEN", "[default: 60]", "Exit codes:"] {
            assert!(help.to_string().contains(part), "{part} is missing in\n{help}");
        }
    }
}
