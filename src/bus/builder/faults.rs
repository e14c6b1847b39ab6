//! What is wrong with the settings of a bus: all of it, at once.

use crate::delivery::CALL_MAX_NS;
use crate::ring::{ATTEMPTS_MAX, HEAD_BYTES, RELEASES_MAX, STAMP_BYTES, WORKERS_MAX};

use super::super::BuildFault;
use super::{BusBuilder, PUBLISHERS_MAX, TYPES_MAX};

const SLOT_BYTES_MIN: usize = 128;
const SLOT_BYTES_MAX: usize = 64 * 1024;

impl BusBuilder {
    pub(super) fn batch_limit(&self) -> usize {
        self.batch_max.unwrap_or(1_024.min(self.max_queue_size.max(1)))
    }

    pub(super) fn faults(&self, workers: usize, publishers: usize) -> Vec<BuildFault> {
        let mut faults = Vec::new();
        let mut check = |setting, value: usize, min: usize, max: usize| {
            if !(min..=max).contains(&value) {
                faults.push(BuildFault::OutOfRange { setting, value, min, max });
            }
        };
        check("workers", workers, 1, WORKERS_MAX);
        check("publishers_max", publishers, 1, PUBLISHERS_MAX);
        check("slot_bytes", self.slot_bytes, SLOT_BYTES_MIN, SLOT_BYTES_MAX);
        check("max_queue_size", self.max_queue_size, 1, 1 << 26);
        check("batch_max", self.batch_limit(), 1, self.max_queue_size.min(1 << 20));
        check("turn_max", self.turn_max, 1, 1 << 20);
        let coalesce_ns = usize::try_from(self.coalesce_max.as_nanos()).unwrap_or(usize::MAX);
        check("coalesce_max in nanoseconds", coalesce_ns, 0, 1_000_000);
        check("critical_burst_max", self.critical_burst_max as usize, 1, 1 << 20);
        check("mailbox_capacity", self.mailbox_capacity, 1, 1 << 24);
        check("types_max", self.types_max, 1, TYPES_MAX);
        check("sources_max", self.sources_max, 1, TYPES_MAX);
        check("scheduled_max", self.scheduled_max, 0, 1 << 20);
        check("attempts_max", usize::from(self.retry.attempts_max), 1, usize::from(ATTEMPTS_MAX));
        let timeout_ms = usize::try_from(self.handler_timeout.as_millis()).unwrap_or(usize::MAX);
        check("handler_timeout in ms", timeout_ms, 1, (CALL_MAX_NS / 1_000_000) as usize);
        let attempt_ms = usize::try_from(self.attempt_timeout.as_millis()).unwrap_or(usize::MAX);
        check("attempt_timeout in ms", attempt_ms, 1, 24 * 3_600_000);
        check("releases_max", usize::from(self.retry.releases_max), 0, usize::from(RELEASES_MAX));
        check("dead_letters_max", self.dead_letters_max, 0, 1 << 24);
        check("dead_letter_bytes_max", self.dead_letter_bytes_max, 1 << 10, isize::MAX as usize);
        check("dead_letter_sink_max", self.dead_letter_sink_max, 1, 1 << 24);
        check("redrives_max", self.redrives_max, 1, 1 << 16);
        if let Some(expiry) = self.dead_letter_expiry {
            let expiry_ns = usize::try_from(expiry.as_nanos()).unwrap_or(usize::MAX);
            check("dead_letter_expiry in nanoseconds", expiry_ns, 1, usize::MAX);
        }
        if let Some(share) = self.memory_pressure {
            check("memory_pressure in percent", (share * 100.0) as usize, 1, 100);
        }
        check("payload_bytes_max", self.payload_bytes_max, 1, 1 << 30);
        check("condition_payload_bytes_max", self.condition_payload_bytes_max, 1, 1 << 30);
        check("blocks", self.blocks.len(), 0, 15);
        for &(bytes, count) in &self.blocks {
            check("bytes of a block", bytes, 64, 1 << 31);
            check("number of blocks", count, 1, 1 << 24);
        }
        if let Some(Err(error)) = self.throttle.map(|rate| rate.limiter()) {
            faults.push(BuildFault::Throttle(error));
        }
        if !self.slot_bytes.is_multiple_of(64) {
            faults.push(BuildFault::NotAMultiple { setting: "slot_bytes", value: self.slot_bytes, of: 64 });
        }
        if self.single_publisher && self.publishers_max != PUBLISHERS_MAX && self.publishers_max != 1 {
            faults.push(BuildFault::Contradiction {
                first: "single_publisher",
                second: "publishers_max",
                hint: "a bus with a single publisher has exactly one",
            });
        }
        if self.single_publisher && self.announces {
            faults.push(BuildFault::Contradiction {
                first: "single_publisher",
                second: "announce",
                hint: "what changes is published beside the single publisher; observe it instead",
            });
        }
        let inline_max = self.slot_bytes.saturating_sub(STAMP_BYTES + HEAD_BYTES);
        let block_max = self.blocks.iter().map(|&(bytes, _)| bytes).max().unwrap_or(0);
        if self.payload_bytes_max > inline_max.max(block_max) {
            faults.push(BuildFault::Contradiction {
                first: "payload_bytes_max",
                second: "blocks",
                hint: "no block is large enough for the longest payload; give larger blocks, or lower payload_bytes_max",
            });
        }
        if self.name.is_empty() || self.name.len() > 100 || self.name.contains('\0') {
            faults.push(BuildFault::Name { bytes: self.name.len() });
        }
        faults
    }
}
