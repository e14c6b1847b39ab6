//! The publisher's side of the data path: encode, look who wants it, claim, copy, commit, wake.

use crate::event::{Encode, EncodeFault, EventId, FLAG_MEASURED, FLAG_STAMPED, Header, Priority, Tag, check_name};
use crate::ring::{Block, Frame, Rest};
use crate::worker::{Scheduled, StampPolicy};

use super::refusal::{lane_full, waits};
use super::{CACHE, Envelope, Known, Prepared, PublishError, Publisher, Subject, blank_header};

impl Publisher {
    /// The id of a topic: from the cache, or by the directory.
    #[inline]
    pub(super) fn resolve<P, S: Subject<P>>(&mut self, topic: &S) -> Result<u32, PublishError> {
        match topic.typed() {
            Some((name, rust)) => {
                let entry = ((name.as_ptr() as usize / 4) ^ name.len()) % CACHE;
                if let Some(known) = self.cache[entry]
                    && std::ptr::eq(known.name, name)
                    && known.rust.id == rust.id
                {
                    return Ok(known.type_id);
                }
                let key = (name.as_ptr() as usize, name.len(), rust.id);
                let type_id = match self.typed.get(&key) {
                    Some(&type_id) => type_id,
                    None => {
                        let type_id = self.shared.type_id(name);
                        self.shared.engine.directory.bind(type_id, name, rust).map_err(PublishError::TypeConflict)?;
                        if type_id != 0 {
                            self.typed.insert(key, type_id);
                        }
                        type_id
                    }
                };
                if type_id != 0 {
                    self.cache[entry] = Some(Known { name, rust, type_id });
                }
                Ok(type_id)
            }
            None => {
                let name = topic.name();
                if let Some(&type_id) = self.names.get(name) {
                    return Ok(type_id);
                }
                check_name(name).map_err(PublishError::Topic)?;
                let type_id = self.shared.type_id(name);
                if type_id != 0 {
                    self.names.insert(name.into(), type_id);
                }
                Ok(type_id)
            }
        }
    }

    pub(super) fn take_block(&self, bytes: usize) -> Result<Block, PublishError> {
        let engine = &self.shared.engine;
        let max = engine.pool.block_bytes_max();
        if bytes > max {
            // Waiting would be in vain.
            return Err(PublishError::NoBlock { bytes, max });
        }
        engine.pool.take(bytes).ok_or_else(|| {
            // Sleeping laggards may hold blocks that they have no use for.
            engine.parker.wake(engine.lanes.active());
            PublishError::PoolExhausted { bytes }
        })
    }

    /// Copies the envelope's fields to the front of the scratch, where they fit. Returns their length.
    #[cold]
    fn place_extension(&mut self, type_id: u32, name: &str) -> Result<usize, PublishError> {
        if type_id == 0 && self.extension.claim_name() {
            self.extension.text(Tag::TypeName, "topic", name, crate::event::NAME_BYTES_MAX);
        }
        let extension = self.extension.finish().map_err(PublishError::Envelope)?;
        if let Some(place) = self.scratch.get_mut(..extension.len()) {
            place.copy_from_slice(extension);
        }
        Ok(extension.len())
    }

    /// Encodes an event into a block.
    #[cold]
    fn encode_large<P: Encode>(
        &mut self,
        payload: &P,
        extension_bytes: usize,
        bytes: usize,
    ) -> Result<(usize, Block), PublishError> {
        let max = self.shared.settings.payload_bytes_max;
        if bytes > max {
            return Err(PublishError::TooLarge { bytes, max });
        }
        let mut block = self.take_block(extension_bytes + bytes)?;
        let (front, room) = block.bytes_mut().split_at_mut(extension_bytes);
        if extension_bytes > 0 {
            front.copy_from_slice(self.extension.finish().map_err(PublishError::Envelope)?);
        }
        match payload.encode(room, &mut self.arena) {
            Ok(bytes) if bytes <= max => Ok((bytes, block)),
            Ok(bytes) | Err(EncodeFault::Needs(bytes)) => Err(PublishError::TooLarge { bytes, max }),
            Err(EncodeFault::Refused) => Err(PublishError::Encode),
        }
    }

    /// Encodes an event: a short one into the scratch, a long one into a block. Nothing is claimed, so user code may
    /// fail or panic here.
    #[inline]
    pub(super) fn encode<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        envelope: &Envelope,
    ) -> Result<(Header, Option<Block>), PublishError> {
        let type_id = self.resolve(topic)?;
        let extension_bytes =
            if type_id != 0 && self.extension.is_empty() { 0 } else { self.place_extension(type_id, topic.name())? };
        let room = self.scratch.get_mut(extension_bytes..).unwrap_or(&mut []);
        let (bytes, block) = match payload.encode(room, &mut self.arena) {
            // The fields alone may be too long for a slot, and the payload empty.
            Ok(bytes) if extension_bytes > self.scratch.len() => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Ok(bytes) if bytes <= self.shared.settings.payload_bytes_max => (bytes, None),
            Ok(bytes) => {
                return Err(PublishError::TooLarge { bytes, max: self.shared.settings.payload_bytes_max });
            }
            Err(EncodeFault::Needs(bytes)) => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Err(EncodeFault::Refused) => return Err(PublishError::Encode),
        };
        let mut header = self.header(envelope, type_id, extension_bytes);
        header.payload_bytes = bytes as u32;
        header.encoding = payload.encoding() as u8;
        header.flags |= payload.flags();
        Ok((header, block))
    }

    #[inline]
    pub(super) fn header(&mut self, envelope: &Envelope, type_id: u32, extension_bytes: usize) -> Header {
        let stamped = match self.shared.settings.stamps {
            StampPolicy::Every => true,
            StampPolicy::OneIn(every) => {
                self.unstamped += 1;
                self.unstamped >= every || self.finds_a_sleeper(type_id, envelope.priority)
            }
        };
        if stamped {
            self.take_stamp();
        }
        let id = envelope.id.unwrap_or_else(|| self.ids.next());
        let foreign_time = envelope.time != 0;
        Header {
            type_id,
            id: *id.as_bytes(),
            time: if foreign_time { envelope.time } else { self.stamp },
            deadline: envelope.deadline,
            source_id: envelope.source_id,
            extension_bytes: extension_bytes as u16,
            schema: envelope.schema,
            priority: envelope.priority as u8,
            attempt: envelope.attempt,
            // An event that came with its own time, or waits on purpose, says nothing about this bus's latency.
            flags: match stamped {
                true if !foreign_time && envelope.due == 0 => FLAG_MEASURED | FLAG_STAMPED,
                true => FLAG_MEASURED,
                false => 0,
            },
            ..blank_header()
        }
    }

    #[inline]
    fn finds_a_sleeper(&self, type_id: u32, priority: Priority) -> bool {
        let engine = &self.shared.engine;
        engine.parker.any_parked(engine.wants.workers(type_id, priority.lane()))
    }

    #[inline]
    fn take_stamp(&mut self) {
        let clock = &self.shared.engine.directory.clock;
        self.unstamped = 0;
        self.stamp = clock.now();
        self.ids.at(clock.unix_ns(self.stamp));
    }

    /// Tries once more to bring the event that is encoded already into its lane.
    #[cold]
    pub(super) fn attempt(&mut self) -> Result<EventId, PublishError> {
        let Some(mut prepared) = self.prepared.take() else { return Err(PublishError::Encode) };
        let result = if prepared.due != 0 {
            self.schedule(&mut prepared)
        } else {
            self.send(&prepared.header, prepared.priority, prepared.block.as_ref())
        };
        if matches!(&result, Err(error) if waits(error)) {
            self.prepared = Some(prepared);
        }
        result
    }

    /// Brings an encoded event into its lane, from the scratch or a block.
    #[inline]
    fn send(&mut self, header: &Header, priority: Priority, block: Option<&Block>) -> Result<EventId, PublishError> {
        if !self.shared.engine.enter(self.place) {
            return Err(PublishError::ShuttingDown);
        }
        let result = self.send_inside(header, priority, block);
        self.shared.engine.leave(self.place);
        result
    }

    #[inline]
    fn send_inside(
        &mut self,
        header: &Header,
        priority: Priority,
        block: Option<&Block>,
    ) -> Result<EventId, PublishError> {
        let engine = &*self.shared.engine;
        let counts = &engine.publishers[self.place].counts;
        let lane = priority.lane();
        let workers = engine.wants.workers(header.type_id, lane);
        if workers == 0 {
            counts.unmatched.add(1);
            counts.accepted.add(1);
            return Ok(header.event_id());
        }
        if let Some(shed) = self.policy.sheds(priority, &mut self.claimant, engine.lanes.limit()) {
            return Err(shed);
        }
        let rest = match block {
            Some(block) => Rest::Block(block, workers),
            None => Rest::Inline(&self.scratch[..header.rest_bytes()]),
        };
        match self.claimant.push(lane, Frame { head: header.as_words(), rest }) {
            Ok(sequence) => {
                counts.routed.add(1);
                counts.accepted.add(1);
                engine.parker.wake(workers);
                self.wake_laggards(lane, sequence);
                Ok(header.event_id())
            }
            Err(full) => {
                engine.parker.wake(engine.lanes.active());
                Err(lane_full(priority, full))
            }
        }
    }

    /// Wakes workers that sleep although their lane fills up: they have no target for what comes, but hold its slots.
    #[inline]
    pub(in crate::bus) fn wake_laggards(&mut self, lane: usize, sequence: u64) {
        if (sequence.wrapping_sub(self.laggards_at[lane]) as i64) < 0 {
            return;
        }
        let engine = &self.shared.engine;
        let limit = engine.lanes.limit();
        self.laggards_at[lane] = sequence.wrapping_add(limit / 8 + 1);
        if self.claimant.depth_if_above(lane, limit / 2) > limit / 2 {
            engine.parker.wake(engine.lanes.active());
        }
    }

    /// Hands an encoded event to the timers.
    fn schedule(&mut self, prepared: &mut Prepared) -> Result<EventId, PublishError> {
        let bytes = prepared.header.rest_bytes();
        let rest = match prepared.block.take() {
            Some(block) => block,
            None => {
                let mut block = self.take_block(bytes)?;
                block.bytes_mut()[..bytes].copy_from_slice(&self.scratch[..bytes]);
                block
            }
        };
        let engine = &*self.shared.engine;
        if !engine.enter(self.place) {
            return Err(PublishError::ShuttingDown);
        }
        let put = engine.schedule.put(Scheduled { due: prepared.due, header: prepared.header, rest });
        if put.is_ok() {
            self.counts().accepted.add(1);
            engine.parker.wake(1);
        }
        engine.leave(self.place);
        match put {
            Ok(()) => Ok(prepared.header.event_id()),
            Err(_) => Err(PublishError::ScheduleFull { max: engine.schedule.max() }),
        }
    }

    /// One try of an event that may have been encoded already.
    #[inline]
    pub(super) fn once<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        envelope: &Envelope,
    ) -> Result<EventId, PublishError> {
        if self.prepared.is_some() {
            return self.attempt();
        }
        let (header, block) = self.encode(topic, payload, envelope)?;
        if block.is_none() && envelope.due == 0 {
            let result = self.send(&header, envelope.priority, None);
            if matches!(&result, Err(error) if waits(error)) {
                self.prepared = Some(Prepared { header, priority: envelope.priority, block, due: 0 });
            }
            return result;
        }
        self.prepared = Some(Prepared { header, priority: envelope.priority, block, due: envelope.due });
        self.attempt()
    }
}
