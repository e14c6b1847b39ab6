//! Both forms of an index against a plain map, and damage of the one that is in a file.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::sealed::{IndexDamaged, ReadAt, Sealed};
use super::{Building, Posting, Term};

/// Reads a file that is in memory.
fn read(file: &[u8]) -> impl ReadAt<Infallible> + '_ {
    |bytes, offset| {
        let found = file.get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
        found.inspect(|found| bytes.copy_from_slice(found));
        Ok(found.is_some())
    }
}

fn opened(file: &[u8]) -> Result<Sealed, IndexDamaged> {
    let Ok(opened) = Sealed::open(9, 1_000, read(file));
    opened
}

fn find(sealed: &Sealed, term: u64, file: &[u8]) -> Result<Vec<Posting>, IndexDamaged> {
    let Ok(found) = sealed.find(Term::from_number(term), read(file));
    found
}

fn built(entries: &[(u64, u32)]) -> (Building, BTreeMap<u64, Vec<Posting>>) {
    let (mut index, mut model) = (Building::default(), BTreeMap::<_, Vec<_>>::new());
    for (nth, &(term, version)) in entries.iter().enumerate() {
        let offset = 64 + 16 * nth as u64;
        index.add_term(Term::from_number(term), offset, version);
        model.entry(term).or_default().push(Posting { offset, version });
    }
    for name in ["a.b", "c", "a.b"] {
        index.topics.add(name);
        index.sources.add(&name.replace('.', ":"));
    }
    (index, model)
}

/// Terms of which many are the same, neighbours, or far apart.
fn terms() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..6, 2 => any::<u64>(), 1 => Just(u64::MAX), 1 => (0u64..6).prop_map(|term| term << 61)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_forms_find_what_a_map_finds(entries in prop::collection::vec((terms(), any::<u32>()), 0..700)) {
        let (index, model) = built(&entries);
        let file = Sealed::encode(&index, 9, 1_000);
        let sealed = opened(&file).unwrap();
        prop_assert_eq!((sealed.topics(), sealed.sources()), (index.topics(), index.sources()));
        let absent = [0, 5, 6, u64::MAX, 1 << 61, 12_345];
        for term in model.keys().copied().chain(absent) {
            let expected = model.get(&term).cloned().unwrap_or_default();
            prop_assert_eq!(&index.find(Term::from_number(term)), &expected);
            prop_assert_eq!(find(&sealed, term, &file), Ok(expected));
        }
    }
}

#[test]
fn each_damaged_byte_of_a_file_is_found_where_it_is_read() {
    let entries: Vec<(u64, u32)> = (0..300).map(|nth| (nth / 3, nth as u32)).collect();
    let (index, model) = built(&entries);
    let file = Sealed::encode(&index, 9, 1_000);
    // In the first block, in both, in the last.
    let terms = [0, 85, 99];
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let Ok(sealed) = opened(&damaged) else { continue };
        let found = terms.map(|term| find(&sealed, term, &damaged));
        for (term, found) in terms.iter().zip(&found) {
            assert!(*found == Err(IndexDamaged) || found.as_ref() == Ok(&model[term]), "byte {at}, term {term}");
        }
        assert!(found.contains(&Err(IndexDamaged)), "byte {at} means nothing");
    }
    for length in [0, 63, 64, 700, file.len() - 1] {
        let Ok(sealed) = opened(&file[..length]) else { continue };
        assert_eq!(find(&sealed, 99, &file[..length]), Err(IndexDamaged), "cut to {length} bytes");
    }
}

#[test]
fn an_index_of_another_segment_or_of_an_older_state_of_it_is_none() {
    let file = Sealed::encode(&built(&[(1, 1)]).0, 9, 1_000);
    for (first, end) in [(8, 1_000), (9, 1_016)] {
        let Ok(opened) = Sealed::open(first, end, read(&file));
        assert_eq!(opened.err(), Some(IndexDamaged));
    }
}

#[test]
fn names_beyond_the_limit_may_be_anything() {
    let mut index = Building::default();
    for nth in 0..5_000 {
        index.topics.add(&format!("t.{nth}"));
    }
    let file = Sealed::encode(&index, 9, 1_000);
    let sealed = opened(&file).unwrap();
    assert_eq!(sealed.topics().at_most(|name| name == "t.7"), 1 + (5_000 - 4_096));
    assert_eq!(sealed.sources().at_most(|_| true), 0);
}
