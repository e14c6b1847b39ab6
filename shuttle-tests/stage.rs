//! What scenarios are made of: a small bus, numbered events, and who saw which.

use std::sync::{Arc, Mutex};

use ringmain::{Bus, BusBuilder, IdleStrategy, Mailbox, Pattern, Payload, PublishError, Publisher, RecvError};
use shuttle::thread::{self, JoinHandle};

/// The topic of most scenarios.
pub const TOPIC: &str = "tea.ready";
/// Longer than what a slot holds, so that it goes into a block.
const LONG: usize = 200;

/// A bus as small as it gets: full after four events, and workers that sleep at once.
pub fn small(workers: usize) -> BusBuilder {
    Bus::builder()
        .workers(workers)
        .pin(false)
        .idle(IdleStrategy::Park)
        .max_queue_size(4)
        .slot_bytes(128)
        .payload_bytes_max(256)
        .blocks([(256, 4)])
        .publishers_max(3)
        .mailbox_capacity(2)
        .types_max(4)
        .sources_max(4)
        .scheduled_max(0)
}

/// The small bus, running.
///
/// # Panics
/// When it does not start.
pub fn bus(workers: usize) -> Bus {
    small(workers).build().expect("a small bus")
}

/// Runs `part` beside the others.
pub fn beside<T: Send + 'static>(part: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(part)
}

/// What the thread returned.
///
/// # Panics
/// When it panicked.
pub fn end<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("its panic was reported")
}

/// Takes every event until the subscription has ended. Their numbers, in order.
///
/// # Panics
/// When an event is not as it was published.
pub fn until_closed(inbox: &mut Mailbox<Pattern>) -> Vec<usize> {
    let mut got = Vec::new();
    loop {
        match inbox.recv() {
            Ok(delivery) => got.push(Numbered::read(delivery.payload()).nth),
            Err(error) => {
                assert_eq!(error, RecvError::Closed);
                return got;
            }
        }
    }
}

/// An event: whose, and his how manieth. Every other one is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbered {
    /// Whose.
    pub publisher: usize,
    /// From 0.
    pub nth: usize,
}

impl Numbered {
    /// What it says.
    pub fn text(self) -> String {
        let Self { publisher, nth } = self;
        let mut text = format!("{publisher} {nth} ");
        if !nth.is_multiple_of(2) {
            text.extend(std::iter::repeat_n('.', LONG));
        }
        text
    }

    /// The event in a payload, which must be as it was published.
    ///
    /// # Panics
    /// When it is not.
    pub fn read(payload: Payload<'_>) -> Self {
        let text = payload.text().unwrap_or_else(|| panic!("no text but {payload:?}"));
        let mut words = text.split(' ').map(str::parse);
        let (Some(Ok(publisher)), Some(Ok(nth))) = (words.next(), words.next()) else { panic!("read {text:?}") };
        let event = Self { publisher, nth };
        assert_eq!(text, event.text(), "torn");
        event
    }

    /// Publishes it, and waits for room in a future.
    ///
    /// # Errors
    /// As [`Publisher::publish_async`].
    pub async fn publish_async(self, publisher: &mut Publisher, topic: &str) -> Result<(), PublishError> {
        publisher.publish_async(topic, Payload::plain_text(&self.text())).await.map(|_| ())
    }

    /// Publishes it.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish(self, publisher: &mut Publisher, topic: &str) -> Result<(), PublishError> {
        publisher.publish(topic, Payload::plain_text(&self.text())).map(|_| ())
    }
}

/// Who saw which events. std's lock, which is never held across a switch.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Numbered>>>);

impl Seen {
    /// Somebody saw `payload`.
    ///
    /// # Panics
    /// When it is not as it was published.
    pub fn note(&self, payload: Payload<'_>) {
        self.add(Numbered::read(payload));
    }

    /// Somebody saw `event`.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub fn add(&self, event: Numbered) {
        self.0.lock().expect("nobody panics while holding it").push(event);
    }

    /// Waits until somebody has seen one, so that what follows comes amid the events: it would nearly always be over before
    /// the first.
    pub fn wait_for_one(&self) {
        while self.all().is_empty() {
            thread::yield_now();
        }
    }

    /// All, in their order.
    ///
    /// # Panics
    /// Never: see [`note`](Self::note).
    pub fn all(&self) -> Vec<Numbered> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }

    /// What came from one publisher.
    pub fn of(&self, publisher: usize) -> Vec<usize> {
        self.all().into_iter().filter(|event| event.publisher == publisher).map(|event| event.nth).collect()
    }
}

/// A flag that orders nothing and switches nowhere: what one thread of a scenario knows for certain.
#[derive(Debug, Clone, Default)]
pub struct Flag(Arc<std::sync::atomic::AtomicUsize>);

impl Flag {
    /// From now on it is `value`.
    pub fn set(&self, value: usize) {
        // Relaxed: all threads of a schedule run on one of the system.
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> usize {
        // Relaxed: as above.
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
