//! What the source promises about itself: orderings that name their partners, and threads that race without harm.

mod auto_traits;
mod orderings;
mod stress;
mod weakened;
