//! Ropeway moves data between local disks and S3: one io_uring runtime pinned to each core, an S3 client of its own down
//! to the socket, pooled buffers, and every byte hashed where it passes.
//!
//! # As a library
//!
//! A sync is [`engine::run`] with [`settings::SyncSettings`], a [`engine::StopHandle`] to end it early and a
//! [`report::Observer`] that hears what happens; it returns a [`report::Summary`]. The program under `examples/` does so.
//! **Stable** are these: [`settings`], [`engine::run`], [`engine::Error`], [`engine::StopHandle`], [`report`],
//! [`error::ExitCode`] and [`serve`]. Everything else is public for the binary and the benches alone and may change with
//! any release.
//!
//! # Architecture
//!
//! ```text
//! SOURCE listing ─┐                                     ┌─ upload ──┐
//!                 ├─ merge ─ compare ─ Action ─ shard ──┼─ download ┼─ verify ─ report
//! TARGET listing ─┘       (pure: plan)                  └─ copy ────┘
//! ```
//!
//! * [`cli`] turns flags and environment into [`settings`]; no other module sees a flag.
//! * [`engine`] starts a thread for each core. A shard owns ranges of keys: it lists both sides of each ([`listing`]),
//!   merges and compares them ([`plan`], which does no I/O and so cannot fail), and transfers what differs ([`transfer`]).
//!   Ranges are cut wherever a lister has nothing to do. Shards share nothing while bytes move; idle ones are given work by
//!   message.
//! * [`client`] is where `ropeway_s3proto` (what to say) meets `ropeway_io` (files, buffers, cores) and the sockets. The
//!   two packages never see each other.
//! * [`entry`] holds the plain values that listing, plan and transfer hand each other; those three never see each other.
//! * A run has a last phase of its own for what is to be deleted, under conditions that are one table in `engine::deletes`.
//!   A comparison (`engine::verify`) is a run whose workers only look; a plan (`engine::plan_file`) is a dry run on paper.
//! * [`journal`] remembers what is unfinished, so that a run that was stopped or killed is continued by the next one.
//! * [`report`] counts, and says what happened; [`serve`] is the embedded server, which shares no line with the client.
//!
//! `tests/tidy.rs` checks these arrows against the `use` lines.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod engine;
pub mod entry;
pub mod error;
pub mod journal;
pub mod listing;
pub mod plan;
pub mod report;
pub mod serve;
pub mod settings;
pub mod transfer;
