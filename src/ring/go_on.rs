//! What a worker that has panicked owes others, whatever it was at, before it goes on.
//!
//! ```text
//!   it had                                 who would wait for ever
//!   passed events, and told nobody         a publisher at a full lane
//!   told how far it came, and woken nobody a publisher at a full lane
//!   taken its alarm, and not looked        whoever set it
//! ```

use super::gate::Gate;
use super::reader::Reader;
use crate::sync::alarm::Alarm;
use crate::sync::mutant::mutant;

/// Makes good for the steps that a panic of the worker may have kept it from: publishes its cursors, wakes who waits for room, and
/// has its alarm ring.
pub fn go_on(reader: &mut Reader, gate: &Gate, alarm: &Alarm) {
    // Whoever set it may have been promised a look that came to no end.
    mutant!("restart.alarm", alarm.resume(0) => ());
    mutant!("restart.release", reader.release() => false);
    mutant!("restart.gate", gate.open() => ());
}
