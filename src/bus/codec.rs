//! Payloads in other encodings: how typed events leave for JSON or protobuf, and come back.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use crate::event::{Encode, EncodeFault, Encoding, Event, Payload, RustType, Topic, TypeConflict};
use crate::sync::contain::contained;

use super::Bus;

/// Turns the events of a topic into another encoding, and back. [`Json`](crate::Json) and [`Protobuf`](crate::Protobuf) are two; any
/// other is a type of yours.
pub trait EventSerializer<E: Event>: Send + Sync + 'static {
    /// The encoding it writes and reads.
    fn encoding(&self) -> Encoding;

    /// Appends the event to `out`.
    ///
    /// # Errors
    /// When the event has no form in this encoding.
    fn serialize(&self, event: &E::Archived, out: &mut Vec<u8>) -> Result<(), SerializeError>;

    /// Reads an event.
    ///
    /// # Errors
    /// When the bytes are no event of this type.
    fn deserialize(&self, bytes: &[u8]) -> Result<E, SerializeError>;
}

/// Why a payload was not brought into another encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SerializeError {
    /// No codec is registered for the topic and encoding: the payload can only travel as it is.
    NoCodec {
        /// The topic.
        topic: String,
        /// The encoding that has no codec.
        encoding: Encoding,
    },
    /// The payload is no event of the topic's type.
    Invalid(String),
}

impl fmt::Display for SerializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCodec { topic, encoding } => {
                write!(f, "no codec between rkyv and {encoding:?} for topic {topic:?}; register one with Bus::codec")
            }
            Self::Invalid(error) => write!(f, "the payload is no event of its topic: {error}"),
        }
    }
}

impl std::error::Error for SerializeError {}

/// A codec whose event type is erased.
pub(crate) trait Transcode: Send + Sync {
    fn archive_to(&self, payload: Payload<'_>, out: &mut Vec<u8>) -> Result<(), SerializeError>;
    fn to_archive(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SerializeError>;
}

struct Typed<E, S> {
    serializer: S,
    event: PhantomData<fn(E)>,
}

impl<E: Event, S: EventSerializer<E>> Transcode for Typed<E, S> {
    fn archive_to(&self, payload: Payload<'_>, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        // Payload bytes from outside may lie anywhere; archives want their alignment.
        let mut aligned = AlignedVec::<16>::with_capacity(payload.bytes().len());
        aligned.extend_from_slice(payload.bytes());
        let event =
            Payload::rkyv(&aligned).archived::<E>().map_err(|error| SerializeError::Invalid(error.to_string()))?;
        self.serializer.serialize(event, out)
    }

    fn to_archive(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SerializeError> {
        let event = self.serializer.deserialize(bytes)?;
        let mut archive = AlignedVec::<16>::new();
        let mut arena = Arena::new();
        loop {
            match (&event).encode(&mut archive, &mut arena) {
                Ok(written) => {
                    out.extend_from_slice(&archive[..written]);
                    return Ok(());
                }
                Err(EncodeFault::Needs(bytes)) => archive.resize(bytes, 0),
                Err(EncodeFault::Refused) => {
                    return Err(SerializeError::Invalid("its Serialize failed".to_owned()));
                }
            }
        }
    }
}

/// The codecs of one bus, by topic and encoding.
pub(crate) type Codecs = ahash::AHashMap<(String, Encoding), Arc<dyn Transcode>>;

impl Bus {
    /// Registers how events of `topic` turn into another encoding at the edges, and back. A later registration for the
    /// same topic and encoding replaces an earlier one.
    ///
    /// # Errors
    /// When the topic carries another Rust type.
    pub fn codec<E: Event>(&self, topic: Topic<E>, serializer: impl EventSerializer<E>) -> Result<(), TypeConflict> {
        let shared = self.shared();
        let type_id = shared.type_id(topic.name());
        shared.engine.directory.bind(type_id, topic.name(), RustType::of::<E>())?;
        let key = (topic.name().to_owned(), serializer.encoding());
        let codec = Arc::new(Typed { serializer, event: PhantomData });
        let replaced = shared.codecs().insert(key, codec);
        // Its drop is user code: not under the lock, which the statement above has let go, and its panic is its own.
        let _ = contained(|| drop(replaced));
        Ok(())
    }

    /// Appends `payload`, of an event of `topic`, to `out` in the encoding `to`. The same encoding is copied.
    ///
    /// # Errors
    /// When there is no codec, or the payload is no event of the topic's type.
    pub fn transcode(
        &self,
        topic: &str,
        payload: Payload<'_>,
        to: Encoding,
        out: &mut Vec<u8>,
    ) -> Result<(), SerializeError> {
        if payload.encoding() == to {
            out.extend_from_slice(payload.bytes());
            return Ok(());
        }
        let find = |encoding: Encoding| {
            let codec = self.shared().codecs().get(&(topic.to_owned(), encoding)).cloned();
            codec.ok_or_else(|| SerializeError::NoCodec { topic: topic.to_owned(), encoding })
        };
        if payload.encoding() == Encoding::Rkyv {
            return find(to)?.archive_to(payload, out);
        }
        let reader = find(payload.encoding())?;
        if to == Encoding::Rkyv {
            return reader.to_archive(payload.bytes(), out);
        }
        let writer = find(to)?;
        let mut archive = Vec::new();
        reader.to_archive(payload.bytes(), &mut archive)?;
        writer.archive_to(Payload::rkyv(&archive), out)
    }
}

#[cfg(any(feature = "json", feature = "protobuf"))]
fn value_of<E>(event: &E::Archived) -> Result<E, SerializeError>
where
    E: Event,
    E::Archived: rkyv::Deserialize<E, rkyv::api::high::HighDeserializer<rkyv::rancor::Error>>,
{
    rkyv::deserialize::<E, rkyv::rancor::Error>(event).map_err(|error| SerializeError::Invalid(error.to_string()))
}

/// Events as JSON, by serde. Feature `json`.
///
/// ```
/// use ringmain::{Bus, Encoding, Json, Payload, Topic};
///
/// #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced { id: u64 }
/// const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");
///
/// let bus = Bus::builder().build()?;
/// bus.codec(ORDER_PLACED, Json).unwrap();
/// let mut archive = Vec::new();
/// bus.transcode("orders.placed", Payload::json(r#"{"id": 7}"#), Encoding::Rkyv, &mut archive).unwrap();
/// let mut json = Vec::new();
/// bus.transcode("orders.placed", Payload::rkyv(&archive), Encoding::Json, &mut json).unwrap();
/// assert_eq!(json, br#"{"id":7}"#);
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<E> EventSerializer<E> for Json
where
    E: Event + serde::Serialize + serde::de::DeserializeOwned,
    E::Archived: rkyv::Deserialize<E, rkyv::api::high::HighDeserializer<rkyv::rancor::Error>>,
{
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn serialize(&self, event: &E::Archived, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        serde_json::to_writer(out, &value_of::<E>(event)?).map_err(|error| SerializeError::Invalid(error.to_string()))
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<E, SerializeError> {
        serde_json::from_slice(bytes).map_err(|error| SerializeError::Invalid(error.to_string()))
    }
}

/// Events as protobuf messages, by prost. Feature `protobuf`.
#[cfg(feature = "protobuf")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Protobuf;

#[cfg(feature = "protobuf")]
impl<E> EventSerializer<E> for Protobuf
where
    E: Event + prost::Message + Default,
    E::Archived: rkyv::Deserialize<E, rkyv::api::high::HighDeserializer<rkyv::rancor::Error>>,
{
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn serialize(&self, event: &E::Archived, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        value_of::<E>(event)?.encode(out).map_err(|error| SerializeError::Invalid(error.to_string()))
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<E, SerializeError> {
        E::decode(bytes).map_err(|error| SerializeError::Invalid(error.to_string()))
    }
}

#[cfg(all(test, feature = "json", feature = "protobuf"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(
        Clone,
        PartialEq,
        prost::Message,
        rkyv::Archive,
        rkyv::Serialize,
        rkyv::Deserialize,
        serde::Serialize,
        serde::Deserialize,
    )]
    struct Trade {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(string, tag = "2")]
        symbol: String,
        #[prost(int64, repeated, tag = "3")]
        fills: Vec<i64>,
    }

    const TRADE: Topic<Trade> = Topic::new("trades.done");

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_encoding_round_trips(id: u64, symbol in ".{0,40}", fills: Vec<i64>) {
            let bus = Bus::builder().workers(1).build().unwrap();
            bus.codec(TRADE, Json).unwrap();
            bus.codec(TRADE, Protobuf).unwrap();
            let trade = Trade { id, symbol, fills };
            let json = serde_json::to_string(&trade).unwrap();
            let mut protobuf = Vec::new();
            bus.transcode(TRADE.name(), Payload::json(&json), Encoding::Protobuf, &mut protobuf).unwrap();
            prop_assert_eq!(&<Trade as prost::Message>::decode(&protobuf[..]).unwrap(), &trade);
            let mut archive = Vec::new();
            bus.transcode(TRADE.name(), Payload::protobuf(&protobuf), Encoding::Rkyv, &mut archive).unwrap();
            let mut back = Vec::new();
            bus.transcode(TRADE.name(), Payload::rkyv(&archive), Encoding::Json, &mut back).unwrap();
            prop_assert_eq!(String::from_utf8(back).unwrap(), json);
        }
    }

    #[test]
    fn without_a_codec_or_with_foreign_bytes_the_error_says_so() {
        let bus = Bus::builder().workers(1).build().unwrap();
        let mut out = Vec::new();
        let error = bus.transcode("trades.done", Payload::json("{}"), Encoding::Rkyv, &mut out).unwrap_err();
        assert!(error.to_string().contains("register one with Bus::codec"), "{error}");
        bus.codec(TRADE, Json).unwrap();
        let error = bus.transcode("trades.done", Payload::json("{}"), Encoding::Rkyv, &mut out).unwrap_err();
        assert!(error.to_string().contains("missing field"), "{error}");
        let error = bus.transcode("trades.done", Payload::rkyv(&[1, 2, 3]), Encoding::Json, &mut out).unwrap_err();
        assert!(matches!(error, SerializeError::Invalid(_)), "{error}");
        assert!(out.is_empty());
    }
}
