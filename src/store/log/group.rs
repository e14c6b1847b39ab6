//! Batches that are written together: each is let in or refused when its turn has come, and told what came of it.

use super::batch::Batch;
use super::commit::Word;
use super::error::{AppendError, CommitError};
use super::gate::{Gate, Placed};
use super::log::Log;
use super::ticket::Ticket;

/// A batch that waits for the disk.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Batch,
    pub(super) word: Word,
    pub(super) gate: Option<Box<dyn Gate>>,
    pub(super) ticket: Ticket,
}

impl Job {
    /// Asks the gate, and lays the batch out.
    fn enter(&mut self, log: &mut Log) -> Result<Placed, CommitError> {
        if let Some(gate) = &mut self.gate {
            gate.admit().map_err(CommitError::Refused)?;
        }
        let placed = log.stage(&self.batch).map_err(CommitError::Append)?;
        if let Some(gate) = &mut self.gate {
            gate.staged();
        }
        Ok(placed)
    }
}

/// Writes a group at once, syncs it if anybody asked, and tells each what came of it; marks what is durable without one.
pub(super) fn commit(log: &mut Log, group: Vec<Job>) {
    if group.is_empty() {
        return log.mark_durable();
    }
    let mut written: Vec<(Job, Placed)> = Vec::with_capacity(group.len());
    let mut refused = Vec::new();
    for mut job in group {
        match job.enter(log) {
            Ok(placed) => written.push((job, placed)),
            // Told later: what a gate refuses for may be something that is not written yet.
            Err(error) => refused.push((job.ticket, error)),
        }
    }
    if let Err(fault) = log.write() {
        let error = CommitError::Append(AppendError::Disk(fault));
        for (Job { gate, .. }, _) in &mut written {
            gate.iter_mut().for_each(|gate| gate.lost());
        }
        written.into_iter().for_each(|(job, _)| job.ticket.tell(Err(error.clone())));
        for (ticket, own) in refused {
            let is_by_gate = matches!(own, CommitError::Refused(_));
            ticket.tell(Err(if is_by_gate { error.clone() } else { own }));
        }
        return;
    }
    for (Job { gate, batch, .. }, placed) in &mut written {
        gate.iter_mut().for_each(|gate| gate.written(batch, placed));
    }
    refused.into_iter().for_each(|(ticket, error)| ticket.tell(Err(error)));
    let mut durable = Vec::new();
    for (job, placed) in written {
        match job.word {
            Word::Written => job.ticket.tell(Ok(placed)),
            Word::Durable => durable.push((job.ticket, placed)),
        }
    }
    if durable.is_empty() {
        return;
    }
    let failure = log.sync().err().map(CommitError::Sync);
    for (ticket, placed) in durable {
        ticket.tell(failure.clone().map_or(Ok(placed), Err));
    }
}
