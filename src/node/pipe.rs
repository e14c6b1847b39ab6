//! The job `ringmain pipe`: lines in, through a bus, lines out, and the account of it.
//!
//! ```text
//! main thread                      workers              a thread a subscription
//! stdin ─► parse ─► publish, waits ───────► mailbox, blocks ───────► lines ─► stdout
//! ```
//!
//! Nothing is dropped: a writer that waits for stdout fills its mailbox, that stops its worker at the lane,
//! the lane fills, and reading waits. Each writer hands whole lines to stdout, so lines of different
//! subscriptions never mix, and those of one stay in order.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, ErrorKind, Write};
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::utils::Backoff;

use super::args::{Pipe, SummaryForm};
use super::dlq;
use super::ingress::{self, Rules};
use super::lines::Lines;
use super::passage::{self, LastHop};
use super::progress::Progress;
use super::store;
use super::summary::{Latencies, Quantiles, Summary};
use crate::store::{DeadLetterQueue, LogStore, LogStoreBuilder};
use crate::{Bus, Delivery, LatencySummary, Mailbox, Meta, Notice, Overflow, Pattern, Publisher, TryRecvError};

const STDIN_BUFFER_BYTES: usize = 128 << 10;
/// Lines go to stdout in pieces of about this size, or when no event is ready.
const STDOUT_PIECE_BYTES: usize = 64 << 10;
/// Events of one priority that a writer may be behind before its worker waits.
const MAILBOX_EVENTS: usize = 1_024;

/// Exit code for input that could not be read and output that could not be written.
const IO_ERROR: u8 = 1;
/// Exit code for a malformed line under `--strict`.
const MALFORMED: u8 = 2;

/// Runs the job from stdin to stdout and returns its exit code. Where nobody reads stdout any more, or it
/// cannot be written, the process ends without return.
pub fn run(flags: &Pipe) -> ExitCode {
    let progress = Progress::new(!flags.quiet);
    let result = job(flags, &progress);
    progress.end();
    match result {
        Ok((summary, code)) => {
            match flags.summary {
                SummaryForm::Json => progress.say(&summary.to_json_line()),
                SummaryForm::Table => progress.say(&table(&summary)),
            }
            code.into()
        }
        Err(error) => {
            progress.say(&format!("ringmain: {error}\n"));
            IO_ERROR.into()
        }
    }
}

fn job(flags: &Pipe, progress: &Progress) -> Result<(Summary, u8), Box<dyn Error>> {
    let kept = flags.data.as_deref().map(|folder| Kept::open(flags.limits.builder(folder), progress)).transpose()?;
    let bus = bus(flags, kept.as_ref().map(|kept| &kept.letters), progress)?;
    let journal = kept.as_ref().map(|kept| bus.journal(kept.store.clone()).start()).transpose()?;
    let mut writers = Vec::new();
    for (nth, pattern) in flags.on.iter().enumerate() {
        let wish = bus.subscribe(pattern.clone()).capacity(MAILBOX_EVENTS).overflow(Overflow::Block);
        let mailbox = wish.mode(flags.mode.into()).mailbox()?;
        let failures = Failures { rate: flags.fail_rate, seed: flags.seed, subscription: nth };
        let writer = Writer::new(mailbox, pattern, failures, flags, progress.clone());
        writers.push(thread::spawn(move || writer.run()));
    }
    let mut publisher = bus.publisher()?;
    let read = publish_lines(&mut publisher, &flags.lines.rules(), flags.lines.strict, progress);
    drop(publisher);
    bus.flush_deadline(Duration::MAX)?;
    let elapsed = read.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
    let report = bus.shutdown()?;
    if let Some(journal) = journal {
        journal.close()?;
    }
    // The mailboxes hold latencies, which the summary below asks for.
    let mailboxes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
    let failed = mailboxes.iter().any(Result::is_err);
    let summary = summary(&bus, read.malformed, report.ledger_balanced, elapsed);
    drop((bus, mailboxes));
    if let Some(kept) = kept {
        kept.close()?;
    }
    Ok((summary, if failed { IO_ERROR } else { read.code }))
}

/// What passes, and what is given up, kept; durable when the store is closed.
struct Kept {
    store: Arc<LogStore>,
    letters: DeadLetterQueue,
}

impl Kept {
    fn open(builder: LogStoreBuilder, progress: &Progress) -> Result<Self, Box<dyn Error>> {
        let store = Arc::new(store::open(builder)?);
        store::say_recovered(&store, progress);
        let letters = DeadLetterQueue::open(dlq::QUEUE, store.clone())?;
        Ok(Self { store, letters })
    }

    fn close(self) -> Result<(), Box<dyn Error>> {
        let Self { store, letters } = self;
        let (lost, error) = (letters.counts().lost, letters.last_error());
        drop(letters);
        Arc::into_inner(store).expect("the journal, the bus and its mailboxes are gone").close()?;
        match error {
            Some(error) if lost > 0 => Err(format!("{lost} dead letters were not kept: {error}").into()),
            _ => Ok(()),
        }
    }
}

fn bus(flags: &Pipe, letters: Option<&DeadLetterQueue>, progress: &Progress) -> Result<Bus, Box<dyn Error>> {
    let capacity = flags.capacity as usize;
    // Reader and writers need the cores as well, so workers are not pinned to them.
    let builder = Bus::builder()
        .name("pipe")
        .idle(flags.idle)
        .max_queue_size(capacity)
        .batch_max(1)
        .pin(false)
        .single_publisher()
        .observer({
            let progress = progress.clone();
            // Events would wait for the store for ever, and reading for them.
            move |notice: &Notice<'_>| {
                if let Notice::StorageFailed { error, .. } = notice {
                    progress.end();
                    progress.say(&format!("ringmain: the store failed: {error}\n"));
                    exit(IO_ERROR.into());
                }
            }
        });
    // The store has them, so the bus keeps none.
    let builder = match letters {
        Some(letters) => builder.dead_letters_max(0).dead_letter_sink(letters.clone()),
        None => builder,
    };
    let builder = match flags.workers {
        Some(workers) => builder.workers(workers.into()),
        None => builder,
    };
    Ok(builder.build()?)
}

/// What became of stdin.
#[derive(Debug, Default)]
struct Read {
    malformed: u64,
    /// When the first line was there.
    begun: Option<Instant>,
    code: u8,
}

/// Publishes every line of stdin, until its end or what ends the job before.
fn publish_lines(publisher: &mut Publisher, rules: &Rules, strict: bool, progress: &Progress) -> Read {
    let stdin = BufReader::with_capacity(STDIN_BUFFER_BYTES, io::stdin().lock());
    let mut lines = Lines::new(stdin, rules.line_bytes_max);
    let mut read = Read::default();
    loop {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return read,
            Err(error) => {
                progress.say(&format!("ringmain: stdin cannot be read: {error}\n"));
                return Read { code: IO_ERROR, ..read };
            }
        };
        read.begun.get_or_insert_with(Instant::now);
        let number = line.number;
        match line.bytes.and_then(|bytes| ingress::parse(bytes, rules)) {
            Ok(event) => match passage::publish(publisher, &event) {
                Ok(_) => progress.count(),
                Err(error) => progress.say(&format!("ringmain: line {number} was refused: {error}\n")),
            },
            Err(error) => {
                progress.say(&format!("ringmain: line {number} is malformed: {error}\n"));
                read.malformed += 1;
                if strict {
                    return Read { code: MALFORMED, ..read };
                }
            }
        }
    }
}

/// Takes the deliveries of one subscription and writes their lines.
struct Writer {
    mailbox: Mailbox<Pattern>,
    pattern: Pattern,
    failures: Failures,
    quiet: bool,
    /// A store has what passes, whether anybody reads it or not.
    is_kept: bool,
    progress: Progress,
    lines: Vec<u8>,
}

/// Attempts that are made to fail.
struct Failures {
    rate: f64,
    seed: u64,
    /// Its number, so that two subscriptions do not fail at the same events.
    subscription: usize,
}

impl Failures {
    /// Whether this attempt fails. Drawn for each on its own, so that it does not matter in what order they come.
    fn hits(&self, meta: &Meta<'_>) -> bool {
        if self.rate <= 0.0 {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, self.subscription, meta.priority(), meta.sequence(), meta.attempt()).hash(&mut hasher);
        // 53 bits make a fraction of 0 to 1, without 1.
        ((hasher.finish() >> 11) as f64) < self.rate * (1_u64 << 53) as f64
    }
}

impl Writer {
    fn new(mailbox: Mailbox<Pattern>, pattern: &Pattern, failures: Failures, flags: &Pipe, progress: Progress) -> Self {
        let (quiet, is_kept) = (flags.quiet, flags.data.is_some());
        Self { mailbox, pattern: pattern.clone(), failures, quiet, is_kept, progress, lines: Vec::new() }
    }

    /// Works until the subscription ends, and gives its mailbox back.
    fn run(mut self) -> Mailbox<Pattern> {
        loop {
            match self.next() {
                Ok(delivery) => self.take(delivery),
                Err(TryRecvError::Empty) => {
                    self.write();
                    if let Ok(delivery) = self.mailbox.recv() {
                        self.take(delivery);
                    }
                }
                Err(TryRecvError::Closed) => {
                    self.write();
                    return self.mailbox;
                }
            }
        }
    }

    /// The next delivery, if there is one now or in a moment: to be woken for each costs more than to look again.
    fn next(&mut self) -> Result<Delivery<Pattern>, TryRecvError> {
        let backoff = Backoff::new();
        loop {
            match self.mailbox.try_recv() {
                Err(TryRecvError::Empty) if !backoff.is_completed() => backoff.snooze(),
                result => return result,
            }
        }
    }

    fn take(&mut self, delivery: Delivery<Pattern>) {
        if self.failures.hits(&delivery.meta()) {
            delivery.fail("--fail-rate hit it");
            return;
        }
        if !self.quiet {
            passage::write_line(&delivery.meta(), LastHop::Subscription(self.pattern.as_str()), &mut self.lines);
            if self.lines.len() >= STDOUT_PIECE_BYTES {
                self.write();
            }
        }
        delivery.ack();
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = io::stdout().lock().write_all(&self.lines);
        self.lines.clear();
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    /// Ends the process, as the main thread may wait for a line of stdin that never comes. That nobody reads any
    /// more is how a pipeline ends, and no error; where a store keeps what passes, it goes on without being read.
    fn give_up(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::BrokenPipe && self.is_kept {
            self.quiet = true;
            return;
        }
        self.progress.end();
        if error.kind() == ErrorKind::BrokenPipe {
            exit(0);
        }
        self.progress.say(&format!("ringmain: stdout cannot be written: {error}\n"));
        exit(IO_ERROR.into());
    }
}

fn summary(bus: &Bus, malformed: u64, ledger_balanced: bool, elapsed: Duration) -> Summary {
    let metrics = bus.metrics();
    let ledger = metrics.ledger;
    let deliveries = ledger.subscriptions;
    let of_lane = |lane: usize| metrics.lanes.get(lane).map(|lane| quantiles(&lane.latency.total)).unwrap_or_default();
    Summary {
        published: ledger.accepted,
        malformed,
        refused: metrics.refused.total(),
        unmatched: ledger.unmatched,
        delivered: deliveries.delivered,
        failed: deliveries.failed,
        retried: deliveries.retried,
        dead_lettered: deliveries.dead_lettered,
        dropped: deliveries.dropped.total(),
        in_flight: ledger.in_lanes + deliveries.open(),
        ledger_balanced: ledger_balanced && ledger.is_balanced(),
        events_per_second: ledger.accepted as f64 / elapsed.as_secs_f64().max(1e-9),
        latency_ns: Latencies {
            critical: of_lane(0),
            high: of_lane(1),
            normal: of_lane(2),
            low: of_lane(3),
            all: quantiles(&metrics.delivery_latency.total),
        },
    }
}

fn quantiles(latency: &LatencySummary) -> Quantiles {
    let &LatencySummary { p50_ns: p50, p95_ns: p95, p99_ns: p99, p999_ns: p999, max_ns: max, .. } = latency;
    Quantiles { p50, p95, p99, p999, max }
}

fn table(summary: &Summary) -> String {
    let mut table = Vec::new();
    summary.write_table(&mut table).expect("a Vec takes every write");
    String::from_utf8(table).expect("the table is text")
}
