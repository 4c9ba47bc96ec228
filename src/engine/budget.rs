//! Every limit, summed at start from the memory, the cores and the wishes of the command line.
//!
//! The memory is divided among the shards, and each shard's share into what it needs whatever the load (executor, stacks),
//! the pages of each range that it lists, a small buffer for each object under way, the connections' own buffers, and large
//! buffers with all the rest. Parts in flight never exceed large buffers, so no task waits for memory that a waiting task
//! holds.

use std::fmt;

use crate::settings::Limits;

/// Executor, stacks, and room for the allocator.
const SHARD_BASE_BYTES: u64 = 8 << 20;

/// A range being listed. On each of two sides: the page being compared and the one ahead, 1,000 rows of 48 bytes with keys of
/// some 100 each (150 KB), one answer of XML that a page is made from (400 KB), and a connection.
const LISTER_BYTES: u64 = 2 * (2 * (150 << 10) + (400 << 10) + CONNECTION_BYTES);

/// An answer's head at its largest, TLS's buffers for both ways, and the socket's state.
const CONNECTION_BYTES: u64 = 300 << 10;

/// Holds most small files; larger ones take a large buffer.
const SMALL_BUFFER_BYTES: u64 = 128 << 10;

/// A large buffer's alignment, a huge page.
const LARGE_STEP_BYTES: u64 = 2 << 20;

/// The default part size, and the largest buffer worth having: longer writes gain nothing (performance.md §3.3).
const LARGE_BUFFER_BYTES: u64 = 8 << 20;

/// With fewer, a core reads or sends but never both.
const LARGE_BUFFERS_MIN: u64 = 2;

/// One shard's limits, and how they came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// One thread each.
    pub shards: usize,
    /// The whole run's memory.
    pub memory_bytes: u64,
    /// Key ranges listed at a time, over all shards.
    pub list_threads: usize,
    /// Objects under way in a shard.
    pub workers: usize,
    /// Parts of large objects under way in a shard.
    pub parts: usize,
    /// Size of a large buffer.
    pub large_bytes: u64,
    /// Large buffers of a shard.
    pub large_count: usize,
    /// Size of a small buffer.
    pub small_bytes: u64,
    /// Small buffers of a shard.
    pub small_count: usize,
}

/// Limits that cannot work together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "--memory of {} is too little for {shards} cores, each of which needs {}; give more memory, fewer --cores or a smaller \
     --worker-size or --list-threads",
    mib(*.memory_bytes),
    mib(*.needed_bytes)
)]
pub struct BudgetError {
    memory_bytes: u64,
    shards: usize,
    needed_bytes: u64,
}

impl Budget {
    /// Divides the memory.
    pub fn new(limits: &Limits) -> Result<Budget, BudgetError> {
        let shards = limits.shards;
        let share = limits.memory_bytes / shards as u64;
        let workers = limits.worker_size.div_ceil(shards);
        let parts_wished = limits.max_parallel_uploads.div_ceil(shards);
        let small = workers as u64 * (SMALL_BUFFER_BYTES + CONNECTION_BYTES);
        let large_bytes = limits.part_bytes.min(LARGE_BUFFER_BYTES).next_multiple_of(LARGE_STEP_BYTES);
        // Shards differ by one lister at most; each is given the room of the largest.
        let base = SHARD_BASE_BYTES + limits.list_threads.div_ceil(shards) as u64 * LISTER_BYTES;
        let left = share.saturating_sub(base + small);
        let large_count = left / (large_bytes + CONNECTION_BYTES);
        if large_count < LARGE_BUFFERS_MIN {
            let needed_bytes = base + small + LARGE_BUFFERS_MIN * (large_bytes + CONNECTION_BYTES);
            return Err(BudgetError { memory_bytes: limits.memory_bytes, shards, needed_bytes });
        }
        let large_count = large_count as usize;
        Ok(Budget {
            shards,
            memory_bytes: limits.memory_bytes,
            list_threads: limits.list_threads,
            workers,
            parts: parts_wished.min(large_count),
            large_bytes,
            // Objects between a small buffer and the threshold take a large one as well, so all that fit are kept.
            large_count,
            small_bytes: SMALL_BUFFER_BYTES,
            small_count: workers,
        })
    }
}

/// Limits are set in MiB, so they are shown in them.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {} shards that list {} key ranges at a time in {} each; each shard {} base, {} objects under way with {} of \
             small buffers, {} large buffers of {}, {} parts under way",
            mib(self.memory_bytes),
            self.shards,
            self.list_threads,
            mib(LISTER_BYTES),
            mib(SHARD_BASE_BYTES),
            self.workers,
            mib(self.small_bytes * self.small_count as u64),
            self.large_count,
            mib(self.large_bytes),
            self.parts,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(memory_bytes: u64, shards: usize, worker_size: usize, parts: usize, part_bytes: u64) -> Limits {
        Limits { memory_bytes, shards, worker_size, max_parallel_uploads: parts, part_bytes, ..Limits::default() }
    }

    proptest! {
        #[test]
        fn the_sum_of_all_limits_stays_within_the_memory(
            memory_mib in 1u64..65_536, shards in 1usize..129, workers in 1usize..2_000, parts in 1usize..2_000,
            part_mib in 5u64..5_120, list_threads in 1usize..300,
        ) {
            let memory_bytes = memory_mib << 20;
            let limits = Limits { list_threads, ..limits(memory_bytes, shards, workers, parts, part_mib << 20) };
            if let Ok(budget) = Budget::new(&limits) {
                let buffers = budget.large_bytes * budget.large_count as u64
                    + budget.small_bytes * budget.small_count as u64;
                let connections = (budget.workers + budget.parts) as u64 * CONNECTION_BYTES;
                let listers = list_threads as u64 * LISTER_BYTES;
                let sum = (SHARD_BASE_BYTES + buffers + connections) * shards as u64 + listers;
                prop_assert!(sum <= memory_bytes);
                prop_assert!(budget.parts >= 1 && budget.parts <= budget.large_count && budget.workers >= 1);
            }
        }
    }

    #[test]
    fn the_default_gives_two_cores_a_dozen_parts_each() {
        let budget = Budget::new(&limits(256 << 20, 2, 32, 32, 8 << 20)).unwrap();
        assert_eq!((budget.workers, budget.parts, budget.large_count), (16, 12, 12));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_is_needed() {
        let error = Budget::new(&limits(16 << 20, 2, 32, 32, 8 << 20)).unwrap_err();
        assert!(error.to_string().contains("--memory"), "{error}");
        let enough = limits(error.needed_bytes * 2, 2, 32, 32, 8 << 20);
        assert!(Budget::new(&enough).is_ok());
    }
}
