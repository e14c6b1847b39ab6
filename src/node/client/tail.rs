//! `ringmain tail`: the events of a running node as they come, also over cuts.

use std::thread;
use std::time::Duration;

use clap::Args;

use super::super::progress::Progress;
use super::super::store::{Failure, print};
use super::connect::{Connection, Remote, encoded};
use super::shown::printable;
use super::socket::{self, End, Event, Item, Live};
use crate::Pattern;

/// How long it is waited before a stream that was cut is asked for again; doubled each time.
const WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The flags of `ringmain tail`.
#[derive(Debug, Clone, Args)]
pub struct Tail {
    /// Events whose type matches a PATTERN: `*` is one segment, `**` any number, a lone `*` everything
    #[arg(value_name = "PATTERN", default_value = "**", value_parser = Pattern::new)]
    pub on: Vec<Pattern>,

    /// Begin behind this position, 0 being before the first [default: what comes from now on]
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,

    /// End after so many events [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// Write each event as a line of CloudEvents 1.0 JSON
    #[arg(long)]
    pub json: bool,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// Shown by `ringmain tail --help`.
pub(in super::super) const HELP: &str = r#"Examples:
  All that happens from now on:
    ringmain tail

  Orders and what failed, for another program:
    ringmain tail 'orders.*' '**.failed' --json | jq .data

  Everything that the store has and all that comes; then on from where that was:
    ringmain tail --after 0
    ringmain tail --after 1000

  The next event of a build:
    ringmain tail 'build.done' --limit 1

Lines:
  Position, time, type, source and data of an event; with --json all of it, as a CloudEvent with its `position`. Events come in
  the order of the store, without a gap, and nothing comes twice.

Cuts:
  When the connection is cut, or the node is started anew, stderr says so, and the stream goes on behind the last event that was
  written as soon as the node is back, however long that takes. What the node no longer has is said as a gap.

Exit codes:
  0  --limit events were written; or nobody reads stdout any more
  1  no node is there when it begins, or it refuses: a token that may not, a position that the store does not have
  2  wrong flags"#;

pub(super) fn tail(flags: &Tail) -> Result<u8, Failure> {
    let node = Connection::open(&flags.node)?;
    let patterns: Vec<_> = flags.on.iter().map(|pattern| format!("type={}", encoded(pattern.as_str()))).collect();
    let mut follows = Follows {
        flags,
        patterns: patterns.join("&"),
        after: flags.after,
        left: flags.limit.unwrap_or(u64::MAX),
        is_there: false,
    };
    let (mut was_there, mut wait) = (false, WAIT);
    loop {
        match follows.stream(&node) {
            Ok(()) => return Ok(0),
            Err(End::Failed(failure)) => return Err(failure),
            Err(End::Cut(why)) if !was_there && !follows.is_there => return Err(Failure::Said(why)),
            Err(End::Cut(why)) => {
                if std::mem::take(&mut follows.is_there) {
                    let after = follows.after.unwrap_or_default();
                    say(&format!("cut after position {after}: {why}; it goes on from there when the node is back"));
                    (was_there, wait) = (true, WAIT);
                }
                thread::sleep(wait);
                wait = (wait * 2).min(WAIT_MAX);
            }
        }
    }
}

fn say(what: &str) {
    Progress::silent().say(&format!("ringmain: {what}\n"));
}

/// What is followed, and how far it has come.
struct Follows<'a> {
    flags: &'a Tail,
    patterns: String,
    after: Option<u64>,
    left: u64,
    /// There is a stream.
    is_there: bool,
}

impl Follows<'_> {
    /// Follows a stream until enough has come.
    fn stream(&mut self, node: &Connection) -> Result<(), End> {
        let after = self.after.map_or_else(String::new, |after| format!("&after={after}"));
        let mut live = Live::open(node, &format!("?{}{after}", self.patterns))?;
        loop {
            let text = live.next()?;
            let failed = |said: String| End::Failed(Failure::Said(format!("{}: {said}", node.url)));
            let item =
                socket::read(&text).map_err(|error| failed(format!("what has come is no CloudEvent: {error}")))?;
            match item {
                Item::Event(event) => {
                    let line = if self.flags.json { text.clone() } else { line(&event) };
                    print((line + "\n").as_bytes()).map_err(End::Failed)?;
                    self.after = event.position();
                    self.left -= 1;
                    if self.left == 0 {
                        return Ok(());
                    }
                }
                Item::Subscribed { position } => {
                    self.is_there = true;
                    self.after.get_or_insert(position);
                }
                Item::Gap(gap) => say(&format!("left out: {gap}")),
                Item::Refused(detail) => return Err(failed(detail)),
                Item::Other => {}
            }
        }
    }
}

/// An event for people.
fn line(event: &Event<'_>) -> String {
    let data = match (&event.data, &event.data_base64) {
        (Some(data), _) => printable(data.get()).into_owned(),
        (None, Some(base64)) => format!("{} characters of base64", base64.len()),
        (None, None) => String::new(),
    };
    let (position, time) = (event.position().unwrap_or_default(), event.time.as_deref().unwrap_or("-"));
    let line = format!("{position:>8}  {time}  {}  {}  {data}", printable(&event.event_type), printable(&event.source));
    line.trim_end().to_owned()
}
