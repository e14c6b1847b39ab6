//! A block of the pool on loan: a large payload is written where it will be read.

use std::fmt;

use crate::event::{Encoding, EventId, Payload, Priority};

use super::{Prepared, PublishError, Publisher};

/// A block of the pool on loan, to write a payload into in place.
#[must_use = "nothing is published until `publish` is called"]
pub struct Loan<'p> {
    pub(super) publisher: &'p mut Publisher,
    pub(super) bytes: usize,
}

impl Loan<'_> {
    /// The payload. It holds what the block held before.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let block = self.publisher.prepared.as_mut().and_then(|prepared| prepared.block.as_mut());
        block.map_or(&mut [], |block| &mut block.bytes_mut()[..self.bytes])
    }

    /// Publishes what was written, as raw bytes. Follows the [`FullPolicy`](crate::FullPolicy).
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(self, priority: Priority, topic: &str) -> Result<EventId, PublishError> {
        let publisher = self.publisher;
        let block = publisher.prepared.take().and_then(|prepared| prepared.block);
        let envelope = {
            let outgoing = publisher.at(priority);
            outgoing.envelope
        };
        let type_id = match publisher.resolve::<Payload<'_>, _>(&topic) {
            Ok(type_id) if type_id == 0 || envelope.source_id == 0 => {
                // Names without a number have to travel in front of the payload: the block cannot be used as it is.
                let copy = block.map(|mut block| block.bytes()[..self.bytes].to_vec()).unwrap_or_default();
                return publisher.at(priority).publish(topic, Payload::raw(&copy));
            }
            Ok(type_id) => type_id,
            Err(error) => return publisher.settle(Err(error)),
        };
        let header = publisher.header(&envelope, type_id);
        let header = header.with_payload(0, self.bytes, Encoding::Bytes, 0);
        publisher.prepared = Some(Prepared { header, priority, block, due: 0 });
        let result = match publisher.policy.wait_limit() {
            Some(limit) => publisher.keep_trying(limit, Publisher::attempt),
            None => publisher.attempt(),
        };
        publisher.settle(result)
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
