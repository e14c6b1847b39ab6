//! What events have in common: by which they keep their order, make way for each other, or are duplicates.

use ringmain::{Key, Meta};

use crate::draw::Draw;
use crate::parties::DELIBERATE;
use crate::world::Event;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    All,
    Topic,
    Source,
    /// Ids, counted round; of some events it makes no key, and at some it may panic.
    Id {
        kinds: u64,
        panics: bool,
    },
}

/// `None`: no key. `Some(None)`: a panic.
fn by_id(id: u128, kinds: u64) -> Option<Option<u64>> {
    // The time that ids begin with does not tell events of a moment apart.
    let bits = (id >> 64) as u64 ^ id as u64;
    match bits % 13 {
        0 => Some(None),
        1 => None,
        _ => Some(Some((bits >> 4) % kinds)),
    }
}

fn number(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Likeness {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        match draw.below(5) {
            0 => Self::All,
            1 => Self::Topic,
            2 => Self::Source,
            _ => Self::Id { kinds: 1 + draw.below(8) as u64, panics: draw.one_in(2) },
        }
    }

    /// One that never panics.
    pub(crate) fn draw_calm(draw: &mut Draw) -> Self {
        match Self::draw(draw) {
            Self::Id { kinds, .. } => Self::Id { kinds, panics: false },
            other => other,
        }
    }

    pub(crate) fn is_by_id(self) -> bool {
        matches!(self, Self::Id { .. })
    }

    /// As a subscriber asks for it.
    pub(crate) fn key(self) -> Key {
        match self {
            Self::All => Key::Subscription,
            Self::Topic => Key::Topic,
            Self::Source => Key::Source,
            Self::Id { kinds, panics } => Key::by(move |meta: &Meta<'_>| match by_id(meta.id().into(), kinds) {
                None if panics => std::panic::panic_any(DELIBERATE),
                key => key.flatten(),
            }),
        }
    }

    /// What it comes to, with panics contained.
    pub(crate) fn of(self, event: &Event) -> Option<u64> {
        match self {
            Self::All => Some(0),
            Self::Topic => Some(number(event.spec.topic)),
            Self::Source => Some(number(&event.source)),
            Self::Id { kinds, .. } => by_id(event.id.into(), kinds).flatten(),
        }
    }
}
