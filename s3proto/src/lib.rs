//! S3's bytes to meaning and back: names, signatures, requests, answers, retries.
//!
//! Nothing here opens a socket or a file, reads a clock, starts a thread or draws a random number: every function is
//! a pure map from bytes to values, so that each rule of the protocol has a test that needs no server. A caller builds
//! an operation from [`op`], which writes its [`head`], lets [`sign::Signer`] sign that, sends it, and hands the answer back to the same
//! operation; what the service refused comes back as an [`error::ServiceError`] whose [`error::Class`] is all that
//! [`retry::decide`] looks at.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod date;
pub mod endpoint;
pub mod error;
pub mod head;
pub mod name;
pub mod op;
pub mod retry;
pub mod sign;
pub mod text;
pub mod xml;
