//! What two listings imply. Pure: no I/O, so nothing here can fail, and every rule is tested without a server.

pub mod compare;
pub mod filter;
pub mod merge;
pub mod versions;
