//! Chance that repeats: numbers that follow from a seed, by SplitMix64, a public-domain generator.

/// The next number of the sequence that `state`, any number, stands in.
pub(crate) const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed(*state)
}

/// The generator's finish: each bit of the result depends on all bits of the number, and no two numbers give the same.
pub(crate) const fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// One of so many choices, at most 2^64, numbered from 0, by a number drawn: each as likely as can be told apart.
pub(crate) const fn choice(drawn: u64, choices: u128) -> u64 {
    ((drawn as u128 * choices) >> 64) as u64
}
