//! The table of keys against a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::keys::Keys;

/// Keys of which many have one home, with any table of up to 16 entries.
fn crowded() -> impl Strategy<Value = u64> {
    // The inverse of what spreads them.
    (0_u64..4, 0_u64..10).prop_map(|(home, nth)| ((home << 60) | nth).wrapping_mul(0xf1de_83e1_9937_733d))
}

proptest! {
    #[test]
    fn each_key_has_a_number_of_its_own_until_it_makes_way(
        keys_max in 1_usize..8,
        steps in prop::collection::vec((prop_oneof![crowded(), 0_u64..12, Just(u64::MAX)], any::<u8>()), 0..80),
    ) {
        let mut keys = Keys::new(keys_max).expect("so little memory is there");
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, idle) in steps {
            let is_idle = |number: u32| idle & (1 << number) != 0;
            let has = model.iter().find(|&(_, had)| *had == key).map(|(&number, _)| number);
            prop_assert_eq!(keys.number(key), has);
            if has.is_none() {
                let given = keys.enter(key, is_idle);
                prop_assert_eq!(given.is_some(), (0..keys_max as u32).any(is_idle));
                if let Some(number) = given {
                    prop_assert!(is_idle(number) && (number as usize) < keys_max);
                    model.insert(number, key);
                }
            }
            for (&number, &key) in &model {
                prop_assert_eq!(keys.number(key), Some(number));
            }
        }
    }
}

#[test]
fn idle_numbers_are_given_in_turn() {
    let mut keys = Keys::new(3).expect("so little memory is there");
    let given: Vec<_> = (0..6).map(|key| keys.enter(key, |_| true)).collect();
    assert_eq!(given, [0, 1, 2, 0, 1, 2].map(Some));
    assert_eq!([2, 3, 4, 5].map(|key| keys.number(key)), [None, Some(0), Some(1), Some(2)]);
    assert_eq!(keys.enter(6, |number| number == 2), Some(2), "those that are not idle keep theirs");
    assert_eq!([3, 4, 5, 6].map(|key| keys.number(key)), [Some(0), Some(1), None, Some(2)]);
}
