//! What does not count, as one shard applies it: to what is listed while merging, and before an object is transferred to
//! what the object says of itself.

use ropeway_io::path::Follow;

use super::shard::Shard;
use crate::entry::{Action, EntryRef};
use crate::plan::filter::{self, By, Undecided};
use crate::report::Event;
use crate::report::tally::add;
use crate::settings::Filters;
use crate::transfer;

/// A shard's filters, and whether there are any.
pub(super) struct ShardFilters {
    filters: Filters,
    any_listed: bool,
    any_asked: bool,
}

impl ShardFilters {
    pub(super) fn new(filters: Filters) -> ShardFilters {
        let (any_listed, any_asked) = (filters.any_listed(), filters.any_asked());
        ShardFilters { filters, any_listed, any_asked }
    }

    /// Whether objects have to be asked.
    pub(super) fn asks(&self) -> bool {
        self.any_asked
    }

    /// Which links of a local source are followed.
    pub(super) fn links(&self) -> Follow {
        if self.filters.ignore_symlinks { Follow::Never } else { Follow::Links }
    }

    /// Whether an object of this name would have been taken from the source.
    pub(super) fn takes_key(&self, key: &[u8]) -> bool {
        !self.any_listed || matches!(filter::key(&self.filters, key), Ok(None))
    }
}

/// Whether a listed object of the source is left out, with all that follows from it.
pub(super) async fn leave_out_listed(shard: &Shard, entry: EntryRef<'_>) -> bool {
    if !shard.filters.any_listed {
        return false;
    }
    match filter::listed(&shard.filters.filters, entry) {
        Ok(None) => false,
        Ok(Some(by)) => {
            left_out(shard, || String::from_utf8_lossy(entry.key).into_owned(), entry.size_bytes, by).await;
            true
        }
        Err(undecided) => {
            undecidable(shard, String::from_utf8_lossy(entry.key).into_owned(), &undecided).await;
            true
        }
    }
}

/// Whether an object that was to be transferred is left out, or could not be asked.
pub(super) async fn leave_out(shard: &Shard, action: &Action) -> bool {
    let (entry, filters) = (&action.entry, &shard.filters.filters);
    let metadata = match transfer::source_metadata(&shard.kit, entry).await {
        Ok(metadata) => metadata,
        Err(error) => {
            shard.failed(action, error).await;
            return true;
        }
    };
    match filter::asked(filters, &metadata) {
        Ok(None) => false,
        Ok(Some(by)) => {
            add(&shard.tally.settled_objects, 1);
            add(&shard.tally.settled_bytes, entry.size_bytes);
            left_out(shard, || entry.key.to_string(), entry.size_bytes, by).await;
            true
        }
        Err(undecided) => {
            undecidable(shard, entry.key.to_string(), &undecided).await;
            true
        }
    }
}

async fn left_out(shard: &Shard, key: impl FnOnce() -> String, size_bytes: u64, by: By) {
    add(&shard.tally.skipped_objects, 1);
    add(&shard.tally.filtered_objects, 1);
    if shard.orders.events.skipped {
        shard.event(Event::Filtered { key: key(), size_bytes, filter: by.flag() }).await;
    }
}

/// An object of which nobody can say whether it counts is not passed over in silence.
async fn undecidable(shard: &Shard, key: String, undecided: &Undecided) {
    add(&shard.tally.failed_objects, 1);
    shard.event(Event::Failed { key, error: undecided.to_string() }).await;
}
