//! The publisher's side of the data path: encode, look who wants it, claim, copy, commit, wake.

use crate::event::{Encode, EncodeFault, EventId, Header, Priority, RustType, Tag, check_name};
use crate::ring::{Block, Frame, LaneFull, Rest};
use crate::worker::Scheduled;

use super::refusal::{closed, lane_full, waits};
use super::{CACHE, Envelope, Known, Permit, Prepared, PublishError, Publisher, Subject};

/// Where the cache keeps a typed topic.
#[inline]
fn entry(name: &'static str) -> usize {
    ((name.as_ptr() as usize / 4) ^ name.len()) % CACHE
}

impl Publisher {
    /// The id of a topic: as this publisher knows it, or by the directory.
    #[inline]
    pub(super) fn resolve<P, S: Subject<P>>(&mut self, topic: &S) -> Result<u32, PublishError> {
        match self.known(topic) {
            Some(type_id) => Ok(type_id),
            None => match topic.typed() {
                Some((name, rust)) => self.meet_typed(name, rust),
                None => self.meet(topic.name()),
            },
        }
    }

    #[inline]
    fn known<P, S: Subject<P>>(&self, topic: &S) -> Option<u32> {
        match topic.typed() {
            Some((name, rust)) => match &self.cache[entry(name)] {
                Some(known) if std::ptr::eq(known.name, name) && known.rust.id == rust.id => Some(known.type_id),
                _ => None,
            },
            None => self.names.get(topic.name()).copied(),
        }
    }

    /// A typed topic that is not in the cache.
    #[cold]
    fn meet_typed(&mut self, name: &'static str, rust: RustType) -> Result<u32, PublishError> {
        let key = (name.as_ptr() as usize, name.len(), rust.id);
        let type_id = match self.typed.get(&key) {
            Some(&type_id) => type_id,
            None => {
                let type_id = self.shared.type_id(name);
                self.engine.directory.bind(type_id, name, rust).map_err(PublishError::TypeConflict)?;
                if type_id != 0 {
                    self.typed.insert(key, type_id);
                }
                type_id
            }
        };
        if type_id != 0 {
            self.cache[entry(name)] = Some(Known { name, rust, type_id });
        }
        Ok(type_id)
    }

    #[cold]
    fn meet(&mut self, name: &str) -> Result<u32, PublishError> {
        check_name(name).map_err(PublishError::Topic)?;
        let type_id = self.shared.type_id(name);
        if type_id != 0 {
            self.names.insert(name.into(), type_id);
        }
        Ok(type_id)
    }

    pub(super) fn take_block(&self, bytes: usize) -> Result<Block, PublishError> {
        let engine = &self.engine;
        let max = engine.pool.block_bytes_max();
        if bytes > max {
            // Waiting would be in vain.
            return Err(PublishError::NoBlock { bytes, max });
        }
        let taken = engine.pool.take(bytes).ok_or_else(|| {
            // Sleeping laggards may hold blocks that they have no use for.
            engine.parker.wake(engine.lanes.active());
            PublishError::PoolExhausted { bytes }
        });
        engine.feel_blocks();
        taken
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
        let max = self.payload_bytes_max;
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
        let encoded = match self.needs.take() {
            Some(bytes) => Err(EncodeFault::Needs(bytes)),
            None => payload.encode(room, &mut self.arena),
        };
        let (bytes, block) = match encoded {
            // The fields alone may be too long for a slot, and the payload empty.
            Ok(bytes) if extension_bytes > self.scratch.len() => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Ok(bytes) if bytes <= self.payload_bytes_max => (bytes, None),
            Ok(bytes) => {
                return Err(PublishError::TooLarge { bytes, max: self.payload_bytes_max });
            }
            Err(EncodeFault::Needs(bytes)) => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Err(EncodeFault::Refused) => return Err(PublishError::Encode),
        };
        let header = self.header(envelope, type_id);
        Ok((
            header.with_payload(extension_bytes, bytes, payload.encoding(), payload.flags() | self.extension.flags()),
            block,
        ))
    }

    pub(super) fn header(&mut self, envelope: &Envelope, type_id: u32) -> Header {
        let (engine, flags, lane) = (&*self.engine, self.extension.flags(), envelope.priority.lane());
        let wakes = || engine.parker.seems_parked(|| engine.wanted_by(type_id, flags, lane));
        self.stamps.header(engine, envelope, type_id, wakes)
    }

    /// Whether an event that is not to wait would find its lane full: asked before it is encoded, since whoever is
    /// refused may come again and again.
    pub(super) fn finds_full<P, S: Subject<P>>(&mut self, topic: &S, envelope: &Envelope) -> Option<LaneFull> {
        let (priority, lane) = (envelope.priority, envelope.priority.lane());
        if envelope.due != 0 || self.extension.has_fault() || self.is_careful(priority) {
            return None;
        }
        let type_id = self.resolve(topic).ok()?;
        if self.engine.wanted_by(type_id, self.extension.flags(), lane) == 0 {
            return None;
        }
        match self.claimant.make_sure(lane, 1) {
            Ok(false) => None,
            looked => {
                if looked.is_ok() {
                    self.engine.parker.wake(self.engine.lanes.active());
                }
                // This look was the publish's own: what follows does not look again.
                self.engine.feel_pressure();
                looked.err()
            }
        }
    }

    /// Makes sure of room in a lane, and wakes workers that sleep although it fills up: they have no target for what
    /// comes, but hold its slots.
    pub(in crate::bus) fn make_sure(&mut self, lane: usize, count: usize) -> Result<(), LaneFull> {
        if self.claimant.make_sure(lane, count as u64)? {
            self.engine.parker.wake(self.engine.lanes.active());
        }
        Ok(())
    }

    /// Tries once more to bring the event that is encoded already into its lane.
    #[cold]
    pub(super) fn attempt(&mut self) -> Result<EventId, PublishError> {
        let Some(mut prepared) = self.prepared.take() else { return Err(PublishError::Encode) };
        let result = if prepared.due != 0 {
            self.schedule(&mut prepared)
        } else {
            self.send(&prepared.header, prepared.priority, prepared.block.as_mut())
        };
        if matches!(&result, Err(error) if waits(error)) {
            self.keep(prepared);
        }
        result
    }

    /// Keeps an encoded event that waits. Should who waits be forgotten, the next event goes the long way, which lets go of it.
    fn keep(&mut self, prepared: Prepared) {
        self.latest.forget();
        self.prepared = Some(prepared);
    }

    /// Brings an encoded event into its lane, from the scratch or a block.
    fn send(
        &mut self,
        header: &Header,
        priority: Priority,
        mut block: Option<&mut Block>,
    ) -> Result<EventId, PublishError> {
        let unknown =
            self.unknown_targets(header, || block.as_deref_mut().map_or(&self.scratch[..], |block| block.bytes()));
        let mut permit = None;
        if self.look_ahead(priority)? {
            permit = Some(self.permit(header, block.as_deref_mut())?);
        }
        let sent = self.send_permitted(header, priority, block.as_deref());
        if let (Err(_), Some(permit)) = (&sent, &permit) {
            self.give_back(permit);
        }
        if sent.is_ok() {
            self.count_unknown(unknown);
        }
        sent
    }

    /// Lets an event pass the rate limits on it.
    fn permit(&mut self, header: &Header, block: Option<&mut Block>) -> Result<Permit, PublishError> {
        let bytes = header.rest_bytes();
        let scratch = std::mem::take(&mut self.scratch);
        let rest = match block {
            Some(block) => &block.bytes()[..bytes],
            None => &scratch[..bytes],
        };
        let mut permit = self.limits_on(header, rest);
        self.scratch = scratch;
        self.pass(&mut permit)?;
        Ok(permit)
    }

    fn send_permitted(
        &mut self,
        header: &Header,
        priority: Priority,
        block: Option<&Block>,
    ) -> Result<EventId, PublishError> {
        let Self { engine, slot, claimant, policy, scratch, .. } = self;
        let lane = priority.lane();
        let Some(inside) = slot.enter(&engine.admission) else { return Err(closed(engine)) };
        let workers = engine.wanted_by(header.type_id, header.flags, lane);
        if workers == 0 {
            inside.counts().pass_over(1);
            return Ok(header.event_id());
        }
        if let Some(shed) = policy.sheds(priority, claimant, engine.lanes.limit()) {
            return Err(shed);
        }
        let rest = match block {
            Some(block) => Rest::Block(block, workers),
            None => Rest::Inline(&scratch[..header.rest_bytes()]),
        };
        let laggards = claimant.make_sure(lane, 1);
        let pushed = laggards.and_then(|laggards| {
            claimant.push(lane, Frame { head: header.as_words(), rest })?;
            inside.counts().route(1);
            Ok(laggards)
        });
        // Waking takes its time, and nobody has to wait for it who waits for publishers to leave.
        drop(inside);
        match pushed {
            Ok(laggards) => {
                engine.parker.wake(if laggards { engine.lanes.active() } else { workers });
                if laggards {
                    engine.feel_pressure();
                }
                Ok(header.event_id())
            }
            Err(full) => {
                engine.feel_pressure();
                self.wake_holders(lane);
                Err(lane_full(priority, full))
            }
        }
    }

    /// Hands an encoded event to the timers.
    fn schedule(&mut self, prepared: &mut Prepared) -> Result<EventId, PublishError> {
        let Prepared { header, block, .. } = &mut *prepared;
        let unknown = self.unknown_targets(header, || block.as_mut().map_or(&self.scratch[..], |block| block.bytes()));
        let mut permit = None;
        if self.look_ahead(prepared.priority)? {
            permit = Some(self.permit(&prepared.header, prepared.block.as_mut())?);
        }
        let scheduled = self.schedule_permitted(prepared);
        match (&scheduled, &permit) {
            (Ok(_), _) => self.count_unknown(unknown),
            (Err(_), Some(permit)) => self.give_back(permit),
            (Err(_), None) => {}
        }
        scheduled
    }

    fn schedule_permitted(&mut self, prepared: &mut Prepared) -> Result<EventId, PublishError> {
        let bytes = prepared.header.rest_bytes();
        let rest = match prepared.block.take() {
            Some(block) => block,
            None => {
                let mut block = self.take_block(bytes)?;
                block.bytes_mut()[..bytes].copy_from_slice(&self.scratch[..bytes]);
                block
            }
        };
        let schedule = &self.engine.schedule;
        let Some(inside) = self.slot.enter(&self.engine.admission) else { return Err(closed(&self.engine)) };
        let put = schedule.put(Scheduled { due: prepared.due, header: prepared.header, rest });
        if put.is_ok() {
            inside.counts().accepted.add(1);
        }
        drop(inside);
        match put {
            Ok(()) => {
                self.engine.parker.wake(1);
                Ok(prepared.header.event_id())
            }
            Err(_) => Err(PublishError::ScheduleFull { max: schedule.max() }),
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
                self.keep(Prepared { header, priority: envelope.priority, block, due: 0 });
            }
            return result;
        }
        self.prepared = Some(Prepared { header, priority: envelope.priority, block, due: envelope.due });
        self.attempt()
    }
}
