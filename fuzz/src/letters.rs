//! Dead letters: kept within limits in number, bytes and time, listed, purged and sent back, as plain lists would.
//!
//! A bus without threads is driven through its public API, one for each case, for its limits are its own. The oracle looks at the
//! letters after each operation, as this does, so that none is between two places.

use std::time::{Duration, SystemTime};

use arbitrary::{Arbitrary, Unstructured};
use ringmain::testing::Simulation;
use ringmain::{
    Bus, DeadLetterCounts, DeadLetterFilter, DeadReason, DeliveryMode, Mailbox, Pattern, Payload, Publisher,
    RedriveError, RetryPolicy,
};

const TOPICS: [&str; 3] = ["a.x", "a.y", "b.x"];
/// Patterns, and which topics each means.
const PATTERNS: [(&str, [bool; 3]); 4] =
    [("a.*", [true, true, false]), ("**.x", [true, false, true]), ("b.x", [false, false, true]), ("c", [false; 3])];
const REASONS: [DeadReason; 2] = [DeadReason::Rejected, DeadReason::AttemptsExhausted];
const OPERATIONS_MAX: usize = 60;
const PAYLOAD_MAX: usize = 400;
/// Letters are meant by how many came since.
const BACK_MAX: u8 = 12;
/// What the clock of a simulation says at first.
const NEW_YEAR_2026: Duration = Duration::from_nanos(1_767_225_600_000_000_001);
const NO: &str = "no";

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Wish {
    topics: Option<u8>,
    reason: Option<u8>,
    died_from_ms: Option<u8>,
    died_before_ms: Option<u8>,
    newest_first: bool,
    after: Option<u8>,
    limit: Option<u8>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Operation {
    /// Brings up to four.
    Put {
        times: u8,
        bytes: u16,
        topic: u8,
        reason: u8,
    },
    List(Wish),
    /// The letter that was brought so many before the last.
    Get(u8),
    Purge(Wish),
    /// As `Get`; the event is acknowledged then, or dies again.
    Redrive {
        back: u8,
        is_well: bool,
    },
    Advance {
        ms: u8,
    },
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    events: usize,
    bytes: usize,
    expiry_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    payload: usize,
    bytes: usize,
    died_ms: u64,
    topic: usize,
    reason: usize,
}

impl Entry {
    fn is_meant(&self, wish: &Wish) -> bool {
        wish.topics.is_none_or(|at| PATTERNS[usize::from(at) % PATTERNS.len()].1[self.topic])
            && wish.reason.is_none_or(|at| self.reason == usize::from(at) % REASONS.len())
            && wish.died_from_ms.is_none_or(|ms| self.died_ms >= u64::from(ms))
            && wish.died_before_ms.is_none_or(|ms| self.died_ms < u64::from(ms))
            && wish.after.is_none_or(|id| match wish.newest_first {
                true => self.id < u64::from(id),
                false => self.id > u64::from(id),
            })
    }
}

/// Runs the operations that `data` says, and compares after each.
///
/// # Panics
///
/// If the bus and the lists disagree.
pub fn check(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Too few bytes for a case are no case.
    let Ok(mut case) = Case::draw(&mut bytes) else { return };
    for _ in 0..OPERATIONS_MAX {
        if bytes.is_empty() {
            break;
        }
        let Ok(operation) = Operation::arbitrary(&mut bytes) else { break };
        case.apply(operation);
    }
}

struct Case {
    simulation: Simulation,
    publisher: Publisher,
    inbox: Mailbox<Pattern>,
    /// What a letter takes besides its payload.
    own_bytes: usize,
    // The model: letters in the order of their ids.
    limits: Limits,
    kept: Vec<Entry>,
    now_ms: u64,
    counts: DeadLetterCounts,
}

/// A bus of these limits, and who rejects its events.
fn bus(limits: Limits) -> (Simulation, Publisher, Mailbox<Pattern>) {
    let builder = Bus::builder().workers(1).max_queue_size(8).slot_bytes(128).payload_bytes_max(PAYLOAD_MAX);
    let builder = builder.blocks([(512, 8)]).publishers_max(2).types_max(8).sources_max(4).scheduled_max(0);
    let mut builder = builder.dead_letters_max(limits.events).dead_letter_bytes_max(limits.bytes);
    if let Some(ms) = limits.expiry_ms {
        builder = builder.dead_letter_expiry(Duration::from_millis(ms));
    }
    let simulation = Simulation::new(builder, 1).expect("the settings are valid");
    let publisher = simulation.bus().publisher().expect("there is a place");
    let day = DeliveryMode::Reliable { timeout: Duration::from_secs(24 * 3_600) };
    let wish = simulation.bus().subscribe("**").named("letters").mode(day).capacity(4);
    let inbox = wish.retry(RetryPolicy::default().attempts_max(1)).mailbox().expect("the bus runs");
    (simulation, publisher, inbox)
}

impl Case {
    fn draw(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let limits = Limits {
            events: bytes.int_in_range(0..=8)?,
            bytes: bytes.int_in_range(1_024..=6_000)?,
            expiry_ms: Option::<u8>::arbitrary(bytes)?.map(|ms| 1 + u64::from(ms) % 20),
        };
        let (simulation, publisher, inbox) = bus(limits);
        // Its name, what is said of it, and the letter itself.
        let own_bytes = size_of::<ringmain::DeadLetter>() + "letters".len() + NO.len();
        let (kept, counts) = (Vec::new(), DeadLetterCounts::default());
        Ok(Self { simulation, publisher, inbox, own_bytes, limits, kept, now_ms: 0, counts })
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put { times, bytes, topic, reason } => {
                let payload = vec![b'x'; usize::from(bytes) % (PAYLOAD_MAX + 1)];
                let (topic, reason) = (usize::from(topic) % TOPICS.len(), usize::from(reason) % REASONS.len());
                for _ in 0..1 + times % 4 {
                    self.publisher.publish(TOPICS[topic], Payload::raw(&payload)).expect("there is room");
                    self.simulation.run();
                    self.dies(payload.len(), topic, reason);
                    self.compare();
                }
            }
            Operation::List(wish) => {
                let listed = self.simulation.bus().dead_letters().list(&filter(&wish));
                assert_eq!(listed.iter().map(|letter| letter.id()).collect::<Vec<_>>(), self.select(&wish));
            }
            Operation::Get(back) => {
                let id = self.counts.total.wrapping_sub(u64::from(back % BACK_MAX));
                let found = self.simulation.bus().dead_letters().get(id);
                let entry = self.kept.iter().find(|entry| entry.id == id);
                assert_eq!(found.is_some(), entry.is_some());
                if let (Some(letter), Some(entry)) = (found, entry) {
                    let of_letter = (letter.id(), letter.bytes(), letter.reason(), letter.error());
                    assert_eq!(of_letter, (entry.id, entry.bytes, REASONS[entry.reason], Some(NO)));
                    assert_eq!(letter.meta().topic(), TOPICS[entry.topic]);
                    assert_eq!(letter.meta().payload().bytes().len(), entry.payload);
                }
            }
            Operation::Purge(wish) => {
                let purged = self.select(&wish);
                assert_eq!(self.simulation.bus().dead_letters().purge(&filter(&wish)), purged.len());
                self.kept.retain(|entry| !purged.contains(&entry.id));
                self.counts.purged += purged.len() as u64;
            }
            Operation::Redrive { back, is_well } => self.redrive(u64::from(back % BACK_MAX), is_well),
            Operation::Advance { ms } => {
                self.simulation.advance(Duration::from_millis(u64::from(ms % 16)));
                self.now_ms += u64::from(ms % 16);
            }
        }
        self.compare();
    }

    fn redrive(&mut self, back: u64, is_well: bool) {
        let id = self.counts.total.wrapping_sub(back);
        let result = self.simulation.bus().dead_letters().redrive(id);
        let Some(at) = self.kept.iter().position(|entry| entry.id == id) else {
            return assert_eq!(result, Err(RedriveError::NotFound { id }));
        };
        assert_eq!(result, Ok(()));
        let entry = self.kept.remove(at);
        self.simulation.run();
        self.counts.redriven += 1;
        if is_well {
            self.inbox.try_recv().expect("it has come back").ack();
        } else {
            self.dies(entry.payload, entry.topic, entry.reason);
        }
    }

    /// The next event of the mailbox is given up.
    fn dies(&mut self, payload: usize, topic: usize, reason: usize) {
        let delivery = self.inbox.try_recv().expect("it has come");
        assert_eq!(delivery.meta().topic(), TOPICS[topic]);
        match REASONS[reason] {
            DeadReason::Rejected => delivery.reject(NO),
            _ => delivery.fail(NO),
        };
        self.counts.total += 1;
        let bytes = self.own_bytes + payload;
        if self.limits.events == 0 || bytes > self.limits.bytes {
            self.counts.discarded += 1;
            return;
        }
        self.expire();
        let (id, died_ms) = (self.counts.total, self.now_ms);
        self.kept.push(Entry { id, payload, bytes, died_ms, topic, reason });
        while self.kept.len() > self.limits.events || self.bytes() > self.limits.bytes {
            self.kept.remove(0);
            self.counts.discarded += 1;
        }
    }

    fn expire(&mut self) {
        let (before, now_ms) = (self.kept.len(), self.now_ms);
        self.kept.retain(|entry| self.limits.expiry_ms.is_none_or(|ms| now_ms - entry.died_ms < ms));
        self.counts.expired += (before - self.kept.len()) as u64;
    }

    fn bytes(&self) -> usize {
        self.kept.iter().map(|entry| entry.bytes).sum()
    }

    fn select(&self, wish: &Wish) -> Vec<u64> {
        let mut meant: Vec<_> = self.kept.iter().filter(|entry| entry.is_meant(wish)).map(|entry| entry.id).collect();
        if wish.newest_first {
            meant.reverse();
        }
        meant.truncate(wish.limit.map_or(usize::MAX, |limit| usize::from(limit % 4)));
        meant
    }

    /// The counts, and with them what is kept.
    fn compare(&mut self) {
        self.expire();
        (self.counts.held, self.counts.bytes) = (self.kept.len() as u64, self.bytes() as u64);
        assert_eq!(self.simulation.bus().dead_letters().counts(), self.counts);
        assert!(self.counts.is_balanced());
    }
}

fn filter(wish: &Wish) -> DeadLetterFilter {
    let time = |ms: u8| SystemTime::UNIX_EPOCH + NEW_YEAR_2026 + Duration::from_millis(u64::from(ms));
    let mut filter = DeadLetterFilter::new();
    if let Some(at) = wish.topics {
        let (pattern, _) = PATTERNS[usize::from(at) % PATTERNS.len()];
        filter = filter.topic(Pattern::new(pattern).expect("a pattern"));
    }
    if let Some(at) = wish.reason {
        filter = filter.reason(REASONS[usize::from(at) % REASONS.len()]);
    }
    if let Some(ms) = wish.died_from_ms {
        filter = filter.died_from(time(ms));
    }
    if let Some(ms) = wish.died_before_ms {
        filter = filter.died_before(time(ms));
    }
    if let Some(id) = wish.after {
        filter = filter.after(u64::from(id));
    }
    if let Some(limit) = wish.limit {
        filter = filter.limit(usize::from(limit % 4));
    }
    if wish.newest_first { filter.newest_first() } else { filter }
}
