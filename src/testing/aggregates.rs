//! Tests of aggregates, without a store: given events, when a command comes, then these events follow.

use std::fmt::{self, Debug};

use crate::sourcing::{Aggregate, Root};

/// An aggregate under test: these events have happened to it.
///
/// ```
/// use ringmain::testing::Given;
/// # use ringmain::{Frame, Outgoing, Payload, PublishError};
/// # #[derive(Default)] struct Switch { is_on: bool }
/// # #[derive(Debug, PartialEq)] struct Switched { on: bool }
/// # impl ringmain::sourcing::Aggregate for Switch {
/// #     const KIND: &'static str = "switch";
/// #     type Command = bool;
/// #     type Event = Switched;
/// #     type Refusal = &'static str;
/// #     fn decide(&self, on: &bool) -> Result<Vec<Switched>, &'static str> {
/// #         if *on == self.is_on { Err("it is already") } else { Ok(vec![Switched { on: *on }]) }
/// #     }
/// #     fn apply(&mut self, event: &Switched) { self.is_on = event.on }
/// #     fn to_frame(event: &Switched, outgoing: Outgoing<'_>) -> Result<Frame, PublishError> {
/// #         outgoing.to_frame("switched", Payload::raw(&[event.on.into()]))
/// #     }
/// #     fn of_frame(frame: &Frame) -> Result<Switched, Box<dyn std::error::Error + Send + Sync>> {
/// #         Ok(Switched { on: frame.payload().bytes() == [1] })
/// #     }
/// # }
/// Given::<Switch>::nothing().when(&true).then(&[Switched { on: true }]);
/// Given::<Switch>::events([Switched { on: true }]).when(&true).then_refused("it is already");
/// ```
pub struct Given<A: Aggregate>(Root<A>);

/// An aggregate under test that a command came to.
pub struct When<A: Aggregate> {
    root: Root<A>,
    result: Result<(), A::Refusal>,
}

impl<A: Aggregate> Given<A> {
    /// Nothing has happened to it.
    pub fn nothing() -> Self {
        Self::events([])
    }

    /// These events have happened to it, in this order.
    pub fn events(events: impl IntoIterator<Item = A::Event>) -> Self {
        Self(Root::of("under-test", events))
    }

    /// A command comes.
    pub fn when(self, command: &A::Command) -> When<A> {
        let Self(mut root) = self;
        let result = root.execute(command);
        When { root, result }
    }
}

impl<A: Aggregate> When<A> {
    /// These events follow, and no others.
    ///
    /// # Panics
    /// When others follow, or the command was refused.
    #[track_caller]
    pub fn then(self, events: &[A::Event]) -> Self
    where
        A::Event: Debug + PartialEq,
        A::Refusal: Debug,
    {
        if let Err(refusal) = &self.result {
            panic!("the command was refused: {refusal:?}; {events:?} were to follow");
        }
        assert_eq!(self.root.uncommitted(), events, "other events follow than were expected");
        self
    }

    /// The command is refused, for this reason.
    ///
    /// # Panics
    /// When it is not, or for another reason.
    #[track_caller]
    pub fn then_refused(self, refusal: A::Refusal) -> Self
    where
        A::Event: Debug,
        A::Refusal: Debug + PartialEq,
    {
        match &self.result {
            Err(found) => assert_eq!(*found, refusal, "the command was refused for another reason"),
            Ok(()) => panic!("the command was not refused; {:?} followed", self.root.uncommitted()),
        }
        self
    }

    /// Looks at the state after the command.
    pub fn then_state(self, look: impl FnOnce(&A)) -> Self {
        look(self.root.state());
        self
    }
}

impl<A: Aggregate> fmt::Debug for Given<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("kind", &A::KIND).field("version", &self.0.version()).finish()
    }
}

impl<A: Aggregate> fmt::Debug for When<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, result } = self;
        f.debug_struct("When")
            .field("kind", &A::KIND)
            .field("version", &root.version())
            .field("is_refused", &result.is_err())
            .finish()
    }
}
