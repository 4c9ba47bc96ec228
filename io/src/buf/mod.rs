//! The buffers of one core: a single map within the memory budget, cut into two sizes and lent out one by one.

mod arena;
mod lease;

pub use arena::{Arena, ArenaLayout};
pub use lease::Lease;
