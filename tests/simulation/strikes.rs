//! Panics of workers between two steps of their own. Nobody but the census is to notice: whoever had an event does not get it again,
//! and nobody misses one.

use ringmain::internals::worker::fault;

use crate::draw::Draw;

/// From now on workers that this thread drives panic at one boundary in so many, drawn from this seed; `None`: never.
pub(crate) fn begin(strikes: Option<(usize, u64)>) {
    fault::disarm();
    if let Some((one_in, seed)) = strikes {
        let mut draw = Draw::new(seed);
        fault::arm(move |_| draw.one_in(one_in));
    }
}
