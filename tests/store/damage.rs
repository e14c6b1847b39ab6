//! Damage is found wherever it is, hides nothing but itself, and is never taken for the end.

use std::path::Path;

use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::{Cause, OpenError};

use crate::support::{FOLDER, batch, hides, open, read_all, small};

/// Three segments; the last has room left, and all is durable and said to be so.
fn written() -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, small()).expect("the disk works");
    let mut next = 1;
    while log.segments().len() < 3 || next % 7 != 0 {
        log.append(&batch(next, 3)).expect("the disk works");
        next += 3;
        log.sync().expect("the disk works");
    }
    log.close().expect("the disk works");
    (disk, next)
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_hides_no_other_record() {
    let (disk, next) = written();
    let mut cut = 0;
    for (path, length) in disk.files() {
        for byte in 0..length {
            let image = disk.flipped(&path, byte, (byte % 8) as u32);
            let place = format!("{} byte {byte}", path.display());
            let (log, recovered) = open(&image, small()).unwrap_or_else(|error| panic!("{place}: {error}"));
            let found = read_all(&log, 1);
            assert_eq!(recovered.next, next, "{place}: nothing acknowledged is cut");
            let is_said = !found.damages.is_empty() || !recovered.damages.is_empty() || recovered.cut_bytes > 0;
            assert!(is_said, "{place}");
            let lost: Vec<u64> = (1..next).filter(|position| !found.positions.contains(position)).collect();
            assert!(lost.len() <= 1, "{place}: {lost:?}");
            assert!(lost.iter().all(|position| hides(&found.damages, *position)), "{place}: {lost:?} {found:?}");
            cut += u64::from(recovered.cut_bytes > 0);
        }
    }
    assert!(cut > 0, "some lie behind the last record");
}

#[test]
fn a_log_goes_on_behind_damage_that_it_leaves_as_it_is() {
    let (disk, next) = written();
    let (path, _) = disk.files().pop().expect("there are files");
    for byte in (64..1_500).step_by(13) {
        let image = disk.flipped(&path, byte, 3);
        let (mut log, recovered) = open(&image, small()).expect("damage is no reason not to open");
        for first in (next..next + 20).step_by(4) {
            log.append(&batch(first, 4)).expect("the disk works");
        }
        log.sync().expect("the disk works");
        log.mark_durable();
        let before = read_all(&log, 1);
        drop(log);
        let (log, again) = open(&image, small()).expect("damage is no reason not to open");
        assert_eq!(again.next, next + 20);
        assert_eq!(again.damages, recovered.damages, "what is damaged stays so, and is said again");
        let found = read_all(&log, 1);
        assert_eq!(found.positions, before.positions);
        assert!((1..next + 20).all(|position| found.positions.contains(&position) || hides(&found.damages, position)));
    }
}

#[test]
fn a_file_that_is_missing_is_a_gap_that_is_said() {
    let (disk, next) = written();
    let second = disk.files()[1].0.clone();
    let third: u64 = disk.files()[2].0.file_stem().and_then(|name| name.to_str()?.parse().ok()).expect("a position");
    let (log, recovered) = open(&disk.without(&second), small()).expect("a gap is no reason not to open");
    let [damage] = &recovered.damages[..] else { panic!("{:?}", recovered.damages) };
    let missing = damage.missing.clone().expect("positions are missing");
    assert_eq!((damage.cause, *missing.end() + 1), (Cause::Missing, third));
    let found = read_all(&log, 1);
    assert_eq!(found.damages.len(), 1);
    assert_eq!(found.damages[0].missing, Some(missing.clone()));
    assert!((1..next).all(|position| found.positions.contains(&position) != missing.contains(&position)));
}

#[test]
fn files_of_two_logs_in_a_folder_are_refused() {
    let (disk, _) = written();
    let other = SimDisk::new();
    let (mut log, _) = open(&other, small()).expect("the disk works");
    log.append(&batch(1, 3)).expect("the disk works");
    drop(log);
    let from = disk.files()[1].0.clone();
    let to = Path::new(FOLDER).join("00000000000000000002.log");
    use ringmain::internals::store::Disk;
    disk.rename(&from, &to).expect("the disk works");
    match open(&disk, small()) {
        Err(OpenError::Overlap { first: 2, last, file }) => assert!(last >= 2 && file == to),
        other => panic!("{other:?}"),
    }
}
