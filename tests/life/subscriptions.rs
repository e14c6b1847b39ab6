//! Subscriptions come, go, pause and resume while events flow.

mod books;
mod churn;
mod ends;
mod on_worker;
