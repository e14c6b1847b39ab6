//! What `build` reserves: planned, asked for, and touched on the workers' cores where that was wished.

use std::io;
use std::sync::Arc;

use crate::metrics::{MailboxStages, Recorder};
use crate::ring::{LANES, Lanes, LanesLayout, OutOfMemory, Pages, Piece, Pool, PoolClass, Wants, probe};
use crate::worker::{on_worker_cores, schedule_bytes};

use super::BuildFault;
use super::memory::{histograms_bytes, places_bytes, publishers_bytes};

/// A part of the memory that `build` reserves.
struct Part {
    name: &'static str,
    bytes: u64,
    /// The settings that make it smaller.
    settings: &'static str,
}

/// All that `build` reserves, but for rounding.
pub(super) struct Plan([Part; 6]);

impl Plan {
    pub(super) fn new(
        lanes: &LanesLayout,
        blocks: &[PoolClass],
        publishers: usize,
        types_max: usize,
        sources_max: usize,
        scheduled_max: usize,
    ) -> Self {
        let slots = (LANES as u64).saturating_mul(lanes.slots as u64);
        let part = |name, bytes, settings| Part { name, bytes, settings };
        let blocks = blocks.iter().fold(0_u64, |sum, &size| sum.saturating_add(Pool::class_bytes(size)));
        let wants = (types_max as u64 + 2) * size_of::<u64>() as u64;
        Self([
            part("lanes", slots.saturating_mul(lanes.slot_bytes as u64), "max_queue_size or slot_bytes"),
            part("blocks", blocks, "the number or size of blocks"),
            part("histograms", histograms_bytes(lanes.workers) as u64, "workers"),
            part("routing", wants + places_bytes(types_max, sources_max) as u64, "types_max or sources_max"),
            part("scheduled events", schedule_bytes(scheduled_max) as u64, "scheduled_max"),
            part("publishers", publishers_bytes(publishers) as u64, "publishers_max"),
        ])
    }

    fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Bytes of what is made by code that aborts where there is no memory.
    pub(super) fn unfailing_bytes(&self) -> usize {
        let [_, _, _, routing, schedule, publishers] = &self.0;
        usize::try_from(routing.bytes + schedule.bytes + publishers.bytes).unwrap_or(usize::MAX)
    }

    /// There is not so much.
    pub(super) fn fault(&self) -> BuildFault {
        let part = self.0.iter().max_by_key(|part| part.bytes).expect("there are parts");
        BuildFault::Memory { bytes: self.bytes(), part: part.name, part_bytes: part.bytes, settings: part.settings }
    }
}

/// The memory of a bus that nobody shares yet.
pub(super) struct Reserved {
    /// And the blocks.
    pub(super) lanes: Lanes,
    pub(super) recorders: Box<[Recorder]>,
    pub(super) ended_stages: MailboxStages,
    pub(super) wants: Wants,
}

impl Reserved {
    /// # Errors
    /// When the system has not so much.
    pub(super) fn new(
        layout: &LanesLayout,
        blocks: &[PoolClass],
        block_pages: Pages,
        types_max: usize,
        plan: &Plan,
    ) -> Result<Self, OutOfMemory> {
        let short = OutOfMemory { bytes: histograms_bytes(layout.workers) };
        // The largest first: what there is no room for is refused before much is written.
        let pool = Arc::new(Pool::new(blocks, block_pages)?);
        let lanes = Lanes::new(*layout, pool)?;
        let recorders = (0..layout.workers).map(|_| Recorder::try_new()).collect::<Option<_>>().ok_or(short)?;
        let ended_stages = MailboxStages::try_new(true).ok_or(short)?;
        probe(plan.unfailing_bytes())?;
        Ok(Self { lanes, recorders, ended_stages, wants: Wants::new(types_max)? })
    }

    /// Makes lanes, blocks and histograms resident, on threads that are pinned as the workers will be.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn touch(&mut self, is_pinned: bool) -> io::Result<()> {
        let mut shares: Vec<Vec<Piece<'_>>> = self.recorders.iter().map(|_| Vec::new()).collect();
        let workers = shares.len();
        for (nth, piece) in self.lanes.pieces().enumerate() {
            shares[nth % workers].push(piece);
        }
        let touch = |(mut share, recorder): (Vec<Piece<'_>>, &Recorder)| {
            share.iter_mut().for_each(Piece::touch);
            recorder.touch();
        };
        let shares = shares.into_iter().zip(&self.recorders);
        on_worker_cores(shares.map(|share| move || touch(share)).collect(), is_pinned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_is_what_is_reserved() {
        let layout = LanesLayout { slots: 1_024, slot_bytes: 256, limit: 900, workers: 3, first: 0, pages: Pages::Any };
        let blocks = [PoolClass { block_bytes: 100, blocks: 5_000 }, PoolClass { block_bytes: 70_000, blocks: 9 }];
        for scheduled_max in [0, 1_000] {
            let plan = Plan::new(&layout, &blocks, 5, 100_000, 10, scheduled_max);
            let reserved = Reserved::new(&layout, &blocks, Pages::Any, 100_000, &plan).expect("there is so much");
            let rest = plan.unfailing_bytes() - reserved.wants.reserved_bytes();
            assert!(rest >= schedule_bytes(scheduled_max) && rest < 1 << 20, "{rest}");
            let found = reserved.lanes.reserved_bytes()
                + reserved.lanes.pool().reserved_bytes()
                + histograms_bytes(reserved.recorders.len())
                + reserved.wants.reserved_bytes()
                + rest;
            let planned = plan.bytes() as usize;
            assert!(planned <= found && found - planned < 3 * 4_096 + 64, "{planned} planned, {found} reserved");
        }
    }
}
