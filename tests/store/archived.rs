//! Archives of others and of crashes: what they say is believed as far as it can be true, what they hide is said once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmain::internals::store::Cause;
use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query, ReadError, Retention};
use ringmain::{Frame, Payload};

#[cfg(target_os = "linux")]
use crate::alone::alone;
use crate::archive::{archive_all, filled, large};
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::support::{hides, open, read_all, small};

const NOW: Retention = Retention::forever().archive_after(Duration::ZERO);

/// CRC-32C, bit by bit: what an enemy can compute as well.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

fn archives(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|end| end == "logz")).collect()
}

/// The archive with a number at a place of its header, whose check is right again.
fn forged(content: &[u8], at: usize, number: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content[at..at + number.len()].copy_from_slice(number);
    let sum = crc32c(&content[..60]);
    content[60..64].copy_from_slice(&sum.to_le_bytes());
    content
}

#[test]
fn an_archive_that_says_sizes_that_none_has_is_refused_and_the_rest_is_read() {
    let (disk, log) = filled(large(), 3);
    let (first, last) = (log.segments()[0].first, log.segments()[0].last);
    let next = log.next_position();
    archive_all(&disk, &log);
    drop(log);
    let archive = archives(&disk).remove(0);
    let content = disk.content(&archive);
    assert_eq!(forged(&content, 24, &content[24..32]), content, "it is the check that archives have");
    let mut forgeries: Vec<Vec<u8>> =
        [u64::MAX, 1 << 40, (4 << 30) + 64, 0].iter().map(|bytes| forged(&content, 24, &bytes.to_le_bytes())).collect();
    forgeries.extend([0, 1, 1 << 20, u32::MAX].iter().map(|bytes: &u32| forged(&content, 12, &bytes.to_le_bytes())));
    forgeries.push(forged(&content, 16, &7_u64.to_le_bytes()));
    // Blocks that end where none can.
    let lines_at = content.len() - 32 - 12 * 4;
    for end in [u64::MAX, 0, content.len() as u64 * 2] {
        let mut forgery = content.clone();
        forgery[lines_at..lines_at + 8].copy_from_slice(&end.to_le_bytes());
        let footer = content.len() - 32;
        let sum = crc32c(&forgery[lines_at..footer]);
        forgery[footer + 16..footer + 20].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c(&forgery[footer..footer + 28]);
        forgery[footer + 28..].copy_from_slice(&sum.to_le_bytes());
        forgeries.push(forgery);
    }
    for (nth, forgery) in forgeries.into_iter().enumerate() {
        let (log, recovered) = open(&disk.with(&archive, forgery), large()).expect("damage is no reason not to open");
        assert_eq!(read_all(&log, 1).positions, (last + 1..next).collect::<Vec<_>>(), "forgery {nth}");
        assert!(recovered.damages.iter().any(|damage| damage.cause == Cause::Archive), "forgery {nth}: {recovered:?}");
        assert!((first..=last).all(|position| hides(&recovered.damages, position)), "forgery {nth}");
    }
}

/// The archive with a frame of an enemy's in place of its first, whose checks are right again.
fn with_first_block(content: &[u8], frame: impl FnOnce(usize) -> Vec<u8>) -> Vec<u8> {
    let footer = content.len() - 32;
    let lines_at = u64::from_le_bytes(content[footer..footer + 8].try_into().expect("8 bytes")) as usize;
    let end = u64::from_le_bytes(content[lines_at..lines_at + 8].try_into().expect("8 bytes")) as usize;
    let mut block = frame(end - 64);
    block.resize(end - 64, 0);
    let mut forgery = content.to_vec();
    forgery[64..end].copy_from_slice(&block);
    forgery[lines_at + 8..lines_at + 12].copy_from_slice(&crc32c(&block).to_le_bytes());
    let sum = crc32c(&forgery[lines_at..footer]);
    forgery[footer + 16..footer + 20].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32c(&forgery[footer..footer + 28]);
    forgery[footer + 28..].copy_from_slice(&sum.to_le_bytes());
    forgery
}

/// A frame with a window of 1 GiB, whose blocks are a byte each that is repeated 128 KiB times.
fn of_repeated_bytes(room: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0xA0];
    while frame.len() + 4 < room {
        frame.extend_from_slice(&[2, 0, 16, b'x']);
    }
    frame
}

/// A frame of one block, each of whose sequences takes two bytes and repeats 131,074: some gigabytes.
fn of_repeated_sequences(room: usize) -> Vec<u8> {
    let sequences = ((room - 32) / 2).min(0x7E_FF);
    let length = 3 + 1 + 3 + 3 + sequences * 2 + 1;
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0xA0];
    frame.extend_from_slice(&((length << 3 | 2 << 1 | 1) as u32).to_le_bytes()[..3]);
    // As many literals as sequences, a byte repeated; each code is one symbol: a literal, the last offset, the longest match.
    frame.extend_from_slice(&[
        1 | 3 << 2 | (sequences << 4) as u8,
        (sequences >> 4) as u8,
        (sequences >> 12) as u8,
        b'x',
    ]);
    frame.extend_from_slice(&[128 + (sequences >> 8) as u8, sequences as u8, 1 << 6 | 1 << 4 | 1 << 2, 1, 0, 52]);
    frame.resize(frame.len() + sequences * 2, 0xFF);
    frame.push(1);
    frame
}

#[test]
fn a_block_that_would_become_more_than_a_block_reads_as_damage() {
    let (disk, log) = filled(large(), 2);
    archive_all(&disk, &log);
    drop(log);
    let archive = archives(&disk).remove(0);
    let content = disk.content(&archive);
    for frame in [of_repeated_bytes, of_repeated_sequences] {
        let forgery = with_first_block(&content, frame);
        let (log, _) = open(&disk.with(&archive, forgery), large()).expect("damage is no reason not to open");
        let found = read_all(&log, 1);
        assert!(!found.damages.is_empty() && !found.positions.is_empty(), "{:?}", found.damages);
        assert!((1..log.next_position()).all(|at| found.positions.contains(&at) || hides(&found.damages, at)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_block_that_would_become_gigabytes_is_refused_within_little_memory() {
    alone("archived::a_block_that_would_become_gigabytes_is_refused_within_little_memory", || {
        let folder = Folder::new("bomb");
        // Half of it can be compressed, so that there is room for many sequences.
        let (mut writer, mut state) = (Writer::new(), 1_u32);
        let (first, last, archive) = archived_of(&folder.0, || {
            let mut draw = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let payload: [u8; 2_000] = std::array::from_fn(|nth| if nth < 1_000 { draw() } else { 0 });
            writer.frame_of("a", Payload::raw(&payload), |event| event)
        });
        let content = fs::read(&archive).expect("it can be read");
        let forgery = with_first_block(&content, of_repeated_sequences);
        fs::write(&archive, forgery).expect("it can be written");
        let before = peak_bytes();
        let store = LogStore::open(&folder.0).expect("damage is no reason not to open");
        let mut query = Query::new();
        let (mut read, mut damages) = (0, 0);
        loop {
            match store.query(&query) {
                Ok(page) => {
                    read += page.events.len() as u64;
                    let Some(next) = page.next else { break };
                    query = query.behind(next);
                }
                Err(error) => {
                    damages += 1;
                    query = query.behind(error.behind().expect("it is damage"));
                }
            }
        }
        let taken = peak_bytes() - before;
        assert!(taken < 64 << 20, "{taken} bytes were taken for blocks of 64 KiB");
        assert!(damages > 0 && read > first && read < store.head().expect("it works").expect("events").get(), "{last}");
    });
}

/// Bytes that this process has had at most so far.
#[cfg(target_os = "linux")]
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says it");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is among them");
    peak.trim().strip_suffix(" kB").and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn damage_names_the_bytes_of_the_archive_that_are_damaged() {
    let (disk, log) = filled(large(), 2);
    archive_all(&disk, &log);
    drop(log);
    let (archive, length) = disk.files()[0].clone();
    for byte in (64..length - 80).step_by(10_007) {
        let (log, _) = open(&disk.flipped(&archive, byte, 3), large()).expect("damage is no reason not to open");
        let damages = read_all(&log, 1).damages;
        let packed = damages[0].packed.clone().expect("it is compressed");
        assert!(packed.contains(&byte) && packed.end <= length, "byte {byte}: {damages:?}");
        let said = damages[0].to_string();
        assert!(said.contains(&format!("from byte {}, ", packed.start)) && said.contains("uncompressed"), "{said}");
    }
}

#[test]
fn of_a_segment_and_its_archive_the_one_that_is_not_whole_goes_when_the_log_is_opened() {
    let (disk, log) = filled(small(), 3);
    let (whole, next) = (log.segments(), log.next_position());
    let plain = disk.files()[0].clone().0;
    let original = disk.content(&plain);
    archive_all(&disk, &log);
    drop(log);
    let archive = archives(&disk).remove(0);
    let packed = disk.content(&archive);
    let (mut torn, mut flipped) = (packed.clone(), original.clone());
    torn.truncate(packed.len() / 2);
    flipped[100] ^= 1;
    let (mut block, middle) = (packed.clone(), packed.len() / 3);
    block[middle] ^= 1;
    let cases = [
        ("both are whole: archiving is ended", &original, &packed, Some(&plain)),
        ("the archive was never ended", &original, &torn, Some(&archive)),
        ("the archive is damaged", &original, &block, Some(&archive)),
        ("the segment is damaged", &flipped, &packed, Some(&plain)),
        ("neither is whole", &flipped, &torn, None),
    ];
    for (name, of_file, of_archive, goes) in cases {
        let disk = disk.with(&plain, of_file.clone()).with(&archive, of_archive.clone());
        let (log, recovered) = open(&disk, small()).expect("the disk works");
        assert_eq!(recovered.removed.first(), goes, "{name}");
        assert_eq!(recovered.removed.len(), usize::from(goes.is_some()), "{name}");
        assert_eq!(disk.files().iter().filter(|(path, _)| goes == Some(path)).count(), 0, "{name}");
        if goes.is_some() {
            assert_eq!(read_all(&log, 1).positions, (1..next).collect::<Vec<_>>(), "{name}");
            assert_eq!(log.segments(), whole, "{name}");
        } else {
            assert!(
                read_all(&log, 1).positions.len() as u64 >= next - 5,
                "{name}: the file counts, less what is damaged"
            );
        }
        drop(log);
        let (_, recovered) = open(&disk, small()).expect("the disk works");
        assert!(recovered.removed.is_empty(), "{name}: once");
    }
}

/// A store of many small archives in a folder, and the first and last position of one in their midst.
fn archived(folder: &Path) -> (u64, u64, PathBuf) {
    let mut writer = Writer::new();
    archived_of(folder, || writer.frame("common", |event| event))
}

/// The same, of events of one's own.
fn archived_of(folder: &Path, mut frame: impl FnMut() -> Frame) -> (u64, u64, PathBuf) {
    let builder =
        || LogStore::builder(folder).segment_bytes(65_536).event_bytes_max(3_000).retention(Retention::forever());
    let store = builder().open().expect("the disk works");
    while store.stats().segments < 5 {
        let frames: Vec<_> = (0..10).map(|_| frame()).collect();
        store.append(&frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store.keep(NOW).expect("the disk works");
    store.close().expect("the disk works");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("listed").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "logz"));
    files.sort();
    let first = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("a position");
    (first(&files[1]), first(&files[2]) - 1, files[1].clone())
}

#[test]
fn a_lost_archive_is_said_once_with_its_range_in_both_orders() {
    let folder = Folder::new("lost-archive");
    let (first, last, archive) = archived(&folder.0);
    fs::write(&archive, b"nothing").expect("it can be written");
    let store = LogStore::open(&folder.0).expect("damage is no reason not to open");
    let head = store.head().expect("it can be read").expect("there are events").get();
    assert!(last - first > 200, "many pages: {first} to {last}");
    for query in [Query::new(), Query::new().newest_first(), Query::new().newest_first().limit(3)] {
        let (mut query, mut found, mut said) = (query, 0, Vec::new());
        loop {
            let next = match store.query(&query) {
                Ok(page) => {
                    found += page.events.len() as u64;
                    page.next
                }
                Err(ReadError::Damaged(damage)) => {
                    let missing = damage.missing.expect("it says which");
                    let newest_first = query.order() == ringmain::store::Order::NewestFirst;
                    let behind = if newest_first { *missing.start() } else { *missing.end() };
                    said.push(missing);
                    ringmain::store::Position::new(behind)
                }
                Err(error) => panic!("{error}"),
            };
            let Some(next) = next else { break };
            query = query.behind(next);
        }
        assert_eq!((said, found), (vec![first..=last], head - (last - first + 1)));
    }
}
