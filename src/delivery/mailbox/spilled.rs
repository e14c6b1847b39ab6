//! A mailbox whose events stay in a store while it is full, and come back.

use crate::event::{CellFrame, Meta};
use crate::ring::{Block, Frame, Keyed, LANES, Rest, Returns, Taken};

use super::super::reliable::meta_of;
use super::super::spill::{Brought, Inbox};
use super::super::{Fed, Intake};
use super::MailboxShared;

/// The worker's end of a mailbox, for what comes back.
struct Back<'a> {
    mailbox: &'a MailboxShared,
    intake: &'a mut Intake,
    keyed: &'a mut Option<Keyed>,
}

impl Inbox for Back<'_> {
    fn used(&self) -> u64 {
        self.mailbox.used()
    }

    fn has_room(&self) -> bool {
        matches!(&*self.intake, Intake::Queue(feeder) if feeder.has_room())
    }

    fn take_back(&mut self, lane: usize, sequence: u64, event: &CellFrame, block: Option<Block>) -> bool {
        let Self { mailbox, intake, keyed } = self;
        let Intake::Queue(feeder) = &mut **intake else { return false };
        let rest = match &block {
            Some(block) => Rest::Block(block, 1),
            None => Rest::Inline(&event.rest),
        };
        let frame = Frame { head: event.header.as_words(), rest };
        let Some(reliable) = &mailbox.reliable else { return feeder.push_frame(lane, sequence, &frame) };
        let Ok(meta) = Meta::new(&event.header, &event.rest, sequence, &mailbox.directory) else { return false };
        let key = reliable.key_of(&meta);
        let mut returns = Returns { feeder, keyed: keyed.as_mut() };
        reliable.attempts.push_frame(&mut returns, lane, sequence, &frame, key)
    }

    fn take_buffered(&mut self, lane: usize, event: &Taken) -> bool {
        let meta = meta_of(event, &self.mailbox.directory, 0);
        self.mailbox.push_into(self.intake, self.keyed.as_mut(), lane, &meta, &event.slot()).is_some()
    }
}

impl MailboxShared {
    /// Cells in use.
    pub(crate) fn used(&self) -> u64 {
        let (waiting, in_hand) = self.load();
        waiting + in_hand
    }

    /// Worker: takes back what was in the store, at most so many events read from there.
    pub(crate) fn bring_back(&self, fed: &mut Fed, max: usize) -> Brought {
        let Fed { intake, keyed, spill: Some(spill), .. } = fed else { return Brought::default() };
        let brought = spill.bring_back(max, &mut Back { mailbox: self, intake, keyed });
        if brought.events > 0 {
            self.notify();
        }
        brought
    }

    /// Whether an event of a lane that has come too late is one that the store brings back, to be given up then. For its worker, who
    /// alone sends events there.
    pub(crate) fn is_spilling(&self, lane: usize) -> bool {
        self.spill.as_ref().is_some_and(|spill| spill.backlog().open(lane) > 0)
    }

    /// Events that are in the store, and not here.
    pub(crate) fn spilled(&self) -> u64 {
        self.spill.as_ref().map_or(0, |spill| spill.backlog().total())
    }

    /// The subscription has ended and its worker left: what is in the store is read by nobody any more.
    pub(crate) fn lose_spilled(&self) {
        if let Some(spill) = &self.spill {
            (0..LANES).for_each(|lane| self.counts.discarded.add(spill.backlog().take(lane)));
        }
    }

    /// Whether no event from before `ends` is in the store. Asked before the cells are.
    pub(super) fn has_come_back(&self, ends: &[u64; LANES]) -> bool {
        self.spill.as_ref().is_none_or(|spill| spill.backlog().has_passed(ends))
    }

    /// Bytes of a spilled event that fit a cell.
    pub(crate) fn cell_rest_bytes(&self) -> usize {
        self.custody.cells().rest_bytes_max()
    }
}
