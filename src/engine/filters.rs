//! What does not count, as one shard applies it: to what is listed while merging, and before an object is transferred to
//! what the object says of itself.

use ropeway_io::path::Follow;

use super::shard::Shard;
use crate::entry::{Action, EntryRef, ObjectVersion};
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

/// Whether a version of an object is left out. A delete marker has no size that could be too small or too large.
pub(super) async fn leave_out_version(shard: &Shard, key: &str, version: &ObjectVersion) -> bool {
    if !shard.filters.any_listed {
        return false;
    }
    let filters = &shard.filters.filters;
    let size_bytes = version.content.as_ref().map(|content| content.size_bytes);
    let left_out_by = match size_bytes {
        Some(size_bytes) => {
            let (modified_ns, etag, versions) = (version.modified_ns, None, &[][..]);
            filter::listed(filters, EntryRef { key: key.as_bytes(), size_bytes, modified_ns, etag, versions })
        }
        None => match filter::times(filters, version.modified_ns) {
            Some(by) => Ok(Some(by)),
            None => filter::key(filters, key.as_bytes()),
        },
    };
    match left_out_by {
        Ok(None) => false,
        Ok(Some(by)) => {
            left_out(shard, || key.to_owned(), size_bytes.unwrap_or(0), by).await;
            true
        }
        Err(undecided) => {
            undecidable(shard, key.to_owned(), &undecided).await;
            true
        }
    }
}

/// Whether an object that was to be transferred is left out, or could not be asked.
pub(super) async fn leave_out(shard: &Shard, action: &Action) -> bool {
    match leave_out_asked(shard, action).await {
        Ok(left_out) => left_out,
        Err(error) => {
            shard.failed(action, error).await;
            true
        }
    }
}

/// Whether an object that was to be transferred is left out because of what it says of itself.
pub(super) async fn leave_out_asked(shard: &Shard, action: &Action) -> Result<bool, transfer::Error> {
    let (entry, filters) = (&action.entry, &shard.filters.filters);
    let said = transfer::source_says(&shard.kit, entry, filters.tags.any()).await?;
    let left_out_by = match filter::asked(filters, &said.metadata) {
        Ok(None) => filter::tags(filters, &said.tags),
        by => by,
    };
    match left_out_by {
        Ok(None) => Ok(false),
        Ok(Some(by)) => {
            shard.take_out_of_plan(entry.size_bytes);
            left_out(shard, || entry.key.to_string(), entry.size_bytes, by).await;
            Ok(true)
        }
        Err(undecided) => {
            undecidable(shard, entry.key.to_string(), &undecided).await;
            Ok(true)
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
