//! What may happen to the files of a log: bytes change, ends are lost, files go, come, or change places; and numbers are forged
//! with their checks, as only an enemy does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arbitrary::Unstructured;
use ringmain::internals::store::sim::SimDisk;

/// Bytes of a record's header, and of a segment's and an archive's.
const HEADER_BYTES: usize = 64;
const FOOTER_BYTES: usize = 32;

/// A disk with damage.
pub(super) struct Damaged {
    pub(super) disk: SimDisk,
    pub(super) before: Before,
    /// Some number was changed together with its check: what is read may then be anything.
    pub(super) is_forged: bool,
    /// For who reads of a failure.
    pub(super) told: Vec<String>,
}

/// What lies before all damage.
pub(super) struct Before {
    /// In files of segments before this one all is as it was; in this one up to an offset, if it is no archive.
    file: u64,
    offset: u64,
    /// Files of another name than they were written with.
    pub(super) is_foreign: bool,
}

impl Before {
    /// Whether what ends at an offset of a segment lies before all damage.
    pub(super) fn is_before(&self, file: u64, end: u64) -> bool {
        file < self.file || (file == self.file && end <= self.offset)
    }

    fn touch(&mut self, path: &Path, offset: u64) {
        let first = first_of(path).unwrap_or(0);
        let offset = if is_archive(path) { 0 } else { offset };
        if (first, offset) < (self.file, self.offset) {
            (self.file, self.offset) = (first, offset);
        }
    }
}

fn first_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "logz")
}

/// The same disk with some damage in a folder.
pub(super) fn damaged(
    disk: &SimDisk,
    folder: &Path,
    places: &BTreeMap<u64, (u64, u64)>,
    bytes: &mut Unstructured<'_>,
) -> arbitrary::Result<Damaged> {
    let before = Before { file: u64::MAX, offset: u64::MAX, is_foreign: false };
    let mut damaged = Damaged { disk: disk.clone(), before, is_forged: false, told: Vec::new() };
    for _ in 0..bytes.int_in_range(1..=4)? {
        let mut files: Vec<PathBuf> = damaged.disk.files().into_iter().map(|(path, _)| path).collect();
        files.retain(|path| path.parent() == Some(folder));
        if files.is_empty() {
            break;
        }
        let path = bytes.choose(&files)?.clone();
        damaged.hit(&path, &files, places, bytes)?;
    }
    Ok(damaged)
}

impl Damaged {
    fn hit(
        &mut self,
        path: &Path,
        files: &[PathBuf],
        places: &BTreeMap<u64, (u64, u64)>,
        bytes: &mut Unstructured<'_>,
    ) -> arbitrary::Result<()> {
        let mut content = self.disk.content(path);
        let mut at = bytes.int_in_range(0..=content.len())?;
        let how = bytes.int_in_range(0..=9_u8)?;
        self.told.push(format!("{} of {} bytes from {at}, kind {how}", path.display(), content.len()));
        match how {
            0..=2 => {
                let (from, length) = (at, bytes.int_in_range(1..=12)?);
                for byte in content.iter_mut().skip(from).take(length) {
                    *byte = bytes.arbitrary()?;
                }
            }
            3 => content.truncate(at),
            4 => {
                at = content.len();
                content.extend_from_slice(bytes.bytes(bytes.len().min(40))?);
            }
            5 => {
                self.before.touch(path, 0);
                self.disk = self.disk.without(path);
                return Ok(());
            }
            6 => {
                (at, content) = (0, bytes.bytes(bytes.len().min(200))?.to_vec());
            }
            7 => {
                // Under the name of another, or a new one.
                let first = bytes.choose(&[1, 2, 100, 1 << 40, 1 << 62, u64::MAX])?;
                let first =
                    if bytes.arbitrary()? { *first } else { files.iter().find_map(|path| first_of(path)).unwrap_or(1) };
                let extension = *bytes.choose(&["log", "logz", "idx"])?;
                let name = path.with_file_name(format!("{first:020}.{extension}"));
                self.before.is_foreign = true;
                self.before.touch(&name, 0);
                self.disk = self.disk.with(&name, content);
                return Ok(());
            }
            _ => {
                let Some(place) = forge(path, &mut content, places, bytes)? else { return Ok(()) };
                (at, self.is_forged) = (place, true);
            }
        }
        self.before.touch(path, at as u64);
        self.disk = self.disk.with(path, content);
        Ok(())
    }
}

/// Changes a number and makes its check right; says where.
fn forge(
    path: &Path,
    content: &mut [u8],
    places: &BTreeMap<u64, (u64, u64)>,
    bytes: &mut Unstructured<'_>,
) -> arbitrary::Result<Option<usize>> {
    let number: u64 = *bytes.choose(&[0, 1, 64, 1 << 31, u64::from(u32::MAX), 1 << 62, u64::MAX])?;
    let number = if bytes.arbitrary()? { number } else { bytes.arbitrary()? };
    if is_archive(path) {
        let is_footer = bytes.arbitrary()?;
        let Some(begin) = (if is_footer { content.len().checked_sub(FOOTER_BYTES) } else { Some(0) }) else {
            return Ok(None);
        };
        let check_at = if is_footer { 28 } else { 60 };
        let at = *bytes.choose(if is_footer { &[0, 8, 16][..] } else { &[8, 12, 16, 24][..] })?;
        return Ok(content.get_mut(begin..begin + check_at + 4).map(|bytes| {
            let length = if at == 8 && !is_footer {
                2
            } else if at == 12 || (is_footer && at == 16) {
                4
            } else {
                8
            };
            bytes[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]);
            let check = crc32c::crc32c(&bytes[..check_at]);
            bytes[check_at..].copy_from_slice(&check.to_le_bytes());
            0
        }));
    }
    // A record begins where the one before it ends; the first behind the segment's header, the seal behind the last.
    let segment = first_of(path).unwrap_or(1);
    let ends = places.values().filter(|(file, _)| *file == segment).map(|(_, end)| *end as usize);
    let offsets: Vec<usize> = [0, HEADER_BYTES].into_iter().chain(ends).collect();
    let offset = *bytes.choose(&offsets)?;
    let at = *bytes.choose(&[4_usize, 6, 16, 24, 48, 52])?;
    let length = match at {
        4 | 6 => 2,
        16 | 24 => 8,
        _ => 4,
    };
    Ok(content.get_mut(offset..offset + HEADER_BYTES).map(|header| {
        header[at..at + length].copy_from_slice(&number.to_le_bytes()[..length]);
        let check = crc32c::crc32c_append(seed(segment, offset as u64), &header[..60]);
        header[60..].copy_from_slice(&check.to_le_bytes());
        offset
    }))
}

/// What the check of a header at a place begins from.
fn seed(segment: u64, offset: u64) -> u32 {
    let mixed = segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 32) as u32
}
