//! The only door to atomics and to waiting: everything above builds its concurrency from these few parts.
//!
//! | part | who waits for whom |
//! |---|---|
//! | [`primitive`] | std's atomics, loom's under `--cfg ringmain_loom`, shuttle's under `--cfg ringmain_shuttle`: the only switch |
//! | [`barrier`] | a store-load fence that costs the hot side nothing where the kernel has `membarrier` |
//! | [`parker`] | workers sleep, publishers wake just those concerned |
//! | [`waker`] | one task or thread waits for one event: mailbox consumers, publishers at a full lane |
//! | [`bell`] | the same with a flag, so that ringing costs a load while nobody waits |
//! | [`alarm`] | whoever knows of a time, the worker that looks then |
//! | [`backlog`] | whoever flushes, for what a mailbox could not take and is in a store |
//! | [`breaker`] | nobody waits: who asks for attempts and who tells what came of them share a state |
//! | [`snapshot`] | the control plane hands a worker its next routing table |
//! | [`admission`] | whoever closes a bus waits until no publisher is inside a publish |
//! | [`transit`] | nobody waits: what is on its way from one count to the next is in one of them |
//! | [`calls`] | whoever unsubscribes waits until no consumer is in a call of the handler |
//! | [`call_timer`] | the worker, for a handler's call to last too long |
//! | [`crew`] | a thread that stands by, for the one on duty to hang |
//! | [`under_way`] | nobody waits: publishers see which handler a worker does not come back from |
//! | [`limiter`] | nobody waits: threads share a rate of events |
//! | [`places`] | whoever asked waits for an answer, or for the end of its time |
//! | [`mutant`] | bugs planted for models to find; in an ordinary build there are none |
//! | `weaken` | orderings weakened one at a time; in an ordinary build there is none |
//! | [`contain`] | calls user code, lets no panic out |
//! | [`owned`] | a value that only one worker may touch, checked by a token |

pub mod admission;
pub mod alarm;
pub mod backlog;
pub mod barrier;
pub mod bell;
pub mod breaker;
pub mod call_timer;
pub mod calls;
pub mod contain;
pub mod crew;
pub mod intake;
pub mod limiter;
pub mod mutant;
pub mod owned;
pub mod parker;
pub mod places;
pub mod primitive;
pub mod snapshot;
pub mod transit;
pub mod under_way;
pub mod waker;
#[cfg(any(ringmain_loom, ringmain_weaken))]
pub mod weaken;
