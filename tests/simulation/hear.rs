//! What the bus tells its observer, as the model takes it.

use ringmain::Notice;

use crate::world::World;

/// Tells the model.
pub(crate) fn hear(world: &mut World, notice: &Notice<'_>) {
    let service = match *notice {
        Notice::DeadLettered { name, .. } => world.services.get(name).copied(),
        _ => None,
    };
    // An instance by its service, too.
    let number = |name: &str| {
        let own = name.rsplit('/').next().unwrap_or(name).parse();
        service.unwrap_or_else(|| own.expect("subscriptions are named by their number"))
    };
    match *notice {
        Notice::HandlerFailed { name, event, error, .. } => return world.answer_is_refused(number(name), event, error),
        Notice::LetterReturned { .. }
        | Notice::Delivered { .. }
        | Notice::DeadLettered { .. }
        | Notice::Breaker { .. }
        | Notice::Suspended { .. } => {
            world.answer_is_out();
        }
        _ => {}
    }
    match *notice {
        Notice::Delivered { name, event, handled: None, .. } => world.put(number(name), event),
        Notice::DeadLettered { letter, name, event, reason, attempts, .. } => {
            world.died(number(name), event, letter, reason, attempts);
        }
        Notice::LetterReturned { letter, event, .. } => world.letter_returned(letter, event),
        Notice::Breaker { name, state, .. } => world.breaker_told(number(name), state),
        Notice::HandlerHung { name, event, after, .. } => world.hung(number(name), event, after),
        Notice::MemoryPressure { begins, fill } => world.pressure_told(begins, fill),
        Notice::WorkerRestarted { .. } => world.census.count("worker restarted"),
        Notice::WorkerFailed { .. } => world.broken("a worker has failed, which may restart as often as it likes"),
        Notice::Suspended { name, letters, .. } => world.suspended(number(name), letters),
        _ => {}
    }
}
