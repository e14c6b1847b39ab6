//! How many bytes a zstd frame becomes, found out without decoding it.
//!
//! A decoder makes what a frame says, and a block of 128 KiB can say gigabytes: each of its sequences repeats up to 128 KiB of what is
//! there. Only how long each repetition is has to be known here: so the header of a block's literals is read, and all of
//! its sequences, which are three codes with tables of finite state entropy before them and extra bits behind. See RFC 8878, section 3.1.1.
//!
//! What no encoder of ours writes is refused: dictionaries, and tables of the block before.

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// What a block may have.
const BLOCK_BYTES_MAX: usize = 128 << 10;
/// Extra bits of literal lengths from code 16 on, and of match lengths from code 32 on; those before have none.
const LITERAL_EXTRA_BITS: [u32; 20] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MATCH_EXTRA_BITS: [u32; 21] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// The match length of code 0.
const MATCH_MIN: usize = 3;

/// One of the three codes of a sequence: its symbols, the logarithm of its largest table, and the table where a block brings none.
struct Code {
    symbols: usize,
    log_max: u32,
    default_log: u32,
    default: &'static [i16],
}

const LITERAL_LENGTHS: Code = Code {
    symbols: 36,
    log_max: 9,
    default_log: 6,
    default: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
};
const OFFSETS: Code = Code {
    symbols: 32,
    log_max: 8,
    default_log: 5,
    default: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
};
const MATCH_LENGTHS: Code = Code {
    symbols: 53,
    log_max: 9,
    default_log: 6,
    default: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};

/// Whether a frame becomes just so many bytes. Where it does, a decoder takes memory in proportion to them and to the frame.
///
/// # Cost
/// Allocates up to three tables of 2 KiB a block; ends at the first block that would become too much.
pub(super) fn becomes(frame: &[u8], bytes: usize) -> bool {
    inflated(frame, bytes) == Some(bytes)
}

/// The bytes of a frame; `None` when there are more, or it is no whole frame.
fn inflated(mut frame: &[u8], max: usize) -> Option<usize> {
    header(&mut frame, max)?;
    let mut inflated = 0;
    loop {
        let word = number(take(&mut frame, 3)?) as usize;
        let (is_last, length) = (word & 1 == 1, word >> 3);
        let becomes = match (word >> 1) & 3 {
            _ if length > BLOCK_BYTES_MAX => return None,
            0 => take(&mut frame, length)?.len(),
            1 => take(&mut frame, 1).map(|_| length)?,
            2 => compressed(take(&mut frame, length)?, max - inflated)?,
            _ => return None,
        };
        inflated += becomes;
        if inflated > max {
            return None;
        }
        if is_last {
            return Some(inflated);
        }
    }
}

/// The header of a frame, if its content may have so many bytes.
fn header(frame: &mut &[u8], max: usize) -> Option<()> {
    let [descriptor] = take(frame, 5)?.strip_prefix(&MAGIC)?.try_into().ok()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let has_dictionary = descriptor & 3 != 0;
    take(frame, usize::from(!is_single_segment))?;
    let declared = match descriptor >> 6 {
        0 if !is_single_segment => return (!has_dictionary).then_some(()),
        0 => number(take(frame, 1)?),
        1 => number(take(frame, 2)?) + 256,
        2 => number(take(frame, 4)?),
        _ => number(take(frame, 8)?),
    };
    (!has_dictionary && declared == max as u64).then_some(())
}

/// The bytes of a compressed block: its literals, and what its sequences repeat.
fn compressed(mut block: &[u8], max: usize) -> Option<usize> {
    let literals = literals(&mut block).filter(|literals| *literals <= max)?;
    let sequences = match take(&mut block, 1)?[0] {
        few @ 0..=127 => u64::from(few),
        high @ 128..=254 => (u64::from(high - 128) << 8) + number(take(&mut block, 1)?),
        255 => number(take(&mut block, 2)?) + 0x7F00,
    };
    if sequences == 0 {
        return Some(literals);
    }
    let modes = take(&mut block, 1)?[0];
    let literal_lengths = Table::read(&LITERAL_LENGTHS, modes >> 6, &mut block)?;
    let offsets = Table::read(&OFFSETS, modes >> 4, &mut block)?;
    let match_lengths = Table::read(&MATCH_LENGTHS, modes >> 2, &mut block)?;
    let mut bits = Backward::new(block)?;
    let mut literal_length = literal_lengths.begin(&mut bits)?;
    let mut offset = offsets.begin(&mut bits)?;
    let mut match_length = match_lengths.begin(&mut bits)?;
    let mut inflated = literals;
    for nth in 0..sequences {
        bits.take(u32::from(offset.symbol))?;
        let (shortest, extra) = of_match(usize::from(match_length.symbol));
        inflated += shortest + bits.take(extra)?;
        bits.take(extra_of_literals(usize::from(literal_length.symbol)))?;
        if inflated > max {
            return None;
        }
        if nth + 1 < sequences {
            literal_length = literal_lengths.next(literal_length, &mut bits)?;
            match_length = match_lengths.next(match_length, &mut bits)?;
            offset = offsets.next(offset, &mut bits)?;
        }
    }
    (bits.left == 0).then_some(inflated)
}

/// The shortest match of a code, and how many bits say how much longer it is.
fn of_match(code: usize) -> (usize, u32) {
    let Some(nth) = code.checked_sub(32) else { return (code + MATCH_MIN, 0) };
    let before: usize = MATCH_EXTRA_BITS[..nth].iter().map(|bits| 1 << bits).sum();
    (32 + MATCH_MIN + before, MATCH_EXTRA_BITS[nth])
}

fn extra_of_literals(code: usize) -> u32 {
    code.checked_sub(16).map_or(0, |nth| LITERAL_EXTRA_BITS[nth])
}

/// Passes the literals; how many they become.
fn literals(block: &mut &[u8]) -> Option<usize> {
    let first = usize::from(*block.first()?);
    let is_packed = first & 2 != 0;
    let header = match ((first >> 2) & 3, is_packed) {
        (0 | 2, false) => 1,
        (1, false) => 2,
        (3, false) => 3,
        (0 | 1, true) => 3,
        (2, true) => 4,
        _ => 5,
    };
    let header = take(block, header)?;
    let word = number(header);
    let of = |shift: u32, bits: u32| (word >> shift) as usize & ((1 << bits) - 1);
    let (becomes, packed) = match header.len() {
        1 => (of(3, 5), None),
        2 => (of(4, 12), None),
        3 if !is_packed => (of(4, 20), None),
        3 => (of(4, 10), Some(of(14, 10))),
        4 => (of(4, 14), Some(of(18, 14))),
        _ => (of(4, 18), Some(of(22, 18))),
    };
    let is_repeated = first & 3 == 1;
    take(block, packed.unwrap_or(if is_repeated { 1 } else { becomes }))?;
    Some(becomes)
}

/// A place in a table of finite state entropy: its symbol, and where the next place is, after so many more bits.
#[derive(Clone, Copy, Default)]
struct State {
    symbol: u8,
    bits: u32,
    base: usize,
}

/// A table of finite state entropy. One of a single place is a symbol that takes no bits.
struct Table {
    log: u32,
    states: Vec<State>,
}

impl Table {
    /// The table of a code in a block, in the way that the block says.
    fn read(code: &Code, mode: u8, block: &mut &[u8]) -> Option<Self> {
        match mode & 3 {
            0 => Some(Self::of(code.default_log, code.default)),
            1 => {
                let symbol = take(block, 1)?[0];
                let states = vec![State { symbol, ..State::default() }];
                (usize::from(symbol) < code.symbols).then_some(Self { log: 0, states })
            }
            2 => {
                let mut bits = Forward { bytes: block, at: 0 };
                let (log, probabilities) = probabilities(code, &mut bits)?;
                let read = bits.at.div_ceil(8);
                take(block, read)?;
                Some(Self::of(log, &probabilities))
            }
            _ => None,
        }
    }

    /// The table of symbols with these probabilities, -1 being less than one.
    fn of(log: u32, probabilities: &[i16]) -> Self {
        let size = 1 << log;
        let mut states = vec![State::default(); size];
        let rare = (0_u8..).zip(probabilities).filter(|(_, probability)| **probability < 0);
        let mut end = size;
        for (symbol, _) in rare {
            end -= 1;
            states[end].symbol = symbol;
        }
        let mut at = 0;
        for (symbol, probability) in (0_u8..).zip(probabilities) {
            for _ in 0..*probability {
                states[at].symbol = symbol;
                at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
                while at >= end {
                    at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
                }
            }
        }
        let mut seen: Vec<_> =
            probabilities.iter().map(|probability| usize::from(probability.unsigned_abs())).collect();
        for state in &mut states {
            let nth = &mut seen[usize::from(state.symbol)];
            state.bits = log - nth.ilog2();
            state.base = (*nth << state.bits) - size;
            *nth += 1;
        }
        Self { log, states }
    }

    fn begin(&self, bits: &mut Backward<'_>) -> Option<State> {
        Some(self.states[bits.take(self.log)?])
    }

    fn next(&self, state: State, bits: &mut Backward<'_>) -> Option<State> {
        Some(self.states[state.base + bits.take(state.bits)?])
    }
}

/// The probabilities of a code's symbols, and the logarithm of their sum.
fn probabilities(code: &Code, bits: &mut Forward<'_>) -> Option<(u32, Vec<i16>)> {
    let log = bits.take(4)? as u32 + 5;
    if log > code.log_max {
        return None;
    }
    let (mut left, mut probabilities) = (1_usize << log, Vec::new());
    while left > 0 {
        // A number up to `left + 1`: small ones take a bit less.
        let width = (left + 1).ilog2() + 1;
        let (word, half) = (bits.take(width)?, 1 << (width - 1));
        let short = (2 * half - 1) - (left + 1);
        let value = match word & (half - 1) {
            small if small < short => {
                bits.at -= 1;
                small
            }
            _ if word >= half => word - short,
            _ => word,
        };
        let probability = value as i16 - 1;
        probabilities.push(probability);
        left -= usize::from(probability.unsigned_abs());
        let mut zeros = if probability == 0 { 3 } else { 0 };
        while zeros == 3 {
            zeros = bits.take(2)?;
            probabilities.resize(probabilities.len() + zeros, 0);
        }
        if probabilities.len() > code.symbols {
            return None;
        }
    }
    Some((log, probabilities))
}

/// Bits from the first byte's lowest on.
struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Forward<'_> {
    fn take(&mut self, bits: u32) -> Option<usize> {
        let begin = self.at;
        self.at += bits as usize;
        (self.at <= self.bytes.len() * 8).then(|| bits_at(self.bytes, begin, bits))
    }
}

/// Bits from the last byte's highest on, behind the first that is set.
struct Backward<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Backward<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let last = bytes.last()?.checked_ilog2()?;
        Some(Self { bytes, left: (bytes.len() - 1) * 8 + last as usize })
    }

    fn take(&mut self, bits: u32) -> Option<usize> {
        self.left = self.left.checked_sub(bits as usize)?;
        Some(bits_at(self.bytes, self.left, bits))
    }
}

/// Up to 32 bits from one on, which are there.
fn bits_at(bytes: &[u8], at: usize, bits: u32) -> usize {
    let rest = &bytes[at / 8..];
    let word = number(&rest[..rest.len().min(5)]);
    (word >> (at % 8)) as usize & ((1 << bits) - 1)
}

/// Up to eight bytes as a number, little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;
