//! Bodies: archives that nobody vouches for are refused or read, never worse; what is read is a value like any other.
//!
//! The first byte says of which type the archive claims to be, whether what follows is the archive itself, a value to
//! encode and then to tamper with, or the depth of a bomb, and how far from an aligned address it is read a second time.

#[cfg(test)]
mod tests;
mod types;

use std::sync::{Arc, Mutex};

use arbitrary::Unstructured;
use ringmain::internals::Encode;
use ringmain::testing::Simulation;
use ringmain::{Bus, DecodeError, Encoding, Payload, Publisher, SubscriptionLedger};
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Error;
use rkyv::ser::allocator::Arena;
use rkyv::{Archive, Deserialize, Serialize, api::high::HighSerializer, util::AlignedVec};

use types::{Body, DEPTH_MAX, Flat, Nest, Shared, Tables, Texts};

const ALIGN: usize = 16;
/// Bytes behind an aligned address: each alignment that a type may ask for is missed by one of them.
const OFFS: [usize; 4] = [1, 2, 4, 8];
/// A bomb that would crash whoever followed it on a stack of some MiB; large and therefore rare.
const BOMB_DEPTH: usize = 100_000;
/// Longer than any archive of a value that 1 KiB of input makes.
const ROOM_BYTES: usize = 16 << 10;
/// What room holds that nobody wrote to.
const NOISE: u8 = 0xA5;

thread_local! {
    /// One bus for all cases: what it makes of an event does not depend on the events before.
    static READERS: std::cell::RefCell<Readers> = std::cell::RefCell::new(Readers::new());
}

/// Reads `data` as an archive, or an archive built out of `data`, through a payload and through a bus.
///
/// # Panics
///
/// If what is read is not what was written, or depends on the way it came.
pub fn check(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    READERS.with_borrow_mut(|readers| {
        let Readers { flat, texts, tables, shared, nest, inlet } = readers;
        let off = OFFS[usize::from(choice / 40) % OFFS.len()];
        let way = match choice / 5 % 8 {
            0..=2 => Way::Raw,
            3..=6 => Way::Tampered,
            _ => Way::Bomb,
        };
        // Too few bytes for a case are no case.
        let _ = match (way, choice % 5) {
            (Way::Bomb, _) => nest.explode(inlet, &mut Unstructured::new(data)),
            (way, 0) => flat.check(inlet, data, way, off),
            (way, 1) => texts.check(inlet, data, way, off),
            (way, 2) => tables.check(inlet, data, way, off),
            (way, 3) => shared.check(inlet, data, way, off),
            (way, _) => nest.check(inlet, data, way, off),
        };
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Raw,
    Tampered,
    Bomb,
}

/// A bus with a reader of each type.
struct Readers {
    flat: Reader<Flat>,
    texts: Reader<Texts>,
    tables: Reader<Tables>,
    shared: Reader<Shared>,
    nest: Reader<Nest>,
    inlet: Inlet,
}

/// Where events enter the bus.
struct Inlet {
    publisher: Publisher,
    simulation: Simulation,
    /// The books of all subscriptions after the last event.
    books: SubscriptionLedger,
    encoder: Encoder,
}

/// Where values are encoded. It is all noise again after each.
struct Encoder {
    room: AlignedVec<ALIGN>,
    arena: Arena,
}

impl Readers {
    fn new() -> Self {
        let builder = Bus::builder().workers(1).max_queue_size(4).payload_bytes_max(1 << 20);
        let simulation =
            Simulation::new(builder.blocks([(8 << 10, 2), (1 << 20, 1)]), 7).expect("the settings are valid");
        let bus = simulation.bus();
        Self {
            flat: Reader::new(bus),
            texts: Reader::new(bus),
            tables: Reader::new(bus),
            shared: Reader::new(bus),
            nest: Reader::new(bus),
            inlet: Inlet {
                publisher: bus.publisher().expect("it is the first"),
                books: bus.ledger().subscriptions,
                simulation,
                encoder: Encoder::new(),
            },
        }
    }
}

/// A subscription that keeps what it read.
struct Reader<E> {
    seen: Arc<Mutex<Vec<E>>>,
}

type Writes<'a> = HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, Error>;

impl<E> Reader<E>
where
    E: Body + for<'a> Serialize<Writes<'a>>,
    E::Archived: Deserialize<E, HighDeserializer<Error>>,
{
    fn new(bus: &Bus) -> Self {
        let seen = Arc::<Mutex<Vec<E>>>::default();
        let writer = Arc::clone(&seen);
        let handler = move |event: &E::Archived, _: &ringmain::Meta<'_>| {
            writer.lock().expect("no handler panics").push(owned::<E>(event));
        };
        bus.subscribe(E::TOPIC).handle(handler).expect("the topic is new").forever();
        Self { seen }
    }

    fn check(&self, inlet: &mut Inlet, data: &[u8], way: Way, off: usize) -> arbitrary::Result<()> {
        if way == Way::Raw {
            self.read_all_ways(inlet, data, off);
            return Ok(());
        }
        let mut bytes = Unstructured::new(data);
        let value = E::arbitrary(&mut bytes)?;
        let is_own = bytes.arbitrary()?;
        let mut archive = if is_own { inlet.encoder.encode(&value) } else { encode_elsewhere(&value) };
        let expected = value.is_read().then_some(&value);
        assert_eq!(read(&archive, true).as_ref(), expected);
        if is_own {
            self.trust(inlet, &value);
        } else {
            let delivered = self.deliver(inlet, |publisher| publish_archive::<E>(publisher, &archive));
            assert_eq!(delivered.as_ref(), expected);
        }
        tamper(&mut archive, &mut bytes)?;
        self.read_all_ways(inlet, &archive, off);
        Ok(())
    }

    /// Reads `archive`, which may be anything, in each way there is.
    fn read_all_ways(&self, inlet: &mut Inlet, archive: &[u8], off: usize) {
        let value = read(archive, false);
        // A root may be aligned here and not there, but is the same value wherever it is read.
        let elsewhere =
            at_alignment(archive, off, |archive| Payload::rkyv(archive).archived::<E>().ok().map(owned::<E>));
        let same = elsewhere.is_none() || value.is_none() || elsewhere == value;
        assert!(same, "{off} bytes further on it was read as {elsewhere:?}, not {value:?}");
        assert_eq!(self.deliver(inlet, |publisher| publish_archive::<E>(publisher, archive)), value);
        if let Some(value) = &value {
            let again = inlet.encoder.encode(value);
            let again = at_alignment(&again, 0, |archive| Payload::rkyv(archive).archived::<E>().map(owned::<E>));
            assert_eq!(again.as_ref(), Ok(value));
        }
    }

    /// What this process encoded is read as it was.
    fn trust(&self, inlet: &mut Inlet, value: &E) {
        let read = self.deliver(inlet, |publisher| {
            publisher.publish(E::TOPIC, value).expect("the lane is empty");
        });
        assert_eq!(read.as_ref(), Some(value));
    }

    /// What the subscription reads of one event, `None` if it fails.
    fn deliver(&self, inlet: &mut Inlet, publish: impl FnOnce(&mut Publisher)) -> Option<E> {
        publish(&mut inlet.publisher);
        inlet.simulation.turn(0);
        let seen = self.seen.lock().expect("no handler panics").pop();
        // Nobody else got it, or it twice.
        let books = &mut inlet.books;
        books.matched += 1;
        *(if seen.is_some() { &mut books.delivered } else { &mut books.failed }) += 1;
        assert_eq!(inlet.simulation.bus().ledger().subscriptions, *books);
        seen
    }
}

impl Reader<Nest> {
    /// Deep nests are refused, and nobody follows them down.
    fn explode(&self, inlet: &mut Inlet, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let is_large = !bytes.ratio(7, 8)? && bytes.ratio(1, 256)?;
        let depth = if is_large { BOMB_DEPTH } else { bytes.int_in_range(0..=200)? };
        let bomb = bomb(&mut inlet.encoder, depth);
        let found = at_alignment(&bomb, 0, |bomb| {
            Payload::rkyv(bomb).archived::<Nest>().map(|nest| owned::<Nest>(nest).depth())
        });
        let refused = DecodeError::Invalid { bytes: bomb.len() };
        assert_eq!(found, if depth <= DEPTH_MAX { Ok(depth) } else { Err(refused) });
        let delivered = self.deliver(inlet, |publisher| publish_archive::<Nest>(publisher, &bomb));
        assert_eq!(delivered.map(|nest| nest.depth()), found.ok());
        Ok(())
    }
}

/// What is found in an archive that lies as it should, by itself and by looking it up.
fn read<E: Body>(archive: &[u8], is_intact: bool) -> Option<E>
where
    E::Archived: Deserialize<E, HighDeserializer<Error>>,
{
    at_alignment(archive, 0, |archive| {
        let event = Payload::rkyv(archive).archived::<E>().map_err(|error| {
            assert_eq!(error, DecodeError::Invalid { bytes: archive.len() });
        });
        let event = event.ok()?;
        let value = owned::<E>(event);
        value.look_up(event, is_intact);
        Some(value)
    })
}

/// An archive of so many nests within each other.
fn bomb(encoder: &mut Encoder, depth: usize) -> Vec<u8> {
    // Each box points to what lies before it, by an offset that is always the same.
    let one = encoder.encode(&Nest::new(1));
    let (innermost, other) = one.split_at(one.len() - size_of::<<Nest as Archive>::Archived>());
    [innermost, &other.repeat(depth)].concat()
}

fn publish_archive<E: Body>(publisher: &mut Publisher, archive: &[u8]) {
    publisher.publish(E::TOPIC.name(), Payload::rkyv(archive)).expect("the lane is empty");
}

/// The value of an archive that was accepted.
fn owned<E: Body>(event: &E::Archived) -> E
where
    E::Archived: Deserialize<E, HighDeserializer<Error>>,
{
    rkyv::deserialize::<E, Error>(event).expect("an archive that is accepted is a value")
}

impl Encoder {
    fn new() -> Self {
        let mut room = AlignedVec::new();
        room.resize(ROOM_BYTES, NOISE);
        Self { room, arena: Arena::new() }
    }

    /// As this library encodes.
    fn encode<E: Body>(&mut self, value: &E) -> Vec<u8> {
        let encoded = &value;
        assert_eq!(encoded.encoding(), Encoding::Rkyv);
        let bytes = encoded.encode(&mut self.room, &mut self.arena).expect("no value is so long");
        let archive = self.room[..bytes].to_vec();
        self.room[..bytes].fill(NOISE);
        archive
    }
}

/// As rkyv alone encodes, which lies differently and shares what is shared.
fn encode_elsewhere<E: Body + for<'a> Serialize<Writes<'a>>>(value: &E) -> Vec<u8> {
    rkyv::to_bytes::<Error>(value).expect("values of these types can be encoded").to_vec()
}

/// Calls `read` with a copy of `bytes` that lies `off` bytes behind an aligned address.
fn at_alignment<R>(bytes: &[u8], off: usize, read: impl FnOnce(&[u8]) -> R) -> R {
    let mut room = AlignedVec::<ALIGN>::with_capacity(off + bytes.len());
    room.resize(off, 0);
    room.extend_from_slice(bytes);
    read(&room[off..])
}

/// Changes some of what makes an archive: numbers, lengths, offsets, its end.
fn tamper(archive: &mut Vec<u8>, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    for _ in 0..bytes.int_in_range(1..=6)? {
        if archive.is_empty() {
            break;
        }
        let at = bytes.choose_index(archive.len())?;
        // Offsets and lengths are words.
        let word = at / 4 * 4;
        match bytes.int_in_range(0..=6)? {
            0 => archive[at] ^= 1 << bytes.int_in_range(0..=7)?,
            1 => archive[at] = bytes.arbitrary()?,
            2 => set_word(archive, word, bytes.int_in_range(-64..=64)?),
            3 => set_word(archive, word, bytes.arbitrary()?),
            4 => {
                let from = bytes.choose_index(archive.len())? / 4 * 4;
                let copied = archive.get(from..from + 4).and_then(|four| four.try_into().ok());
                set_word(archive, word, copied.map_or(0, i32::from_le_bytes));
            }
            5 => archive.truncate(at),
            _ => {
                let more: Vec<u8> = archive[..at].to_vec();
                archive.splice(0..0, more);
            }
        }
    }
    Ok(())
}

fn set_word(archive: &mut [u8], at: usize, value: i32) {
    if let Some(place) = archive.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
