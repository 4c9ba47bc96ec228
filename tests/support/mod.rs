//! What the suites share: a directory and a command for each test, a server to sync with, trees to compare.
//!
//! `Server::any()` is the embedded server, unless the environment names a real one (`ROPEWAY_TEST_ENDPOINT` and its
//! fellows, as the scripts under `tests/servers/` print them); so the same suite runs against each.
#![expect(dead_code, unreachable_pub, reason = "each suite is a crate of its own and uses its own share of this")]

pub mod attributes;
pub mod cmd;
pub mod model;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod scripted;
pub mod server;
pub mod service;
pub mod tree;
pub mod uploads;

pub use cmd::Cmd;
pub use server::Server;
pub use tree::Tree;
