//! The machine under Ropeway: cores, rings, files, buffers, hashes. Not S3 and not HTTP.
//!
//! The contract of this crate is that **a buffer moves into an operation and comes back with it**. While an operation
//! is under way nobody else holds the buffer, so the kernel can write into it; a future that is dropped half way leaves
//! its buffer with the ring until the kernel has answered, and only then does the buffer return to its arena.
//!
//! * [`cores`] starts one thread per core and connects them by bounded mailboxes; [`runtime`] is the executor of each.
//! * [`mod@file`] reads and writes through the ring, or through threads where there is no ring.
//! * [`buf`] lends buffers from one budgeted map; [`hash`] has the checksums.
//! * [`path`] opens names beneath a root and never outside it; [`dir`] walks a tree in key order.
//! * [`probe`] says what this machine allows, and why not, in words.
//!
//! Everything that only Linux has is behind `cfg`, its portable twin beside it. This is the only package of Ropeway
//! with `unsafe` code; each block says why it holds.

pub mod buf;
pub mod cores;
pub mod dir;
pub mod file;
pub mod hash;
pub mod path;
pub mod probe;
pub mod runtime;
