//! Events of a lane, brought to their subscriptions and services.

use crate::delivery::{Route, Run, Sink};
use crate::event::{FLAG_MEASURED, FLAG_REPLAY, FLAG_TARGETED, Header, Meta};
use crate::ring::Serve;
use crate::sync::contain::contained;

use super::call::Call;
use super::restart::Given;
use super::services::{self, Passed};
use super::verdict::finish;
use super::wants::has_room;
use super::{NoRoom, Worker};

impl Worker {
    /// Brings events of a lane that has one to their subscriptions. Returns how many.
    #[inline(always)]
    pub(super) fn serve(&mut self, serve: Serve) -> Result<u32, NoRoom> {
        let lane = serve.lane;
        let Some(slot) = self.reader.peek(lane) else { return Ok(0) };
        let header = Header::of_words(slot.head);
        let (type_id, is_targeted) = (header.type_id, header.has(FLAG_TARGETED));
        if !self.table.get().knows(type_id) && self.exchange.is_stale(&self.table) {
            // The type is younger than the table; whoever made it offered a table that knows it first.
            self.adopt();
        }
        let Some(route) = self.table.get().route(type_id) else {
            if is_targeted {
                self.pass(lane, false)?;
            }
            self.step_over(lane);
            return Ok(1);
        };
        // One inline subscription is the most common case.
        if let [only] = route.targets()
            && route.is_plain(lane, self.reader.sequence(lane))
            && let Sink::Inline(handler) = &only.sink
            && !self.engine.debug
            && let Some(handler) = handler.get_mut(&mut self.owner).map(|handler| &mut ***handler)
        {
            self.under_way.begin_run();
            self.under_way.call(only.number());
            let run = Run {
                reader: &mut self.reader,
                lane,
                urgent: serve.urgent,
                type_id,
                max: serve.max,
                served: 0,
                subscription: only,
                directory: &self.engine.directory,
                interrupt: self.exchange.watch(&self.table),
                stages: &self.recorder.lanes[lane],
                stopwatch: &mut self.stopwatch,
                slow_ns: only.long_ns,
                closing: self.closing,
                measured: false,
                elapsed: None,
            };
            let served = finish(&self.engine, run, handler);
            if served > 0 {
                return Ok(served);
            }
        }
        self.pass(lane, false)?;
        self.step_over(lane);
        Ok(1)
    }

    /// The next event of `lane` was given to all.
    #[inline(always)]
    pub(super) fn step_over(&mut self, lane: usize) {
        visit!(Whole);
        self.reader.advance(lane);
        self.given = Given::NONE;
    }

    /// Brings the next event of `lane` to all its subscriptions, whatever they are; `again`, to those that have not had it.
    #[inline(never)]
    pub(super) fn pass(&mut self, lane: usize, again: bool) -> Result<(), NoRoom> {
        let sequence = self.reader.sequence(lane);
        let Some(slot) = self.reader.peek(lane) else { return Ok(()) };
        let header = Header::of_words(slot.head);
        let Some(rest) = slot.rest() else { return Ok(()) };
        let table = self.table.get();
        let route = table.route(header.type_id);
        let engine = &*self.engine;
        let Ok(meta) = Meta::new(header, rest, sequence, &engine.directory) else { return Ok(()) };
        let plain = route.is_some_and(|route| route.is_plain(lane, sequence))
            && header.deadline == 0
            && !header.has(FLAG_REPLAY);
        let targets = route.map_or(&[][..], Route::targets);
        let stages = &self.recorder.lanes[lane];
        let measured = !again && header.has(FLAG_MEASURED);
        // Written where it stays, before anybody asks for it.
        let mut call = Call {
            engine,
            lane,
            lag: &self.reader,
            stages,
            header,
            meta,
            slot,
            closing: self.closing,
            measured,
            stopwatch: &mut self.stopwatch,
            under_way: &self.under_way,
            called: false,
        };
        if !again && !plain && !has_room(targets, lane, &call.meta, &mut self.owner) {
            return Err(NoRoom);
        }
        let mut wanted = &[][..];
        if !table.services.is_empty() {
            let directed = self.directed[lane].ask(&table.services, route, &call.meta);
            if !again {
                if !services::have_room(&table.services, &directed.wanted, &mut self.owner) {
                    return Err(NoRoom);
                }
                self.recorder.conditions_unread.add(u64::from(directed.is_unread));
            }
            wanted = &directed.wanted;
        }
        if measured {
            call.stopwatch.begin(&engine.directory.clock, stages, header);
        } else {
            call.stopwatch.skip();
        }
        if !again && header.type_id == 0 {
            self.recorder.matched_by_name.add(1);
        }
        call.under_way.begin_run();
        if !again {
            self.given = Given::begins(lane);
        }
        let all = targets.len();
        let mut targets = targets[if again { self.given.targets as usize } else { 0 }..].iter();
        while !targets.as_slice().is_empty() {
            // One net for as many handlers as do not panic; whose panic it was, the targets left tell.
            let left = targets.as_slice();
            let ended = contained(|| match plain {
                true => call.deliver_inline(&mut targets, &mut self.owner),
                false => call.deliver(&mut targets, &mut self.owner),
            });
            if !matches!(ended, Some(None)) {
                self.given.targets = (all - targets.len()) as u32;
                call.book(&left[left.len() - targets.len() - 1], ended.flatten());
            }
        }
        self.given.targets = all as u32;
        visit!(Given);
        let Call { meta, slot, called, .. } = call;
        let wanted = if again { &wanted[usize::from(self.given.services)..] } else { wanted };
        for service in wanted.iter().filter_map(|&place| table.services.get(usize::from(place))) {
            services::hand_over(engine, service, Passed { lane, meta: &meta, slot: &slot }, &mut self.owner);
            self.given.services += 1;
            visit!(Served);
        }
        if !called || !wanted.is_empty() {
            // Mailboxes and instances of services took time that is not the next handler's.
            self.stopwatch.skip();
        }
        Ok(())
    }
}
