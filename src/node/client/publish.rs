//! `ringmain publish`: an event for a running node, or every line of stdin as one.

use std::io::{self, BufReader, Read, Write};

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::http::said;
use super::super::human::grouped;
use super::super::ingress::{self, Rules};
use super::super::lines::Lines;
use super::super::progress::Progress;
use super::super::store::Failure;
use super::connect::{Answer, Connection, Remote};
use crate::Priority;

/// Exit code where something was refused.
const REFUSED: u8 = 1;
/// Exit code for a payload that is none.
const WRONG: u8 = 2;
const INPUT_BUFFER_BYTES: usize = 256 << 10;
/// Lines that are sent together: as many as a node takes at once by default.
const BATCH_LINES: usize = 1_024;
/// Bytes that they have, unless a single line has more; a node takes 4 MiB by default.
const BATCH_BYTES: usize = 1 << 20;
/// What a node says of events that it will never take as they are.
const REFUSALS: [&str; 4] = ["malformed-event", "forbidden", "conflict", "too-large"];

/// The flags of `ringmain publish`.
#[derive(Debug, Clone, Args)]
pub struct Publish {
    /// The type of the event, as `orders.placed`; or `-`: every line of stdin is an event
    #[arg(value_name = "TYPE")]
    pub event_type: String,

    /// Its data, of JSON; `-` reads them from stdin [default: none]
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true)]
    pub payload: Option<String>,

    /// Take PAYLOAD as text, and not as JSON
    #[arg(long, requires = "payload")]
    pub text: bool,

    /// The id of the event: sent once more, it is published once [default: a new one]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,

    /// The source of the event [default: `http`]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,

    /// The priority of the event: critical, high, normal or low [default: normal]
    #[arg(long, value_name = "PRIORITY", value_parser = str::parse::<Priority>)]
    pub priority: Option<Priority>,

    /// Which node.
    #[command(flatten)]
    pub node: Remote,
}

/// Shown by `ringmain publish --help`.
pub(in super::super) const HELP: &str = r#"Examples:
  An event, and its id once the node has it:
    ringmain publish orders.placed '{"id": 7}'

  Text, or what a program writes:
    ringmain publish notes.taken 'buy tea' --text
    df --output=pcent / | tail -n 1 | ringmain publish disk.used - --text

  Events of a file, each line a CloudEvent or {"type": .., "data": ..}; the ids come out, a line each:
    ringmain publish - < events.ndjson

  At another node, with the token that a file has:
    ringmain publish build.done '{"ok": true}' --url http://127.0.0.1:8081 --token-file ci.token

Lines:
  A line is read as `ringmain pipe` reads it. What is there to be read is sent together, and an id comes out when its event is
  in the store. A line that is malformed or refused is named on stderr by its number, and the others are published. Lines with
  an `id` can be sent once more: an event is published once.

Exit codes:
  0  all were published
  1  a line was malformed, an event was refused, no node is there, or it has not answered; what has an id on stdout is published
  2  wrong flags, or PAYLOAD is no JSON"#;

pub(super) fn publish(flags: &Publish) -> Result<u8, Failure> {
    let connection = Connection::open(&flags.node)?;
    if flags.event_type == "-" {
        let is_told =
            flags.payload.is_some() || flags.id.is_some() || flags.source.is_some() || flags.priority.is_some();
        if is_told {
            let what = "with `-` each line says its own data, id, source and priority: give none of them, or a TYPE";
            Progress::silent().say(&format!("ringmain: {what}\n"));
            return Ok(WRONG);
        }
        return Sender::new(&connection).run(io::stdin().lock());
    }
    let payload = match flags.payload.as_deref() {
        Some("-") => Some(
            io::read_to_string(io::stdin()).map_err(|error| Failure::Said(format!("stdin cannot be read: {error}")))?,
        ),
        payload => payload.map(str::to_owned),
    };
    let event = match event(flags, payload.as_deref()) {
        Ok(event) => event,
        Err(wrong) => {
            Progress::silent().say(&format!("ringmain: {wrong}\n"));
            return Ok(WRONG);
        }
    };
    let answer = connection.ask("POST", "/v1/events", Some(&event))?;
    match answer.status {
        202 => print_ids(&answer)?,
        _ => return Err(connection.refused(&answer)),
    };
    Ok(0)
}

/// The event that the flags say, in the short form.
fn event(flags: &Publish, payload: Option<&str>) -> Result<String, String> {
    let priority = flags.priority.map(|priority| priority.as_str().to_owned());
    let members = [
        ("type", Some(&flags.event_type)),
        ("id", flags.id.as_ref()),
        ("source", flags.source.as_ref()),
        ("priority", priority.as_ref()),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?.as_str()))));
    let mut members: Map<String, Value> = members.collect();
    let data = match payload {
        None => return Ok(Value::Object(members).to_string()),
        Some(text) if flags.text => {
            members.insert("datacontenttype".to_owned(), "text/plain".into());
            Value::from(text).to_string()
        }
        Some(text) => {
            let data: &RawValue = serde_json::from_str(text)
                .map_err(|error| format!("the payload is no JSON: {error}; write text as '\"text\"', or say --text"))?;
            data.get().to_owned()
        }
    };
    let head = Value::Object(members).to_string();
    // Its data stand in it as they were given, to the last digit.
    Ok(format!("{},\"data\":{data}}}", &head[..head.len() - 1]))
}

/// Writes the ids of events that were taken. Returns how many there are.
fn print_ids(answer: &Answer) -> Result<u64, Failure> {
    let told = answer.json()?;
    let ids = told["ids"].as_array().map_or(&[][..], Vec::as_slice);
    let lines: String = ids.iter().filter_map(Value::as_str).map(|id| format!("{id}\n")).collect();
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| {
        Failure::Said(format!("ids of events that were published cannot be written to stdout: {error}"))
    })?;
    Ok(ids.len() as u64)
}

/// A line with its number.
type Line = (u64, String);

/// Lines on their way to a node.
struct Sender<'a> {
    connection: &'a Connection,
    progress: Progress,
    batch: Vec<Line>,
    batch_bytes: usize,
    published: u64,
    malformed: u64,
    refused: u64,
}

impl<'a> Sender<'a> {
    fn new(connection: &'a Connection) -> Self {
        let (published, malformed, refused, batch_bytes) = (0, 0, 0, 0);
        Self {
            connection,
            progress: Progress::new(true),
            batch: Vec::new(),
            batch_bytes,
            published,
            malformed,
            refused,
        }
    }

    fn run(mut self, input: impl Read) -> Result<u8, Failure> {
        let sent = self.read(input);
        self.progress.end();
        let [published, malformed, refused] = [self.published, self.malformed, self.refused].map(grouped);
        self.progress
            .say(&format!("ringmain: {published} events published, {malformed} lines malformed, {refused} refused\n"));
        sent?;
        Ok(if self.malformed + self.refused > 0 { REFUSED } else { 0 })
    }

    fn read(&mut self, input: impl Read) -> Result<(), Failure> {
        let rules = Rules::default();
        let mut lines = Lines::new(BufReader::with_capacity(INPUT_BUFFER_BYTES, input), rules.line_bytes_max);
        loop {
            // Whoever writes line by line is answered line by line; what is there already goes together.
            if !lines.has_whole_line() || self.batch.len() == BATCH_LINES || self.batch_bytes > BATCH_BYTES {
                self.flush()?;
            }
            let line = match lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return self.flush(),
                Err(error) => return Err(Failure::Said(format!("stdin cannot be read: {error}"))),
            };
            let number = line.number;
            let text = line.bytes.and_then(|bytes| ingress::parse(bytes, &rules).map(|_| bytes));
            match text {
                Ok(bytes) => {
                    self.batch_bytes += bytes.len();
                    self.batch.push((number, String::from_utf8_lossy(bytes).into_owned()));
                }
                Err(error) => {
                    let said = said(&error);
                    self.progress.say(&format!("ringmain: line {number} is malformed: {said}\n"));
                    self.malformed += 1;
                }
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() { Ok(()) } else { self.send(&batch) }
    }

    /// Sends lines together. A node takes all or none: where it refuses them they are sent in halves, until the one is found that
    /// it refuses.
    fn send(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let texts: Vec<_> = lines.iter().map(|(_, text)| &**text).collect();
        let answer = self.connection.ask("POST", "/v1/events", Some(&format!("[{}]", texts.join(","))));
        let answer = answer.map_err(|failure| self.unheard(lines, failure))?;
        if answer.status == 202 {
            let ids = print_ids(&answer)?;
            (0..ids).for_each(|_| self.progress.count());
            self.published += ids;
            return Ok(());
        }
        match answer.problem().filter(|problem| REFUSALS.contains(&&*problem.kind)) {
            Some(_) if lines.len() > 1 => {
                let (first, second) = lines.split_at(lines.len() / 2);
                self.send(first)?;
                self.send(second)
            }
            Some(problem) => {
                let (number, detail) = (lines[0].0, problem.detail.trim_start_matches("event 0: "));
                self.progress.say(&format!("ringmain: line {number} was refused: {detail}\n"));
                self.refused += 1;
                Ok(())
            }
            None => Err(self.unheard(lines, self.connection.refused(&answer))),
        }
    }

    /// From where on it is to be sent again.
    fn unheard(&self, lines: &[Line], failure: Failure) -> Failure {
        match failure {
            Failure::Said(said) => {
                Failure::Said(format!("from line {} on nothing was acknowledged: {said}", lines[0].0))
            }
            nobody => nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::node::args::{Cli, Command};

    fn flags(words: &[&str]) -> Publish {
        let words = ["ringmain", "publish"].iter().chain(words);
        match Cli::try_parse_from(words).expect("it is a command").command {
            Command::Publish(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_is_what_its_flags_say() {
        let all = flags(&["a.b", "{\"n\": 1.10}", "--id", "7", "--source", "me", "--priority", "high"]);
        assert_eq!(
            event(&all, all.payload.as_deref()).expect("it is JSON"),
            r#"{"id":"7","priority":"high","source":"me","type":"a.b","data":{"n": 1.10}}"#
        );
        let bare = flags(&["a"]);
        assert_eq!(event(&bare, None).expect("it needs no payload"), r#"{"type":"a"}"#);
        let number = flags(&["a", "-5"]);
        assert_eq!(event(&number, number.payload.as_deref()).expect("it is JSON"), r#"{"type":"a","data":-5}"#);
        let text = flags(&["a", "say \"it\"", "--text"]);
        assert_eq!(
            event(&text, text.payload.as_deref()).expect("it is text"),
            r#"{"datacontenttype":"text/plain","type":"a","data":"say \"it\""}"#
        );
        let wrong = event(&bare, Some("buy tea")).expect_err("it is no JSON");
        assert!(wrong.contains("no JSON") && wrong.contains("--text"), "{wrong}");
    }
}
