//! What a crash may leave: the effects of a workload are gone through one by one, and after each one the disk may be shown
//! as power loss, or the death of the process, would leave it there.

use std::path::Path;

use crate::chance;

use super::{Effect, Files, SimDisk};

/// Bytes that a disk writes whole or not at all, if it is kind.
const SECTOR_BYTES: u64 = 512;

/// What of the effects that were not synced is there after the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// The process died, the machine did not: everything that was written.
    Killed,
    /// Nothing.
    Nothing,
    /// So many of the oldest, and none after them.
    Oldest(usize),
    /// So many of the oldest, the last of them, if a write, only up to so many of its bytes.
    Torn {
        /// Effects.
        effects: usize,
        /// Bytes of the last.
        bytes: usize,
    },
    /// Each effect, and each sector of each write, by chance from a seed: dropped or written before an older one.
    Chance(u64),
}

/// A workload's effects, one after the other.
#[derive(Debug)]
pub struct Replay {
    effects: Vec<Effect>,
    at: usize,
    /// How often the machine was started.
    boots: u64,
    /// What a reader would see.
    current: Files,
    /// What is synced.
    durable: Files,
    /// What is not, oldest first.
    pending: Vec<Effect>,
}

impl Replay {
    /// Before the first effect.
    pub fn new(disk: &SimDisk) -> Self {
        let state = disk.state();
        let (current, durable) = (state.base.clone(), state.base.clone());
        let (effects, boots) = (state.effects.clone(), state.boots);
        Self { effects, at: 0, boots, current, durable, pending: Vec::new() }
    }

    /// Lets one more effect happen; says whether there was one.
    pub fn step(&mut self) -> bool {
        let Some(effect) = self.effects.get(self.at) else { return false };
        self.at += 1;
        self.current.apply(effect);
        match effect {
            Effect::Sync(synced) => {
                let synced = |pending: &Effect| pending.file() == Some(*synced);
                for effect in self.pending.extract_if(.., |pending| synced(pending)) {
                    self.durable.apply(&effect);
                }
            }
            Effect::SyncFailed(failed) => self.pending.retain(|pending| pending.file() != Some(*failed)),
            Effect::SyncFolder(folder) => {
                for effect in self.pending.extract_if(.., |pending| pending.folder() == Some(folder)) {
                    self.durable.apply(&effect);
                }
            }
            other => self.pending.push(other.clone()),
        }
        true
    }

    /// Effects that have happened.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Effects that are not synced.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the newest effect that is not synced, if it is a write.
    pub fn newest_write_bytes(&self) -> Option<usize> {
        match self.pending.last() {
            Some(Effect::Write(_, _, bytes)) => Some(bytes.len()),
            _ => None,
        }
    }

    /// The disk after a crash here.
    pub fn image(&self, kept: Kept) -> SimDisk {
        if kept == Kept::Killed {
            return SimDisk::of(self.current.clone(), self.boots);
        }
        let mut files = self.durable.clone();
        match kept {
            Kept::Killed | Kept::Nothing => {}
            Kept::Oldest(effects) => self.pending.iter().take(effects).for_each(|effect| files.apply(effect)),
            Kept::Torn { effects, bytes } => {
                for (nth, effect) in self.pending.iter().take(effects).enumerate() {
                    match effect {
                        Effect::Write(file, offset, all) if nth + 1 == effects => {
                            files.write(*file, *offset, &all[..bytes.min(all.len())]);
                        }
                        effect => files.apply(effect),
                    }
                }
            }
            Kept::Chance(mut seed) => {
                for effect in &self.pending {
                    match effect {
                        Effect::Write(file, offset, bytes) => sectors(*offset, bytes)
                            .filter(|_| coin(&mut seed))
                            .for_each(|(offset, bytes)| files.write(*file, offset, bytes)),
                        effect if coin(&mut seed) => files.apply(effect),
                        _ => {}
                    }
                }
            }
        }
        files.lose_orphans();
        // What has a name and was never written to is there, and empty.
        if let Some(newest) = files.names.values().copied().max() {
            files.make(newest);
        }
        SimDisk::of(files, self.boots + 1)
    }
}

impl Effect {
    /// The file whose sync makes it durable; none if it is the folder's.
    fn file(&self) -> Option<usize> {
        match self {
            Self::Write(file, ..) | Self::Resize(file, _) | Self::Sync(file) | Self::SyncFailed(file) => Some(*file),
            Self::Create(..) | Self::Remove(_) | Self::Rename(..) | Self::CreateFolder(_) | Self::SyncFolder(_) => None,
        }
    }

    /// The folder whose sync makes it durable; none if it is a file's.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path, _) | Self::CreateFolder(path) => {
                path.parent()
            }
            Self::Write(..) | Self::Resize(..) | Self::Sync(_) | Self::SyncFailed(_) | Self::SyncFolder(_) => None,
        }
    }
}

/// The parts of a write that a disk writes each at once.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let offset = offset + at as u64;
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let length = rest.len().min((SECTOR_BYTES - offset % SECTOR_BYTES) as usize);
        at += length;
        Some((offset, &rest[..length]))
    })
}

/// Heads or tails.
fn coin(seed: &mut u64) -> bool {
    chance::next(seed) & 1 == 0
}
