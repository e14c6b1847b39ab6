//! What a mailbox takes, by what it is to be able to.

use std::sync::Arc;

use crate::delivery::{Intake, Key, Waits};
use crate::metrics::MailboxStages;
use crate::ring::{AttemptWords, Cells, Feeder, Keyed, LatestFeeder};

use super::Shared;

/// What a mailbox is to be able to.
#[derive(Debug)]
pub(super) enum Wish {
    Queue { capacity: usize },
    Reliable { capacity: usize, is_keyed: bool },
    Latest { held_max: usize, key: Option<Key>, keys_max: usize },
}

impl Wish {
    fn is_reliable(&self) -> bool {
        matches!(self, Self::Reliable { .. })
    }

    /// Keys of which an event may wait, where only the newest does.
    fn keys(&self) -> usize {
        match self {
            Self::Latest { key: Some(_), keys_max, .. } => *keys_max,
            Self::Latest { .. } => 1,
            Self::Queue { .. } | Self::Reliable { .. } => 0,
        }
    }

    /// Events it holds, waiting and in hand.
    pub(super) fn cells(&self) -> usize {
        match *self {
            Self::Queue { capacity } | Self::Reliable { capacity, .. } => capacity,
            Self::Latest { held_max, .. } => held_max + self.keys(),
        }
    }

    /// What it reserves.
    pub(super) fn bytes(&self, shared: &Shared) -> u64 {
        let body_bytes = shared.engine.lanes.body_bytes();
        let cells = match *self {
            Self::Queue { capacity } => Cells::bytes_for(capacity, body_bytes),
            Self::Reliable { capacity, is_keyed } => {
                let keyed = if is_keyed { Keyed::bytes_for(capacity) } else { 0 };
                Cells::bytes_for(capacity, body_bytes) + AttemptWords::bytes_for(capacity) + keyed
            }
            Self::Latest { held_max, .. } => LatestFeeder::bytes_for(self.keys(), held_max, body_bytes),
        };
        cells + MailboxStages::bytes_for(self.is_reliable()) as u64
    }
}

/// The memory of a mailbox.
pub(super) struct MailboxMemory {
    pub(super) intake: Intake,
    pub(super) waits: Waits,
    pub(super) cells: Arc<Cells>,
    pub(super) stages: MailboxStages,
    pub(super) words: Option<AttemptWords>,
    pub(super) keyed: Option<Keyed>,
}

/// A buffer for what a mailbox like this may take when it has caught up with what it left in a store; `None` when the system has not
/// so much.
pub(super) fn buffer(shared: &Shared, capacity: usize) -> Option<(Feeder, Arc<Cells>)> {
    let (engine, settings) = (&shared.engine, &shared.settings);
    let (body_bytes, pool) = (engine.lanes.body_bytes(), Arc::clone(&engine.pool));
    Cells::new(capacity, body_bytes, settings.first_sequence, pool, settings.pages).ok()
}

impl MailboxMemory {
    /// `None` when the system has not so much.
    pub(super) fn new(shared: &Shared, wish: &Wish) -> Option<Self> {
        let (engine, settings) = (&shared.engine, &shared.settings);
        let (first, pages) = (settings.first_sequence, settings.pages);
        let (body_bytes, pool) = (engine.lanes.body_bytes(), Arc::clone(&engine.pool));
        let (intake, waits, cells) = match wish {
            Wish::Queue { capacity } | Wish::Reliable { capacity, .. } => {
                let (feeder, cells) = Cells::new(*capacity, body_bytes, first, pool, pages).ok()?;
                (Intake::Queue(feeder), Waits::All, cells)
            }
            Wish::Latest { held_max, key, .. } => {
                let made = LatestFeeder::new(wish.keys(), *held_max, body_bytes, first, pool, pages);
                let (feeder, cells) = made.ok()?;
                let waits = if key.is_some() { Waits::NewestOfEach } else { Waits::Newest };
                (Intake::Latest(feeder, key.clone().unwrap_or(Key::Subscription)), waits, cells)
            }
        };
        let (words, keyed) = match *wish {
            Wish::Reliable { capacity, is_keyed } => {
                (Some(AttemptWords::new(capacity).ok()?), is_keyed.then(|| Keyed::new(capacity)).transpose().ok()?)
            }
            Wish::Queue { .. } | Wish::Latest { .. } => (None, None),
        };
        Some(Self { intake, waits, cells, stages: MailboxStages::try_new(wish.is_reliable())?, words, keyed })
    }
}
