use proptest::prelude::*;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{becomes, inflated};

/// What the decoder makes of a frame.
fn decoded(mut frame: &[u8]) -> Option<Vec<u8>> {
    let decoded = std::panic::catch_unwind(move || {
        let mut decoder = FrameDecoder::new();
        decoder.init(&mut frame).ok()?;
        decoder.decode_blocks(&mut frame, BlockDecodingStrategy::All).ok()?;
        decoder.collect()
    });
    decoded.ok().flatten()
}

/// Bytes that repeat themselves: words of a small language, drawn by a seed.
fn text(words: usize, spread: u64, seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<Vec<u8>> =
        (0..words.max(1)).map(|_| (0..draw() % 40).map(|_| (draw() % spread.max(1)) as u8).collect()).collect();
    let mut text = Vec::new();
    while text.len() < length {
        text.extend_from_slice(&words[(draw() % words.len() as u64) as usize]);
        text.push(draw() as u8);
    }
    text.truncate(length);
    text
}

#[test]
fn a_repeated_byte_becomes_as_many_as_the_block_says() {
    let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0, 0][..], &(1_000_u32 << 3 | 3).to_le_bytes()[..3], b"x"].concat();
    assert_eq!(inflated(&frame, 1_000), Some(1_000));
    assert_eq!(decoded(&frame), Some(vec![b'x'; 1_000]));
    assert_eq!(inflated(&frame, 999), None, "it ends early");
}

#[test]
fn what_sequences_repeat_is_counted_before_it_is_made() {
    // As many literals as sequences; each code is one symbol: a literal, the last offset, the longest match.
    let of = |sequences: usize| {
        let length = 3 + 1 + 3 + 3 + sequences * 2 + 1;
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0xA0];
        frame.extend_from_slice(&((length << 3 | 2 << 1 | 1) as u32).to_le_bytes()[..3]);
        let literals = [1 | 3 << 2 | (sequences << 4) as u8, (sequences >> 4) as u8, (sequences >> 12) as u8, b'x'];
        frame.extend_from_slice(&literals);
        frame.extend_from_slice(&[128 + (sequences >> 8) as u8, sequences as u8, 1 << 6 | 1 << 4 | 1 << 2, 1, 0, 52]);
        frame.resize(frame.len() + sequences * 2, 0xFF);
        frame.push(1);
        frame
    };
    let some = of(10);
    assert_eq!(inflated(&some, usize::MAX), Some(10 * (1 + 131_074)));
    assert_eq!(decoded(&some), Some(vec![b'x'; 10 * (1 + 131_074)]));
    assert_eq!(inflated(&of(30_000), usize::MAX), Some(30_000 * (1 + 131_074)), "some gigabytes");
    assert!(!becomes(&of(30_000), 64 << 10));
}

#[test]
fn a_frame_that_is_cut_anywhere_becomes_nothing() {
    let content = text(20, 90, 7, 5_000);
    let frame = compress_to_vec(&content[..], CompressionLevel::Fastest);
    assert!(becomes(&frame, content.len()));
    let checksum = usize::from(frame[4] & 4 != 0) * 4;
    for end in 0..frame.len() - checksum {
        assert!(!becomes(&frame[..end], content.len()), "cut at {end} of {}", frame.len());
    }
}

proptest! {
    #[test]
    fn what_the_encoder_makes_becomes_what_it_was_made_of(
        words in 1..200_usize, spread in 1..256_u64, seed: u64, length in 0..65_537_usize,
    ) {
        let content = text(words, spread, seed, length);
        let frame = compress_to_vec(&content[..], CompressionLevel::Fastest);
        prop_assert!(becomes(&frame, length));
        prop_assert!(!becomes(&frame, length + 1));
        prop_assert!(length == 0 || !becomes(&frame, length - 1));
        prop_assert_eq!(decoded(&frame), Some(content));
    }

    #[test]
    fn a_forged_frame_never_becomes_more_than_was_found_out(
        words in 1..50_usize, seed: u64, flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4),
    ) {
        let content = text(words, 60, seed, 3_000);
        let mut frame = compress_to_vec(&content[..], CompressionLevel::Fastest);
        for (byte, bit) in flips {
            let byte = byte.index(frame.len());
            frame[byte] ^= 1 << bit;
        }
        if let Some(bytes) = inflated(&frame, 1 << 20)
            && let Some(made) = decoded(&frame)
        {
            prop_assert_eq!(made.len(), bytes);
        }
    }
}
