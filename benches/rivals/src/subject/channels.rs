//! Bounded channels with a handle at each end: crossbeam-channel, kanal, std, flume, tokio. All that differs is names.

use super::{Ends, FanOut, Plan, Polled, Publisher, Publishers, Pull, Sink, Subject, one_by_one};
use crate::event::{Draft, Event};

/// One channel. `sent` says whether the event is in; `taken` and `waited` make an option of what was received, without and
/// with waiting.
macro_rules! channel {
    (
        $(#[$doc:meta])*
        $subject:ident, $name:expr, $krate:path as $inside:ident,
        $open:ident, $sender:ident, $receiver:ident,
        sent: $sent:expr, taken: $taken:expr, waited: $recv:ident, $waited:expr
    ) => {
        use $krate as $inside;

        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $subject;

        impl Subject for $subject {
            const NAME: &'static str = $name;
            const PUBLISHERS: Publishers = Publishers::Many;
            const PARKS: bool = true;
            type Publisher<const WORDS: usize> = FanOut<$inside::$sender<Event<WORDS>>>;
            type Consumer<const WORDS: usize> = $inside::$receiver<Event<WORDS>>;

            fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>> {
                FanOut::open(plan, $inside::$open)
            }
        }

        impl<const WORDS: usize> Publisher for $inside::$sender<Event<WORDS>> {
            #[inline(always)]
            fn try_publish(&mut self, draft: &Draft) -> bool {
                $sent(self.try_send(Event::new(draft)))
            }
        }

        impl<const WORDS: usize> Pull for $inside::$receiver<Event<WORDS>> {
            #[inline]
            fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled {
                one_by_one(sink, || $taken(self.try_recv()))
            }

            #[inline]
            fn park<S: Sink>(&mut self, sink: &mut S) -> bool {
                $waited(self.$recv()).map(|event: Event<WORDS>| event.deliver(sink)).is_some()
            }
        }
    };
}

channel! {
    /// `crossbeam_channel::bounded`: what most people take, and the reference of every ratio.
    CrossbeamChannel, super::REFERENCE, ::crossbeam_channel as crossbeam,
    bounded, Sender, Receiver,
    sent: |result: Result<_, _>| result.is_ok(), taken: Result::ok, waited: recv, Result::ok
}

channel! {
    /// `kanal::bounded`, by its blocking halves.
    Kanal, "kanal", ::kanal as kanal,
    bounded, Sender, Receiver,
    sent: |result| result == Ok(true), taken: |result: Result<Option<_>, _>| result.ok().flatten(), waited: recv, Result::ok
}

channel! {
    /// `std::sync::mpsc::sync_channel`.
    StdSyncChannel, "std-sync-channel", std::sync::mpsc as std_mpsc,
    sync_channel, SyncSender, Receiver,
    sent: |result: Result<_, _>| result.is_ok(), taken: Result::ok, waited: recv, Result::ok
}

channel! {
    /// `flume::bounded`.
    Flume, "flume", ::flume as flume,
    bounded, Sender, Receiver,
    sent: |result: Result<_, _>| result.is_ok(), taken: Result::ok, waited: recv, Result::ok
}

channel! {
    /// `tokio::sync::mpsc::channel`, without a runtime: parked, it is received with `blocking_recv`.
    TokioMpsc, "tokio-mpsc", ::tokio::sync::mpsc as tokio_mpsc,
    channel, Sender, Receiver,
    sent: |result: Result<_, _>| result.is_ok(), taken: Result::ok, waited: blocking_recv, std::convert::identity
}
