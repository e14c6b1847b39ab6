//! The flags of `ringmain dlq`, and its help.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::super::client::Where;
use super::super::store::values::rate;
use super::QUEUE;
use crate::Pattern;

/// The commands of `ringmain dlq`.
#[derive(Debug, Clone, Subcommand)]
pub enum Dlq {
    /// Write a line a dead letter, the oldest first: its id, when and why it was given up, by whom, and what it is
    #[command(after_long_help = LIST_HELP, after_help = "`ringmain dlq list --help` has examples.")]
    List(List),
    /// Write all that is known of one dead letter, and its event
    #[command(after_long_help = SHOW_HELP, after_help = "`ringmain dlq show --help` has examples.")]
    Show(Show),
    /// Write the events of dead letters to stdout, to be tried again, and remove each letter once its line is out; a node
    /// publishes them itself
    #[command(after_long_help = REDRIVE_HELP, after_help = "`ringmain dlq redrive --help` has examples.")]
    Redrive(Redrive),
    /// Remove dead letters for good
    #[command(after_long_help = PURGE_HELP, after_help = "`ringmain dlq purge --help` has examples.")]
    Purge(Purge),
}

/// Whose dead letters.
#[derive(Debug, Clone, Args)]
pub struct Queue {
    /// The store, or the node.
    #[command(flatten)]
    pub place: Where,

    /// Of a store: the name that the queue was opened with; `ringmain pipe` has the default
    #[arg(long, value_name = "NAME", default_value = QUEUE, conflicts_with = "url", value_parser = NonEmptyStringValueParser::new())]
    pub queue: String,
}

/// Which of the dead letters.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The queue.
    #[command(flatten)]
    pub queue: Queue,

    /// Whose event's type matches PATTERN: `*` is one segment, `**` any number
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::new)]
    pub on: Option<Pattern>,

    /// Of this subscription
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub subscription: Option<String>,
}

/// The dead letters that something is done to: those named, or all that match.
#[derive(Debug, Clone, Args)]
pub struct Chosen {
    /// Which.
    #[command(flatten)]
    pub which: Which,

    /// The ids of the letters, as `list` has them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "on", "subscription"])]
    pub ids: Vec<u64>,

    /// All letters
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

/// The flags of `ringmain dlq list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Which.
    #[command(flatten)]
    pub which: Which,

    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// Write one JSON object a line instead of the table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `ringmain dlq show`.
#[derive(Debug, Clone, Args)]
pub struct Show {
    /// The queue.
    #[command(flatten)]
    pub queue: Queue,

    /// The id of the letter, as `list` has it
    #[arg(value_name = "ID")]
    pub id: u64,
}

/// The flags of `ringmain dlq redrive`.
#[derive(Debug, Clone, Args)]
pub struct Redrive {
    /// The letters.
    #[command(flatten)]
    pub chosen: Chosen,

    /// At most so many a second [default: as fast as they are read]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
}

/// The flags of `ringmain dlq purge`.
#[derive(Debug, Clone, Args)]
pub struct Purge {
    /// The letters.
    #[command(flatten)]
    pub chosen: Chosen,
}

const LIST_HELP: &str = r#"Examples:
  All:
    ringmain dlq list --data ./events

  Orders that the subscription `**` gave up, as JSON:
    ringmain dlq list --data ./events --on 'orders.**' --subscription '**' --json

  Of a node that runs:
    ringmain dlq list --url http://127.0.0.1:8080 --limit 3

  Where they come from: what `ringmain pipe --data ./events --mode reliable` gives up, and every bus and subscription whose
  dead letters a `DeadLetterQueue` keeps in the store; of one with another name:
    ringmain dlq list --data ./events --queue billing

Exit codes:
  0  all were written; or nobody reads stdout any more
  1  a letter cannot be read, there is no store or no node, or another process has the store open
  2  wrong flags"#;

const SHOW_HELP: &str = r#"Examples:
    ringmain dlq show --data ./events 7

  The event alone, which is the last line:
    ringmain dlq show --data ./events 7 | tail -n 1 | jq .data

Exit codes:
  0  it was written
  1  there is no such letter, it cannot be read, there is no store or no node, or another process has the store open
  2  wrong flags"#;

const REDRIVE_HELP: &str = r#"Examples:
  Two letters, tried again:
    ringmain dlq redrive --data ./events 7 9 > again.ndjson && ringmain pipe --data ./events --mode reliable < again.ndjson

  All orders, ten a second, to another program:
    ringmain dlq redrive --data ./events --on 'orders.**' --rate 10 | ringmain pipe --quiet

  At a node that runs, which publishes them once more:
    ringmain dlq redrive --url http://127.0.0.1:8080 --subscription billing

  A line has the event as it was, with its id: by that who has handled it already knows it. A letter goes when its line has
  been written. Killed between the two, its line comes once more the next time, so none is lost. While this runs the store
  is in use: write to a file first what is to go back into the same store.

Exit codes:
  0  all were written
  1  a letter was not found or cannot be read, stdout could not be written, there is no store or no node, or another
     process has the store open; letters whose lines were not written stay. Also when nobody reads stdout any more
  2  wrong flags, or no letter was named"#;

const PURGE_HELP: &str = r#"Examples:
    ringmain dlq purge --data ./events 7 9
    ringmain dlq purge --data ./events --subscription audit
    ringmain dlq purge --data ./events --all
    ringmain dlq purge --url http://127.0.0.1:8080 7 9

  What was removed is gone for good; `ringmain dlq redrive` writes it out first. Letters that are named and not there are
  no error: they are gone already.

Exit codes:
  0  they are gone
  1  a letter cannot be read or removed, there is no store or no node, or another process has the store open
  2  wrong flags, or no letter was named"#;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::node::args::{Cli, Command};

    fn parse(words: &str) -> Result<Dlq, clap::Error> {
        let words = words.replace('\'', "");
        let words = ["ringmain", "dlq"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Dlq(dlq) => dlq,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn every_example_in_the_help_works() {
        let mut commands = 0;
        for help in [LIST_HELP, SHOW_HELP, REDRIVE_HELP, PURGE_HELP] {
            for line in help.lines().filter(|line| line.starts_with("    ringmain dlq ")) {
                let words = line.trim_start().trim_start_matches("ringmain dlq ");
                parse(words.split(['|', '>']).next().unwrap_or_default()).expect(line);
                commands += 1;
            }
            assert!(help.contains("Exit codes:"), "{help}");
        }
        assert_eq!(commands, 13);
    }

    #[test]
    fn nothing_is_done_to_letters_that_nobody_named() {
        for words in [
            "purge --data d",
            "redrive --data d",
            "purge --data d --all 7",
            "redrive --data d --rate 0 --all",
            "show --data d",
            "show --data d x",
            "list",
            "list --data d --url http://x:1",
            "purge --url http://x:1 --queue billing --all",
        ] {
            assert_eq!(parse(words).expect_err("refused").exit_code(), 2, "{words}");
        }
    }
}
