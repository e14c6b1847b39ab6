//! ringmain's lanes by themselves: what is left when routing, header fields, measuring and waking are taken away.
//!
//! No rival and no product: the limit of everything that is built on these slots. One lane is pushed to by the claim
//! that ringmain's publishers use and read by the reader that its workers use, through the door that is open to
//! benchmarks only. The loop around it is the rivals'.

use std::sync::Arc;

use ringmain::internals::ring::{
    Claimant, HEAD_BYTES, HEAD_WORDS, Head, Lanes, LanesLayout, Pages, Pool, Reader, STAMP_BYTES,
};

use super::{Ends, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, until_empty};
use crate::event::Draft;
use crate::questions::Question;

/// Many publishers: claims by fetch-add.
#[derive(Debug)]
pub(crate) struct BareRing;

/// One publisher: claims by a plain store.
#[derive(Debug)]
pub(crate) struct BareRingSingle;

/// The lane that is used, of four.
const LANE: usize = 2;
/// What a slot holds before the payload; here it says nothing.
const HEAD: Head = [0; HEAD_WORDS];

/// The claiming end, with a payload to write into where it cannot be written into the slot.
#[derive(Debug)]
pub(crate) struct Feed<const WORDS: usize> {
    claimant: Claimant,
    scratch: Box<[[u8; 8]; WORDS]>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Tap<const WORDS: usize>(Reader);

impl Subject for BareRing {
    const NAME: &'static str = "bare-ring";
    const RIVAL: bool = false;
    const PUBLISHERS: Publishers = Publishers::Many;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = Feed<WORDS>;
    type Consumer<const WORDS: usize> = Tap<WORDS>;

    fn takes_part(question: Question) -> bool {
        takes_part(question)
    }

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        open(plan, Publishers::Many)
    }
}

impl Subject for BareRingSingle {
    const NAME: &'static str = "bare-ring-single";
    const RIVAL: bool = false;
    const PUBLISHERS: Publishers = Publishers::One;
    const PARKS: bool = false;
    type Publisher<const WORDS: usize> = Feed<WORDS>;
    type Consumer<const WORDS: usize> = Tap<WORDS>;

    fn takes_part(question: Question) -> bool {
        takes_part(question)
    }

    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
        open(plan, Publishers::One)
    }
}

/// A bare ring has neither priorities nor a way to sleep.
fn takes_part(question: Question) -> bool {
    question.is_about_throughput()
        || matches!(question, Question::Paced100k | Question::Pingpong | Question::Burst | Question::OneCore)
}

fn open<const WORDS: usize>(plan: &Plan, publishers: Publishers) -> Ends<Feed<WORDS>, Tap<WORDS>> {
    // The headroom that claims by fetch-add need; a single publisher needs none.
    let headroom = match publishers {
        Publishers::One => 0,
        Publishers::Many => plan.seating.publishers.len(),
    };
    let layout = LanesLayout {
        slots: plan.capacity,
        slot_bytes: STAMP_BYTES + HEAD_BYTES + size_of::<[u64; WORDS]>(),
        limit: (plan.capacity - headroom) as u64,
        workers: plan.receivers(),
        first: 0,
        pages: Pages::Any,
    };
    let pool = Pool::new(&[], Pages::Any).expect("it is empty");
    let mut lanes = Lanes::new(layout, Arc::new(pool)).expect("some MiB can be had");
    // Others write each slot when they are made.
    lanes.pieces().for_each(|mut piece| piece.touch());
    let lanes = Arc::new(lanes);
    let consumers = (0..layout.workers)
        .map(|worker| {
            let mut reader = Reader::new(Arc::clone(&lanes), worker);
            reader.activate();
            Tap(reader)
        })
        .collect();
    let exclusive = publishers == Publishers::One;
    let feed = |_| Feed { claimant: Claimant::new(Arc::clone(&lanes), exclusive), scratch: Box::new([[0; 8]; WORDS]) };
    Ends { publishers: plan.seating.publishers.iter().map(feed).collect(), consumers }
}

impl<const WORDS: usize> Publisher for Feed<WORDS> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        if self.claimant.make_sure(LANE, 1).is_err() {
            return false;
        }
        let Some(room) = self.claimant.room(LANE) else { return false };
        let mut room = room.draft(|| self.scratch.as_flattened_mut());
        let payload = room.buffer().as_chunks_mut::<8>().0.first_chunk_mut::<WORDS>();
        draft.write_payload(payload.expect("a slot is made for the payload"));
        room.commit(HEAD, size_of::<[u64; WORDS]>());
        true
    }
}

impl<const WORDS: usize> Pull for Tap<WORDS> {
    #[inline]
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
        let polled = until_empty(sink, |sink| {
            let Some(slot) = self.0.peek(LANE) else { return false };
            let payload = slot.rest().and_then(|rest| rest.as_chunks::<8>().0.first_chunk::<WORDS>());
            match payload {
                Some(payload) => sink.event(payload),
                None => sink.torn(),
            }
            self.0.advance(LANE);
            true
        });
        self.0.release();
        polled
    }
}
