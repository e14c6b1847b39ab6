//! Reading a segment from its begin when the log is opened: where it ends, what in it is damaged, and what of its end was
//! never acknowledged and is cut.
//!
//! A write that was not synced may be on the disk in part, and its parts in any order. So after power loss the last segment
//! may end with records behind a gap, which look like records behind damage. What tells them apart is the highest position
//! that any record says was durable when it was written, and that stands behind the records of every sync: up to there a
//! gap is damage, and nothing behind it is touched; beyond it a gap was never durable, and the log ends before it.
//!
//! As long as the machine is the same since the end was written, all of that is there, for it never was the disk that was read.
//! A process that died may have left its last write cut short, and no more: so everything that anything whole follows was
//! written whole. Then a gap is damage wherever it is, and the log ends where nothing whole follows.

use super::disk::Boot;
use super::file::{Fault, File};
use super::record::{Cause, Header, Kind};
use super::segment::{self, Filled, SEGMENT_HEADER_BYTES};
use super::walk::{Damage, Step, Walk};

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) filled: Filled,
    /// The position up to which everything is known to have been durable.
    pub(super) durable: u64,
    /// Where the seal ends, if there is one.
    pub(super) seal_end: Option<u64>,
    pub(super) damages: Vec<Damage>,
    /// Bytes at the end that are not part of the log.
    pub(super) cut_bytes: u64,
    /// They may have been acknowledged as written.
    pub(super) cut_may_be_written: bool,
    /// The start of the machine since which its end was written, if it is known.
    pub(super) boot: Option<Boot>,
}

/// Whole batches up to here: an offset, and the position before it.
#[derive(Debug, Clone, Copy)]
struct Complete {
    end: u64,
    last: u64,
}

/// Reads a segment that has a successor: what is missing before the successor's first position was there once.
pub(super) fn inner(file: &File, first: u64, length: u64, next_first: u64) -> Result<Scan, Fault> {
    let pass = Pass::run(file, first, length)?;
    let Filled { end, last, .. } = pass.filled;
    let lost = last + 1 < next_first;
    let garbage_end = if pass.seal_end.is_some() { end } else { pass.garbage_end.max(end) };
    let mut scan = pass.kept(0);
    scan.durable = next_first - 1;
    if lost || garbage_end > end {
        let missing = lost.then(|| last + 1..=next_first - 1);
        scan.damages.push(Damage::of(file, end, garbage_end - end, missing, Cause::Header));
    }
    scan.filled.last = last.max(next_first - 1);
    Ok(scan)
}

/// Reads the last segment, of which all before `first` is durable, on a machine that was started so.
pub(super) fn last(file: &File, first: u64, length: u64, boot: Option<Boot>) -> Result<Scan, Fault> {
    let pass = Pass::run(file, first, length)?;
    let is_of_boot = boot.is_some() && pass.boot == boot;
    let mut scan = pass.ended(file, first, is_of_boot)?;
    scan.cut_may_be_written = scan.cut_bytes > 0 && !is_of_boot;
    Ok(scan)
}

/// One reading of a segment.
#[derive(Debug)]
struct Pass {
    filled: Filled,
    durable: u64,
    /// The position up to which all was written whole, if the machine is the same since.
    written: u64,
    boot: Option<Boot>,
    seal_end: Option<u64>,
    /// Each with what was complete before it; without, if it is a record that this program only does not know.
    damages: Vec<(Damage, Option<Complete>)>,
    /// What is complete if all damages are only that.
    complete: Complete,
    garbage_end: u64,
}

impl Pass {
    /// The segment's end: behind what is whole, and behind what is damaged but was there.
    fn ended(self, file: &File, first: u64, is_of_boot: bool) -> Result<Scan, Fault> {
        let durable = if is_of_boot { self.durable.max(self.written) } else { self.durable };
        let written_end = self.garbage_end.max(self.seal_end.unwrap_or(self.filled.end));
        let lost = |damage: &Damage| damage.missing.as_ref().is_some_and(|missing| *missing.end() > durable);
        let gap =
            self.damages.iter().find_map(|(damage, complete)| complete.filter(|_| lost(damage)).zip(Some(damage)));
        let Some((complete, damage)) = gap else {
            if self.filled.last > self.complete.last {
                let complete = self.complete;
                return self.cut(file, first, complete, written_end);
            }
            let cut_bytes = written_end - self.seal_end.unwrap_or(self.filled.end);
            return Ok(self.kept(cut_bytes));
        };
        let damage = damage.clone();
        let missing_first = *damage.missing.as_ref().expect("a gap that is cut misses positions").start();
        if missing_first > durable {
            return self.cut(file, first, complete, written_end);
        }
        // Part of what the gap hides was durable: that part is damage, and the log goes on behind the gap.
        let end = damage.offset + damage.bytes;
        let before = Complete { end: damage.offset, last: missing_first - 1 };
        let mut scan = self.cut(file, first, before, written_end)?;
        scan.damages.push(Damage { missing: Some(missing_first..=durable), ..damage });
        scan.filled.end = end;
        scan.filled.last = durable;
        scan.cut_bytes = written_end.saturating_sub(end);
        Ok(scan)
    }

    fn kept(self, cut_bytes: u64) -> Scan {
        let Self { filled, durable, boot, seal_end, damages, .. } = self;
        let damages = damages.into_iter().map(|(damage, _)| damage).collect();
        Scan { filled, durable, seal_end, damages, cut_bytes, cut_may_be_written: false, boot }
    }

    /// The same, if the segment ended where a whole batch does; read once more, to know what is in it.
    fn cut(mut self, file: &File, first: u64, complete: Complete, written_end: u64) -> Result<Scan, Fault> {
        let Self { filled, boot, .. } = Self::run(file, first, complete.end)?;
        self.filled = filled.ending(complete.end, complete.last);
        self.boot = boot;
        self.seal_end = None;
        self.damages.retain(|(damage, _)| damage.offset + damage.bytes <= complete.end);
        Ok(self.kept(written_end.saturating_sub(complete.end)))
    }

    fn run(file: &File, first: u64, length: u64) -> Result<Self, Fault> {
        let mut walk = Walk::new(first, SEGMENT_HEADER_BYTES, first, length.max(SEGMENT_HEADER_BYTES));
        let begin = Complete { end: SEGMENT_HEADER_BYTES, last: first - 1 };
        let mut pass = Self {
            filled: Filled::new(first),
            durable: first - 1,
            written: first - 1,
            boot: segment::begun_since(file, first)?,
            seal_end: None,
            damages: Vec::new(),
            complete: begin,
            garbage_end: 0,
        };
        loop {
            let step = walk.next(file, 0)?;
            if !matches!(step, Step::End { .. }) {
                pass.seal_end = None;
            }
            let is_beyond_reach = match &step {
                Step::Damaged(damage, _) => matches!(damage.cause, Cause::Header),
                step => matches!(step, Step::End { .. }),
            };
            if !is_beyond_reach {
                // What was begun after it was.
                pass.written = pass.filled.last;
            }
            match step {
                Step::Record(header, at) => {
                    pass.filled.content.add(header.written_unix_ns);
                    pass.filled.note(header.position, at);
                    pass.reach(&walk, header.batch_left == 0);
                    pass.hear(&header);
                }
                Step::Control(header) => {
                    pass.hear(&header);
                    match header.kind {
                        Kind::SEAL => pass.seal_end = Some(walk.offset()),
                        Kind::BOOT => {
                            pass.boot = Boot::new(header.sequence);
                            pass.reach(&walk, true);
                        }
                        _ => {}
                    }
                }
                Step::Damaged(damage, Some(header)) => {
                    pass.damages.push((*damage, None));
                    pass.reach(&walk, header.batch_left == 0);
                    pass.hear(&header);
                }
                Step::Damaged(damage, None) => {
                    pass.damages.push((*damage, Some(pass.complete)));
                    pass.reach(&walk, true);
                }
                Step::End { garbage_end } => {
                    if garbage_end > walk.offset() {
                        pass.garbage_end = garbage_end;
                    }
                    pass.forget_torn_seal();
                    return Ok(pass);
                }
            }
        }
    }

    /// Half a seal at the end hides no record: it is as if it had not been written.
    fn forget_torn_seal(&mut self) {
        let is_torn = |(damage, _): &mut (Damage, _)| damage.missing.is_none() && damage.cause == Cause::Body;
        let at_end = |(damage, _): &mut (Damage, _)| damage.offset + damage.bytes == self.filled.end;
        if let Some((seal, Some(before))) = self.damages.pop_if(|last| is_torn(last) && at_end(last)) {
            self.garbage_end = self.garbage_end.max(self.filled.end);
            self.filled.end = seal.offset;
            self.complete = before;
        }
    }

    /// A record says up to where all is durable, which cannot be behind itself.
    fn hear(&mut self, header: &Header) {
        self.durable = self.durable.max(header.durable.min(self.filled.last));
    }

    /// The walk came to the end of a record or of damage.
    fn reach(&mut self, walk: &Walk, complete: bool) {
        self.filled.end = walk.offset();
        self.filled.last = walk.expected() - 1;
        if complete {
            self.complete = Complete { end: self.filled.end, last: self.filled.last };
        }
    }
}
