//! Every way to publish, with events that carry a number.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringmain::{Bus, EventId, Meta, Payload, Priority, PublishError, Publisher, RequestError, Topic};
use rkyv::{Archive, Serialize};

/// Its own archive.
const FLAT: Topic<u64> = Topic::new("mark.flat");
const ANSWER: Topic<u64> = Topic::new("answer");
const WORD: Topic<Word> = Topic::new("mark.word");
/// More than fits a slot.
const LARGE_BYTES: usize = 900;
const BATCH: u64 = 3;

#[derive(Archive, Serialize)]
struct Word {
    id: u64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Flat,
    Try,
    Encoded,
    Envelope,
    Large,
    Loan,
    Deadline,
    Async,
    Batch,
    Frame,
    FrameAt,
    Request,
    Lent,
}

/// First those that a bus for a single publisher has.
pub(crate) const FORMS: [Form; 13] = [
    Form::Flat,
    Form::Try,
    Form::Encoded,
    Form::Envelope,
    Form::Large,
    Form::Loan,
    Form::Deadline,
    Form::Async,
    Form::Batch,
    Form::Frame,
    Form::FrameAt,
    Form::Request,
    Form::Lent,
];
/// How many that are.
pub(crate) const OF_ONE: usize = 11;

fn large(id: u64) -> Vec<u8> {
    let mut bytes = vec![7; LARGE_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

fn word(id: u64) -> Word {
    Word { id, text: "a word longer than what rkyv keeps in place".to_owned() }
}

impl Form {
    /// Events of one publish.
    pub(crate) fn events(self) -> u64 {
        if self == Self::Batch { BATCH } else { 1 }
    }

    /// How often a publish visits the window between claim and commit.
    pub(crate) fn visits(self) -> u32 {
        self.events() as u32 + 1
    }

    /// The first sequence of a publish that is stopped at its visit of this number, with this sequence.
    pub(crate) fn first(self, visit: u32, sequence: u64) -> u64 {
        if visit == 0 { sequence } else { sequence.wrapping_sub(self.events() - u64::from(visit)) }
    }

    /// The priority it publishes at, when asked for another.
    pub(crate) fn priority(self, wish: Priority) -> Priority {
        if self == Self::Lent { Priority::Normal } else { wish }
    }

    /// Publishes events of these numbers, from `id` on.
    pub(crate) fn publish(
        self,
        bus: &Bus,
        publisher: &mut Publisher,
        priority: Priority,
        id: u64,
    ) -> Result<(), PublishError> {
        let bytes = id.to_le_bytes();
        let raw = Payload::raw(&bytes);
        match self {
            Self::Flat => publisher.at(priority).publish(FLAT, &id).map(drop),
            Self::Try => publisher.at(priority).try_publish("mark.raw", raw).map(drop),
            Self::Encoded => publisher.at(priority).publish(WORD, &word(id)).map(drop),
            Self::Envelope => {
                let event = publisher.at(priority).correlation(EventId::from(7)).metadata("k", "v");
                event.publish("mark.raw", raw).map(drop)
            }
            Self::Large => publisher.at(priority).publish("mark.raw", Payload::raw(&large(id))).map(drop),
            Self::Loan => {
                let mut loan = publisher.loan(LARGE_BYTES)?;
                loan.bytes_mut().copy_from_slice(&large(id));
                loan.publish(priority, "mark.raw").map(drop)
            }
            Self::Deadline => publisher.at(priority).publish_deadline(FLAT, &id, Duration::from_secs(60)).map(drop),
            Self::Async => {
                let mut future = pin!(publisher.at(priority).publish_async("mark.raw", raw));
                match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => result.map(drop),
                    Poll::Pending => Err(PublishError::Full { priority, depth: 0, limit: 0, gated_by: None }),
                }
            }
            Self::Batch => {
                let mut batch = publisher.batch(priority);
                batch.add(FLAT, &id)?;
                batch.add("mark.raw", Payload::raw(&large(id + 1)))?;
                batch.add(WORD, &word(id + 2))?;
                batch.publish().map(drop)
            }
            Self::Frame => {
                let frame = publisher.at(priority).metadata("k", "v").to_frame("mark.raw", raw)?;
                publisher.publish_frame(&frame).map(drop)
            }
            Self::FrameAt => {
                let frame = publisher.event().to_frame("mark.raw", Payload::raw(&large(id)))?;
                publisher.frame(&frame).priority(priority).at_position(id).publish().map(drop)
            }
            Self::Request => {
                let requester = bus.requester(FLAT, ANSWER).expect("there is room for its answers");
                let requester = requester.priority(priority);
                let mut asked = pin!(requester.request_async(&id, Duration::from_secs(86_400)));
                match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Err(RequestError::Publish(error))) => Err(error),
                    Poll::Ready(told) => panic!("nobody has answered: {told:?}"),
                    Poll::Pending => Ok(()),
                }
            }
            Self::Lent => bus.publish("mark.raw", raw).map(drop),
        }
    }
}

/// The number that an event carries.
pub(crate) fn id_of(payload: Payload<'_>, meta: &Meta<'_>) -> u64 {
    if meta.topic() == WORD.name() {
        let word = payload.archived::<Word>().expect("it was encoded here");
        assert_eq!(word.text.len(), 43);
        return word.id.to_native();
    }
    u64::from_le_bytes(*payload.bytes().first_chunk().expect("every event carries a number"))
}
