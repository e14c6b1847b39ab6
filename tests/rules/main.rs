//! What the source promises about itself: orderings that name their partners, and threads that race without harm.

mod auto_traits;
#[path = "../support/books.rs"]
mod books;
mod campaign;
mod conserved;
mod functions;
mod orderings;
mod stress;
mod weakened;
