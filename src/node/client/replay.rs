//! `ringmain replay`: past events of a running node once more, to those who take replays.

use std::thread;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::super::human::{bytes, grouped};
use super::super::store::Failure;
use super::super::store::values::{place, rate};
use super::connect::{Connection, Remote};
use super::shown::columns;
use super::{array, joined, text, write};
use crate::Pattern;

/// How often a replay is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Exit code for a replay that did not come to its end.
const NOT_DONE: u8 = 1;

/// The commands of `ringmain replay`.
#[derive(Debug, Clone, Subcommand)]
pub enum Replay {
    /// Begin a replay, or say how many events it would be
    #[command(after_long_help = BEGIN_HELP, after_help = "`ringmain replay begin --help` has examples.")]
    Begin(Begin),
    /// Write a line a replay: its id, its state, when it was begun and how far it is
    #[command(after_long_help = LIST_HELP, after_help = "`ringmain replay list --help` has examples.")]
    List(List),
    /// Write all that is known of one
    #[command(after_long_help = SHOW_HELP, after_help = "`ringmain replay show --help` has examples.")]
    Show(Named),
    /// End one after the event that it is at
    #[command(after_long_help = CANCEL_HELP, after_help = "`ringmain replay cancel --help` has examples.")]
    Cancel(Named),
}

/// The flags of `ringmain replay begin`.
#[derive(Debug, Clone, Args)]
pub struct Begin {
    /// Events of a type that matches PATTERN: `*` is one segment, `**` any number
    #[arg(long = "type", value_name = "PATTERN", value_parser = Pattern::new)]
    pub pattern: Option<Pattern>,

    /// Of this source
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub source: Option<String>,

    /// From this position on, or from events created at this time on, as `2026-01-31T12:00:00Z` [default: all]
    #[arg(long, value_name = "PLACE", value_parser = is_place)]
    pub from: Option<String>,

    /// Up to this position and with it, or up to events created before this time [default: all there are when it begins]
    #[arg(long, value_name = "PLACE", value_parser = is_place)]
    pub to: Option<String>,

    /// To this subscription alone [default: all that take replays]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub subscription: Option<String>,

    /// At most so many events a second [default: as fast as they are taken]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,

    /// Only say how many events it would be, to whom, and how long it would take
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,

    /// Return when it is over, and not when it has begun
    #[arg(long)]
    pub wait: bool,

    /// Write what the node says as JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// The flags of `ringmain replay list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Write what the node says as JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// Which replay.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// Its id, as `begin` and `list` have it
    #[arg(value_name = "ID")]
    pub id: u64,

    /// Write what the node says as JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// Shown by `ringmain replay begin --help`.
pub(in super::super) const BEGIN_HELP: &str = r#"Examples:
  How much it would be:
    ringmain replay begin --type 'orders.**' --rate 500 --dry-run

  A day once more for one subscription, and wait for its end:
    ringmain replay begin --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --subscription billing --wait

  From position 1,000 to 2,000 at 500 a second, watched and ended:
    ringmain replay begin --from 1000 --to 2000 --rate 500 --json | jq .id
    ringmain replay list

Exit codes:
  0  it has begun; with --wait, it is over and all was published; with --dry-run, it was said
  1  nobody takes replays, as many go on as may, --wait saw it cancelled or fail, no node is there, or it refuses
  2  wrong flags"#;

/// Shown by `ringmain replay list --help`.
pub(in super::super) const LIST_HELP: &str = r#"Examples:
    ringmain replay list
    ringmain replay list --json | jq '.replays[] | select(.state == "running").id'

Exit codes:
  0  they were written
  1  no node is there, or it refuses
  2  wrong flags"#;

/// Shown by `ringmain replay show --help`.
pub(in super::super) const SHOW_HELP: &str = r#"Examples:
    ringmain replay show 1 --json

Exit codes:
  0  it was written
  1  there is no such replay, no node is there, or it refuses
  2  wrong flags"#;

/// Shown by `ringmain replay cancel --help`.
pub(in super::super) const CANCEL_HELP: &str = r#"Examples:
    ringmain replay cancel 1

Exit codes:
  0  it ends after the event that it is at, or was over
  1  there is no such replay, no node is there, or it refuses
  2  wrong flags"#;

/// The text of a place, which is one.
fn is_place(text: &str) -> Result<String, &'static str> {
    place(text).map(|_| text.to_owned())
}

pub(super) fn replay(command: &Replay) -> Result<u8, Failure> {
    match command {
        Replay::Begin(flags) => begin(flags),
        Replay::List(flags) => {
            let answer = Connection::open(&flags.node)?.get("/v1/replays")?;
            let rows = |told: &Value| array(told, "replays").iter().map(row).collect::<Vec<_>>();
            write(&if flags.json { answer.body } else { listed(&rows(&answer.json()?)) })?;
            Ok(0)
        }
        Replay::Show(named) => one(named, "GET"),
        Replay::Cancel(named) => one(named, "DELETE"),
    }
}

fn one(named: &Named, method: &str) -> Result<u8, Failure> {
    let answer = Connection::open(&named.node)?.does(method, &format!("/v1/replays/{}", named.id), &Value::Null)?;
    write(&if named.json { answer.body } else { columns(&[row(&answer.json()?)]) })?;
    Ok(0)
}

fn begin(flags: &Begin) -> Result<u8, Failure> {
    let Begin { pattern, source, from, to, subscription, rate, dry_run, .. } = flags;
    let pattern = pattern.as_ref().map(Pattern::as_str);
    let asked = json!({
        "type": pattern, "source": source, "from": from, "to": to, "subscription": subscription, "rate": rate, "dry_run": dry_run,
    });
    let node = Connection::open(&flags.node)?;
    let mut answer = node.does("POST", "/v1/replays", &asked)?;
    let mut told = answer.json()?;
    if flags.dry_run {
        write(&if flags.json { answer.body } else { estimated(&told) })?;
        return Ok(0);
    }
    while flags.wait && told["state"] == "running" {
        thread::sleep(LOOK_EVERY);
        answer = node.get(&format!("/v1/replays/{}", told["id"]))?;
        told = answer.json()?;
    }
    write(&if flags.json { answer.body } else { columns(&[row(&told)]) })?;
    Ok(if flags.wait && told["state"] != "done" { NOT_DONE } else { 0 })
}

fn estimated(told: &Value) -> String {
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    let mut said = format!("{} events would be replayed, {}", grouped(number("events")), bytes(number("bytes")));
    if let (Some(first), Some(last)) = (told["first"].as_str(), told["last"].as_str()) {
        said += &format!(", from position {first} to {last}");
    }
    said += &format!(", to {}", joined(&told["subscriptions"]));
    if let Some(seconds) = told["seconds"].as_f64() {
        said += &format!("; at this rate that takes {seconds:.1} s");
    }
    said
}

fn listed(rows: &[[String; 5]]) -> String {
    if rows.is_empty() { "there are no replays\n".to_owned() } else { columns(rows) }
}

fn row(replay: &Value) -> [String; 5] {
    let mut how = format!("{} published", grouped(replay["published"].as_u64().unwrap_or(0)));
    if let Some(position) = replay["position"].as_str() {
        how += &format!(", at position {position}");
    }
    let error = text(replay, "error").to_owned();
    [replay["id"].to_string(), text(replay, "state").to_owned(), text(replay, "begun").to_owned(), how, error]
}
