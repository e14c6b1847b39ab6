//! The jobs `ringmain backup` and `ringmain restore`.

pub mod flags;

use std::process::ExitCode;

use super::human::{bytes, grouped};
use super::progress::Progress;
use super::store::inspect::rfc3339;
use super::store::{FAILED, Failure, ended, open_to_read, print};
use crate::store::{Backup, BackupProgress, Position};

/// Makes a backup of a store and returns the exit code.
pub fn run(flags: &flags::Backup) -> ExitCode {
    ended(backup(flags))
}

/// Makes a store of a backup, or only looks at that, and returns the exit code.
pub fn run_restore(flags: &flags::Restore) -> ExitCode {
    ended(match &flags.data {
        Some(_) => restore(flags),
        None => verify(flags),
    })
}

fn backup(flags: &flags::Backup) -> Result<u8, Failure> {
    let store = open_to_read(&flags.store.data)?;
    let backup = shown(|tell| store.backup(&flags.to, tell)).map_err(Failure::said)?;
    print(format!("a backup {} was made in {}: {}\n", up_to(&backup), flags.to.display(), size(&backup)).as_bytes())?;
    Ok(0)
}

fn verify(flags: &flags::Restore) -> Result<u8, Failure> {
    let backup = Backup::open(&flags.from).map_err(Failure::said)?;
    shown(|tell| backup.verify(tell)).map_err(Failure::said)?;
    let (made, size) = (rfc3339(backup.made_at()), size(&backup));
    print(format!("the backup of {made} {} is whole: {size}\n", up_to(&backup)).as_bytes())?;
    Ok(0)
}

fn restore(flags: &flags::Restore) -> Result<u8, Failure> {
    let backup = Backup::open(&flags.from).map_err(Failure::said)?;
    let folder = flags.data.as_ref().expect("it is asked for unless a backup is only looked at");
    let restored = shown(|tell| backup.restore(folder, tell)).map_err(Failure::said)?;
    for error in &restored.unreadable {
        Progress::silent().say(&format!("ringmain: {error}\n"));
    }
    let verdict = match restored.unreadable.len() as u64 {
        0 => "all can be read".to_owned(),
        places => format!("{} places cannot be read", grouped(places)),
    };
    let (events, made, folder) = (grouped(restored.events), rfc3339(backup.made_at()), folder.display());
    let up_to = up_to(&backup);
    print(format!("{events} events {up_to} were restored into {folder} as of {made}, {verdict}\n").as_bytes())?;
    Ok(if restored.unreadable.is_empty() { 0 } else { FAILED })
}

fn up_to(backup: &Backup) -> String {
    format!("up to position {}", grouped(backup.position().map_or(0, Position::get)))
}

fn size(backup: &Backup) -> String {
    format!("{} files, {}", grouped(backup.files() as u64), bytes(backup.bytes()))
}

/// Does it, and shows how far it is.
fn shown<T>(job: impl FnOnce(&mut dyn FnMut(BackupProgress)) -> T) -> T {
    let mut line: Option<Progress> = None;
    let done = job(&mut |BackupProgress { bytes, bytes_total, .. }| {
        line.get_or_insert_with(|| Progress::of_bytes(bytes_total, false)).count_at(bytes);
    });
    if let Some(line) = line {
        line.end();
    }
    done
}
