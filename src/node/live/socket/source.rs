//! Where the events of a WebSocket client come from: its feed, or a durable subscription.

use super::super::feed::{Feed, FeedError, Item, Lag};
use super::super::interest::Interest;
use super::super::reliable::{Reliable, Waited};
use super::end::End;

/// Where its events come from.
pub(super) enum Source {
    Feed(Box<Feed>),
    Reliable(Box<Reliable>),
}

impl Source {
    pub(super) fn interest(&mut self) -> &mut Interest {
        match self {
            Self::Feed(feed) => &mut feed.interest,
            Self::Reliable(reliable) => &mut reliable.interest,
        }
    }

    pub(super) fn position(&self) -> u64 {
        match self {
            Self::Feed(feed) => feed.position(),
            Self::Reliable(reliable) => reliable.position(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Vec<Item>, FeedError> {
        match self {
            Self::Feed(feed) => feed.next().await,
            Self::Reliable(reliable) => reliable.next().await.map_err(FeedError::Failed),
        }
    }

    /// Waits until there may be something.
    pub(super) async fn wait(&mut self) -> Result<(), End> {
        match self {
            Self::Feed(feed) => feed.wait().await,
            Self::Reliable(reliable) => {
                if reliable.wait().await == Waited::NameWanted {
                    return Err(End::TakenOver);
                }
            }
        }
        Ok(())
    }

    /// While nothing can be sent: waits until it is worth a look, and looks.
    pub(super) async fn lag(&mut self) -> Result<(), End> {
        match self {
            Self::Feed(feed) => {
                feed.lap().await;
                match feed.lag() {
                    Lag::Fine => Ok(()),
                    Lag::TooSlow { behind } => Err(End::Slow { behind }),
                }
            }
            Self::Reliable(reliable) => {
                reliable.name_wanted().await;
                Err(End::TakenOver)
            }
        }
    }
}
