//! Runs the targets whose models are cheap on operations that proptest draws and shrinks, where no fuzzer is installed.

use proptest::prelude::*;

proptest! {
    #[test]
    fn events_reach_the_services_that_rules_evaluated_by_hand_say(data in prop::collection::vec(any::<u8>(), 0..600)) {
        ringmain_fuzz::rules::check(&data);
    }

    #[test]
    fn attempts_are_what_a_list_of_cells_says(data in prop::collection::vec(any::<u8>(), 0..400)) {
        ringmain_fuzz::attempts::check(&data);
    }

    #[test]
    fn the_newest_of_each_key_is_what_a_list_of_keys_says(data in prop::collection::vec(any::<u8>(), 0..400)) {
        ringmain_fuzz::latest::check(&data);
    }

    #[test]
    fn what_a_disk_has_left_is_opened_and_what_lies_before_the_damage_is_read(
        data in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        ringmain_fuzz::recovery::check(&data);
    }

    #[test]
    fn frames_are_read_only_when_every_rule_is_kept(data in prop::collection::vec(any::<u8>(), 0..600)) {
        ringmain_fuzz::frames::check(&data);
    }
}
