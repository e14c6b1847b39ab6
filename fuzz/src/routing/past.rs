//! What a bus has been through: cases share it, and one that fails only after others must be run again with them.
//!
//! A series of cases is an input like any other: its first bytes say that it is one, and the length of each case stands
//! before it, in four bytes.

use std::cell::RefCell;
use std::{fs, panic, process};

/// Longer than chance makes it.
const SERIES: &[u8] = b"cases on one bus:";

thread_local! {
    /// The past of the bus that is in use: its owner has no time to write it down when it panics.
    static IN_USE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The inputs of all cases on one bus.
#[derive(Debug, Default)]
pub(super) struct Past {
    inputs: Vec<u8>,
    cases: usize,
}

impl Past {
    /// Cases that are over.
    pub(super) fn cases(&self) -> usize {
        self.cases
    }

    pub(super) fn begin(&mut self, input: &[u8]) {
        self.inputs.extend((input.len() as u32).to_le_bytes());
        self.inputs.extend(input);
        IN_USE.with_borrow_mut(|inputs| std::mem::swap(inputs, &mut self.inputs));
    }

    pub(super) fn end(&mut self) {
        IN_USE.with_borrow_mut(|inputs| std::mem::swap(inputs, &mut self.inputs));
        self.cases += 1;
    }
}

/// The cases, if `data` is a series of them.
pub(super) fn series(data: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let mut rest = data.strip_prefix(SERIES)?;
    Some(std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let (case, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = behind;
        Some(case)
    }))
}

/// The series of cases on the bus that is in use, the last of which may not be over.
pub(super) fn written_down() -> Vec<u8> {
    IN_USE.with_borrow(|inputs| [SERIES, inputs].concat())
}

/// Writes the series down at every panic from now on, beside libFuzzer's artifacts.
pub(super) fn keep() {
    let place = std::env::args().find_map(|it| Some(it.strip_prefix("-artifact_prefix=")?.to_owned()));
    let file = format!("{}series-{}", place.unwrap_or_default(), process::id());
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        match fs::write(&file, written_down()) {
            Ok(()) => eprintln!("all cases on this bus are in {file}"),
            Err(error) => eprintln!("{file} cannot be written: {error}"),
        }
        before(info);
    }));
}
