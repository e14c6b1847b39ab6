//! `store append` and `store import`: lines become events of a store.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::super::human::grouped;
use super::super::ingress;
use super::super::lines::Lines;
use super::super::passage;
use super::super::progress::Progress;
use super::flags::{Append, Import, Limits};
use super::known::Known;
use super::{FAILED, Failure, MALFORMED, open, say_recovered};
use crate::node::args::LineFlags;
use crate::store::{BATCH_EVENTS_MAX, Durability, EventStore, ExpectedVersion, LogStore};
use crate::{Bus, Frame, IdleStrategy, Publisher};

const INPUT_BUFFER_BYTES: usize = 256 << 10;
/// Payload bytes that one append has at most, unless a single event has more.
const BATCH_BYTES: usize = 4 << 20;

pub(super) fn append(flags: &Append) -> Result<u8, Failure> {
    let progress = Progress::new(flags.ack);
    let stdin = BufReader::with_capacity(INPUT_BUFFER_BYTES, io::stdin().lock());
    let appender =
        Appender::open(&flags.store.data, flags.limits, flags.durability.into(), flags.ack, &flags.lines, &progress)?;
    appender.run(stdin, "stdin")
}

pub(super) fn import(flags: &Import) -> Result<u8, Failure> {
    let (input, name, bytes): (Box<dyn Read>, _, _) = match &flags.file {
        None => (Box::new(io::stdin()), "stdin".to_owned(), None),
        Some(path) => {
            let name = path.display().to_string();
            let unreadable = |error| Failure::Said(format!("{name} cannot be read: {error}"));
            let file = File::open(path).map_err(unreadable)?;
            let bytes = file.metadata().map_err(unreadable)?.len();
            (Box::new(file), name, Some(bytes))
        }
    };
    let progress = bytes.map_or_else(|| Progress::new(false), |bytes| Progress::of_bytes(bytes, false));
    let input = progress.reading(input);
    // One sync at the end makes all of it durable.
    let mut appender =
        Appender::open(&flags.store.data, flags.limits, Durability::Written, false, &flags.lines, &progress)?;
    if !flags.all {
        appender.known = Some(Known::read(&appender.store, flags.ids_max)?);
    }
    appender.run(BufReader::with_capacity(INPUT_BUFFER_BYTES, input), &name)
}

/// Lines on their way into a store.
struct Appender<'a> {
    store: LogStore,
    word: Durability,
    ack: bool,
    flags: &'a LineFlags,
    progress: &'a Progress,
    /// Frames are made by the publisher of a bus that nothing is published to.
    bus: Bus,
    publisher: Publisher,
    /// Events that are left out; `None` where all are appended.
    known: Option<Known>,
    batch: Vec<Frame>,
    /// The number of the batch's first line.
    batch_line: u64,
    batch_bytes: usize,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    appended: u64,
    known: u64,
    malformed: u64,
    refused: u64,
}

impl<'a> Appender<'a> {
    fn open(
        folder: &Path,
        limits: Limits,
        word: Durability,
        ack: bool,
        flags: &'a LineFlags,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let store = open(limits.builder(folder)).map_err(Failure::Said)?;
        say_recovered(&store, progress);
        let builder = Bus::builder().name("store").workers(1).pin(false).idle(IdleStrategy::Park);
        let bus = builder.build().map_err(Failure::said)?;
        let publisher = bus.publisher().map_err(Failure::said)?;
        let (known, batch, counts) = Default::default();
        let (batch_line, batch_bytes) = (0, 0);
        Ok(Self { store, word, ack, flags, progress, bus, publisher, known, batch, batch_line, batch_bytes, counts })
    }

    /// Appends all lines of the input, and makes them durable.
    fn run(mut self, input: BufReader<impl Read>, name: &str) -> Result<u8, Failure> {
        let code = self.read(input, name);
        // Also what came before an error is kept.
        let flushed = self.flush();
        let Self { store, progress, counts, bus, publisher, known, .. } = self;
        drop(publisher);
        let stopped = bus.shutdown();
        let closed = store.close();
        progress.end();
        let code = code?;
        flushed?;
        closed.map_err(Failure::said)?;
        stopped.map_err(Failure::said)?;
        let Counts { appended, malformed, refused, .. } = counts;
        let [appended, left_out, malformed, refused] = [appended, counts.known, malformed, refused].map(grouped);
        let left_out = known.map_or(String::new(), |_| format!(" {left_out} were there already,"));
        progress.say(&format!(
            "ringmain: {appended} events appended,{left_out} {malformed} lines malformed, {refused} refused\n"
        ));
        Ok(code)
    }

    fn read(&mut self, input: BufReader<impl Read>, name: &str) -> Result<u8, Failure> {
        let rules = self.flags.rules();
        let mut lines = Lines::new(input, rules.line_bytes_max);
        loop {
            // Whoever writes line by line is answered line by line; what is there already goes together.
            if !lines.has_whole_line() || self.batch.len() == BATCH_EVENTS_MAX || self.batch_bytes > BATCH_BYTES {
                self.flush()?;
            }
            let line = match lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.progress.say(&format!("ringmain: {name} cannot be read: {error}\n"));
                    return Ok(FAILED);
                }
            };
            let number = line.number;
            match line.bytes.and_then(|bytes| ingress::parse(bytes, &rules)) {
                Ok(event) => match passage::to_frame(&mut self.publisher, &event) {
                    Ok(frame) => {
                        if let Some(known) = &mut self.known
                            && !known.add(frame.meta().id())?
                        {
                            self.counts.known += 1;
                            continue;
                        }
                        if self.batch.is_empty() {
                            self.batch_line = number;
                        }
                        self.batch_bytes += frame.bytes().len();
                        self.batch.push(frame);
                    }
                    Err(error) => {
                        self.progress.say(&format!("ringmain: line {number} was refused: {error}\n"));
                        self.counts.refused += 1;
                    }
                },
                Err(error) => {
                    self.progress.say(&format!("ringmain: line {number} is malformed: {error}\n"));
                    self.counts.malformed += 1;
                    if self.flags.strict {
                        return Ok(MALFORMED);
                    }
                }
            }
        }
    }

    /// Appends the batch. A line is shorter than what a store refuses, so none keeps the others out.
    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        self.store.append(&batch, ExpectedVersion::Any, self.word).map_err(|error| {
            let (first, appended) = (self.batch_line, grouped(self.counts.appended));
            Failure::Said(format!(
                "from line {first} on nothing was acknowledged, {appended} events before it were: {error}"
            ))
        })?;
        self.appended(&batch)
    }

    fn appended(&mut self, frames: &[Frame]) -> Result<(), Failure> {
        self.counts.appended += frames.len() as u64;
        for frame in frames {
            self.progress.count();
            if self.ack {
                let meta = frame.meta();
                let id = meta.original_id().map_or_else(|| meta.id().to_string(), str::to_owned);
                // A write each: whoever reads sees whole lines, however this process ends.
                let written = io::stdout().lock().write_all(format!("{id}\n").as_bytes());
                written.map_err(|error| Failure::Said(format!("the id {id} cannot be written to stdout: {error}")))?;
            }
        }
        Ok(())
    }
}
