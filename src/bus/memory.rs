//! What a bus has reserved, part by part.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::delivery::{Route, Sink, SubscriptionState};
use crate::event::Directory;
use crate::metrics::{MailboxStages, Recorder};
use crate::ring::HugePages;
use crate::worker::{PublisherSlot, schedule_bytes};

use super::{Bus, Control, Publisher, Shared};

/// Memory of a bus, in bytes. Reserved, not resident: a page becomes resident when it is first written, unless the bus
/// was built with [`prefault`](super::BusBuilder::prefault).
///
/// What the bus does not reserve is not in here: the stacks of threads, handlers and what they own, what a publisher
/// keeps of its own (a slot and its topics, some KiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The slots of all lanes.
    pub lanes_bytes: usize,
    /// The blocks for payloads that do not fit a slot.
    pub blocks_bytes: usize,
    /// Mailboxes: cells, their queues and histograms. Those too that have ended and are not empty yet.
    pub mailboxes_bytes: usize,
    /// Histograms of the workers, and one for mailboxes that are gone.
    pub histograms_bytes: usize,
    /// Names, routing tables, rate limits and subscriptions. Grows with the topics and sources that are met.
    pub routing_bytes: usize,
    /// Places for scheduled events.
    pub schedule_bytes: usize,
    /// Places for publishers.
    pub publishers_bytes: usize,
    /// Dead letters that are held, and the queue they come by. At most
    /// [`dead_letter_bytes_max`](super::BusBuilder::dead_letter_bytes_max) when they are sorted in, twice that before.
    pub dead_letters_bytes: usize,
    /// Whether the lanes lie in huge pages.
    pub huge_pages: HugePages,
}

impl Memory {
    /// All parts together: [`Metrics::memory_reserved_bytes`](super::Metrics::memory_reserved_bytes).
    pub fn reserved_bytes(&self) -> usize {
        self.lanes_bytes
            + self.blocks_bytes
            + self.mailboxes_bytes
            + self.histograms_bytes
            + self.routing_bytes
            + self.schedule_bytes
            + self.publishers_bytes
            + self.dead_letters_bytes
    }
}

impl fmt::Display for Memory {
    /// One line, in KiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        write!(
            f,
            "{} KiB reserved: lanes {}, blocks {}, mailboxes {}, histograms {}, routing {}, schedule {}, publishers {}, dead letters {}; huge pages {}",
            kib(self.reserved_bytes()),
            kib(self.lanes_bytes),
            kib(self.blocks_bytes),
            kib(self.mailboxes_bytes),
            kib(self.histograms_bytes),
            kib(self.routing_bytes),
            kib(self.schedule_bytes),
            kib(self.publishers_bytes),
            kib(self.dead_letters_bytes),
            self.huge_pages,
        )
    }
}

impl Bus {
    /// What it has reserved, part by part. Control plane: looks at every topic and subscription.
    pub fn memory(&self) -> Memory {
        self.shared().memory(&self.shared().control())
    }
}

pub(super) fn histograms_bytes(workers: usize) -> usize {
    workers * Recorder::BYTES + MailboxStages::bytes_for(true)
}

/// Places of publishers, and the queue of those that [`Bus::publish`] lends out.
pub(super) fn publishers_bytes(publishers: usize) -> usize {
    publishers
        * (align_of::<PublisherSlot>()
            + size_of::<PublisherSlot>()
            + size_of::<usize>()
            + size_of::<(usize, Publisher)>())
}

/// Names come in runs of so many, and so do routes.
const NAMES_RUN: usize = 256;
const ROUTES_RUN: usize = 64;
/// Two counts in front of what an `Arc` holds.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// The lists of runs of names.
pub(super) fn places_bytes(types_max: usize, sources_max: usize) -> usize {
    let runs = (types_max + 1).div_ceil(NAMES_RUN) + (sources_max + 1).div_ceil(NAMES_RUN);
    runs * size_of::<OnceLock<Box<[OnceLock<Arc<str>>]>>>()
}

/// What `names` take: their texts, the runs they lie in, and the map that finds them.
fn names_bytes<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    let (count, text_bytes) = names.fold((0, 0), |(count, bytes), name| {
        (count + 1, bytes + (ARC_BYTES + name.len()).next_multiple_of(size_of::<usize>()))
    });
    if count == 0 {
        return 0;
    }
    let runs = (count / NAMES_RUN + 1) * NAMES_RUN * size_of::<OnceLock<Arc<str>>>();
    // A hash map keeps an eighth of its places free, and a byte beside each.
    let places = (count * 8 / 7).next_power_of_two().max(4);
    text_bytes + runs + places * (size_of::<(Arc<str>, u32)>() + 1)
}

impl Shared {
    pub(super) fn memory(&self, control: &Control) -> Memory {
        let engine = &self.engine;
        let alive = || control.subscriptions().chain(control.ending());
        let mailboxes = alive().map(|subscription| {
            let mailbox = match &subscription.sink {
                Sink::Mailbox(mailbox, _) => mailbox.reserved_bytes(),
                Sink::Inline(_) => 0,
            };
            mailbox + subscription.dedup_bytes
        });
        Memory {
            lanes_bytes: engine.lanes.reserved_bytes(),
            blocks_bytes: engine.pool.reserved_bytes(),
            mailboxes_bytes: mailboxes.sum(),
            histograms_bytes: histograms_bytes(engine.workers()),
            routing_bytes: engine.wants.reserved_bytes()
                + self.names_bytes(&engine.directory)
                + self.tables_bytes(control)
                + self.limits.bytes()
                + alive().map(|subscription| subscription_bytes(subscription)).sum::<usize>(),
            schedule_bytes: schedule_bytes(engine.schedule.max() as usize),
            publishers_bytes: publishers_bytes(self.settings.publishers_max),
            dead_letters_bytes: engine.dead_letters.held_bytes(),
            huge_pages: engine.lanes.huge_pages(),
        }
    }

    fn names_bytes(&self, directory: &Directory) -> usize {
        let types = (1..).map_while(|id| directory.type_name(id));
        let sources = (1..).map_while(|id| directory.source_name(id));
        places_bytes(self.settings.types_max, self.settings.sources_max) + names_bytes(types) + names_bytes(sources)
    }

    /// Routes of all workers. A worker shares its runs with the control plane.
    fn tables_bytes(&self, control: &Control) -> usize {
        let ids = 0..self.engine.directory.types_known() as u32 + 1;
        let runs = (ids.end as usize).div_ceil(ROUTES_RUN) * self.engine.workers();
        let run_bytes = ARC_BYTES + ROUTES_RUN * size_of::<Option<Arc<Route>>>();
        let routes = ids.flat_map(|id| control.routes(id));
        runs * run_bytes
            + routes.map(|route| ARC_BYTES + size_of::<Route>() + size_of_val(route.targets())).sum::<usize>()
    }
}

/// A subscription without its handler and mailbox.
fn subscription_bytes(subscription: &SubscriptionState) -> usize {
    let texts = subscription.name.len() + subscription.pattern.as_str().len();
    ARC_BYTES + size_of::<SubscriptionState>() + texts
}
