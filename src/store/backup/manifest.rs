//! The manifest of a backup: text, a line a file, the check of all lines in the last.
//!
//! ```text
//! ringmain backup, format 1
//! made 1767225600000000000
//! position 1200
//! state/00000000000000000001.log 10240 2c1f0a77
//! events/00000000000000000001.log 409600 5f3a9c01
//! check 9d2b11f0
//! ```
//!
//! `made` is in nanoseconds since 1970; a file has its length in bytes and its CRC32C. The first and the last line stay as they are in
//! all formats.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::log::{self, Access, Disk, File};
use super::RestoreError;

/// The file, in the folder of the backup.
pub(super) const NAME: &str = "backup_manifest";
const TITLE: &str = "ringmain backup, format ";
const FORMAT: u32 = 1;
/// Room for a million files.
const BYTES_MAX: u64 = 64 << 20;

/// What a file of a backup is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Part {
    Events,
    State,
}

impl Part {
    pub(super) const ALL: [Self; 2] = [Self::Events, Self::State];

    /// Its folder in that of the backup.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::State => "state",
        }
    }
}

/// A file of a backup.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) part: Part,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) check: u32,
}

impl Entry {
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.part.folder()).join(&self.name)
    }
}

/// What a backup says of itself.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) made_unix_ns: u64,
    pub(super) position: u64,
    pub(super) entries: Vec<Entry>,
}

impl Manifest {
    pub(super) fn encode(&self) -> String {
        let Self { made_unix_ns, position, entries } = self;
        let mut text = format!("{TITLE}{FORMAT}\nmade {made_unix_ns}\nposition {position}\n");
        for Entry { part, name, bytes, check } in entries {
            writeln!(text, "{}/{name} {bytes} {check:08x}", part.folder()).expect("a text takes all");
        }
        let check = check_of(&text);
        text + &check + "\n"
    }

    /// That of the backup in a folder.
    pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<Self, RestoreError> {
        let path = folder.join(NAME);
        let file = match File::open(disk, &path, Access::Read) {
            Err(fault) if matches!(fault.source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(RestoreError::NoBackup { folder: folder.to_owned() });
            }
            file => file?,
        };
        let wrong = |cause| RestoreError::Manifest { file: path.clone(), cause };
        let length = file.length()?;
        if length > BYTES_MAX {
            return Err(wrong("it is longer than any"));
        }
        let mut bytes = vec![0; length as usize];
        let read = file.read_at(&mut bytes, 0)?;
        let text = str::from_utf8(&bytes[..read]).map_err(|_| wrong("it is no text"))?;
        let lines = checked(text).ok_or_else(|| wrong("it is cut short, or its checksum is another"))?;
        let (title, lines) = lines.split_once('\n').ok_or_else(|| wrong("it has no lines"))?;
        let format = title.strip_prefix(TITLE).and_then(|format| format.parse::<u32>().ok());
        match format {
            Some(FORMAT) => Self::parse(lines).ok_or_else(|| wrong("a line of it is none of its format")),
            Some(format) => Err(RestoreError::UnknownFormat { file: path, format, known: FORMAT }),
            None => Err(wrong("it is that of something else")),
        }
    }

    fn parse(lines: &str) -> Option<Self> {
        let mut lines = lines.lines();
        let made_unix_ns = lines.next()?.strip_prefix("made ")?.parse().ok()?;
        let position = lines.next()?.strip_prefix("position ")?.parse().ok()?;
        let entries = lines.map(entry).collect::<Option<_>>()?;
        Some(Self { made_unix_ns, position, entries })
    }
}

/// The last line behind others.
fn check_of(lines: &str) -> String {
    format!("check {:08x}", crc32c::crc32c(lines.as_bytes()))
}

/// The lines before the last, if that has their check.
fn checked(text: &str) -> Option<&str> {
    let (lines, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let lines = &text[..=lines.len()];
    (last == check_of(lines)).then_some(lines)
}

/// A file, whose name leads nowhere else.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let (folder, name) = words.next()?.split_once('/')?;
    let part = Part::ALL.into_iter().find(|part| part.folder() == folder)?;
    let bytes = words.next()?.parse().ok()?;
    let check = u32::from_str_radix(words.next()?, 16).ok()?;
    let is_whole = words.next().is_none() && log::is_file_of_log(name);
    is_whole.then(|| Entry { part, name: name.to_owned(), bytes, check })
}
