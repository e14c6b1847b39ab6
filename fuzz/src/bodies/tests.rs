//! Forged archives, those of the advisories about rkyv before 0.8.17 among them: each is refused.

use std::sync::Arc;

use ringmain::Payload;
use rkyv::Archive;

use super::types::{Body, DEPTH_MAX, Nest, Shared, Tables, Texts};
use super::{BOMB_DEPTH, Encoder, at_alignment, bomb, encode_elsewhere};

fn is_read<E: Body>(archive: &[u8]) -> bool {
    at_alignment(archive, 0, |archive| Payload::rkyv(archive).archived::<E>().is_ok())
}

/// Changes a word of the root, counted from its beginning.
fn forged<E: Archive>(archive: &[u8], word: usize, change: impl Fn(u32) -> u32) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let at = archive.len() - size_of::<E::Archived>() + 4 * word;
    let place = archive[at..].first_chunk_mut().expect("a word of the root");
    *place = change(u32::from_le_bytes(*place)).to_le_bytes();
    archive
}

/// Every archive in which one of `words` of the root is forged.
fn all_forged<E: Body>(archive: &[u8], words: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    assert!(is_read::<E>(archive), "it is valid to begin with");
    let changes: [fn(u32) -> u32; 4] =
        [|word| word ^ 1 << 20, |word| word ^ 1 << 31, |_| u32::MAX, |_| i32::MAX as u32];
    let forge = |word| changes.map(|change| forged::<E>(archive, word, change));
    words.into_iter().flat_map(forge).collect()
}

/// RUSTSEC-2026-0233 and -0234: who walks through a table that claims more entries than it has, walks past its end.
#[test]
fn a_table_that_claims_more_than_its_memory_is_refused() {
    let counts = (0..9).map(|nth| (format!("a key that lies elsewhere, {nth}"), nth)).collect();
    let tables = Tables { counts, names: Default::default(), seen: (0..40).collect(), sorted: [(1, vec![2])].into() };
    let archive = encode_elsewhere(&tables);
    // Pointer, length and capacity of the hash tables; pointer and length of the sorted one.
    let more = [1, 7, 10].map(|length| forged::<Tables>(&archive, length, |length| length + 1));
    for archive in all_forged::<Tables>(&archive, 0..3).into_iter().chain(more) {
        assert!(!is_read::<Tables>(&archive), "{archive:?}");
    }
}

/// RUSTSEC-2026-0235: the second of two pointers to one list says that it is longer, or another list.
#[test]
fn shared_memory_has_one_length() {
    let one: Arc<[u32]> = Arc::from([123, 456]);
    let shared = Shared { other: Arc::clone(&one), one, text: Arc::from("text"), first: Arc::new(7) };
    let archive = encode_elsewhere(&shared);
    let shorter = forged::<Shared>(&archive, 3, |length| length - 1);
    let longer = forged::<Shared>(&archive, 3, |length| length + 1);
    for archive in all_forged::<Shared>(&archive, 2..4).into_iter().chain([shorter, longer]) {
        assert!(!is_read::<Shared>(&archive), "{archive:?}");
    }
}

/// Draws of such bombs are rare: here is one for sure.
#[test]
fn a_bomb_is_refused_before_anyone_follows_it() {
    let mut encoder = Encoder::new();
    for (depth, expected) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (BOMB_DEPTH, false)] {
        assert_eq!(is_read::<Nest>(&bomb(&mut encoder, depth)), expected, "{depth} nests");
    }
}

/// And a list of texts that lies elsewhere.
#[test]
fn a_text_that_claims_bytes_of_others_is_refused() {
    let texts = Texts {
        title: "a title that lies elsewhere".to_owned(),
        tags: vec!["a tag that lies elsewhere".to_owned(), "another one, longer".to_owned()],
        note: Some("a note".into()),
        pairs: vec![(1, None), (2, Some(vec![3, 4]))],
    };
    let archive = encode_elsewhere(&texts);
    // Offset and length of the list of tags follow the two words of the title.
    for archive in all_forged::<Texts>(&archive, 1..4) {
        assert!(!is_read::<Texts>(&archive), "{archive:?}");
    }
    let word = |at: usize| i32::from_le_bytes(*archive[at..].first_chunk().expect("a word"));
    let pointed_to = |at: usize, offset: usize| at.checked_add_signed(word(offset) as isize).expect("it comes before");
    let tags = archive.len() - size_of::<<Texts as Archive>::Archived>() + 8;
    let first = pointed_to(tags, tags);
    assert!(archive[pointed_to(first, first + 4)..].starts_with(b"a tag that"), "the archive lies as it should");
    // The second tag becomes the first, whose offset is counted from where it lies.
    let mut doubled = archive.clone();
    doubled.copy_within(first..first + 4, first + 8);
    doubled[first + 12..first + 16].copy_from_slice(&(word(first + 4) - 8).to_le_bytes());
    assert!(!is_read::<Texts>(&doubled), "two texts share their bytes");
}
