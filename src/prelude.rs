//! What most programs use.
//!
//! ```
//! use ringmain::prelude::*;
//! ```

pub use crate::{
    Bus, Context, Delivery, Error, Event, EventId, EventSource, Filter, FullPolicy, Handler, IdleStrategy, Mailbox,
    Meta, Outcome, Overflow, Payload, Priority, PublishError, Publisher, Subscription, Topic,
};
