//! Plain counters, one set a shard: no atomic and no lock while counting. Now and then a shard publishes its set, and
//! whoever wants the whole adds up what was published.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// One shard's counters.
        #[derive(Debug, Default)]
        pub struct Tally { $($(#[doc = $doc])+ pub $name: Cell<u64>,)+ }

        /// Counters at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        /// Where a shard publishes its counters for other threads to read. Aligned so that no two shards share a line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Published { $($name: AtomicU64,)+ }

        impl Tally {
            /// The counters now.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.get(),)+ }
            }

            /// Shows the counters to other threads.
            pub fn publish(&self, to: &Published) {
                $(to.$name.store(self.$name.get(), Ordering::Relaxed);)+
            }
        }

        impl Published {
            /// What was published last.
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl std::ops::AddAssign for Counts {
            fn add_assign(&mut self, other: Counts) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

tally! {
    /// Entries of the source that were listed.
    source_listed,
    /// Entries of the target that were listed.
    target_listed,
    /// Objects that the plan wants copied, or in a dry run would.
    planned_objects,
    /// Their bytes.
    planned_bytes,
    /// Planned objects that turned out to need nothing: the time stored with them is the file's.
    settled_objects,
    /// Their bytes.
    settled_bytes,
    /// Objects copied: acknowledged by the target and compared.
    transferred_objects,
    /// Their bytes.
    transferred_bytes,
    /// Bytes under way that have arrived; runs ahead of `transferred_bytes` inside large objects.
    moved_bytes,
    /// Bytes of those that an earlier run had brought, so that they were neither sent nor fetched again.
    resumed_bytes,
    /// Unfinished objects that were kept for the next run to continue.
    kept_objects,
    /// Objects that needed no copying and were given the source's tags, or in a dry run would be.
    retagged_objects,
    /// Objects left alone because the target has them already, or a filter leaves them out.
    skipped_objects,
    /// Objects left alone because a filter leaves them out; counted among those skipped, too.
    filtered_objects,
    /// Transferred objects that were proven, by a checksum, an ETag or both.
    verified,
    /// Transferred objects proven by a checksum that the service computed too.
    verified_checksum,
    /// Transferred objects proven by an ETag that is the MD5 of their bytes or parts.
    verified_etag,
    /// Transferred objects for which nothing could be compared; each is a warning, unless comparing was turned off.
    unverified,
    /// Objects that failed.
    failed_objects,
    /// Objects to be deleted in the last phase, or in a dry run those that would be.
    planned_deletes,
    /// Objects deleted.
    deleted_objects,
    /// Objects that could not be deleted; counted among those that failed, too.
    failed_deletes,
    /// Objects that a comparison found to be the same on both sides.
    equal_objects,
    /// Objects that it found on one side alone, or not the same.
    differences,
    /// Objects that could not be compared.
    unverifiable_objects,
    /// Objects that a report looked at.
    reported_objects,
    /// Of these, those whose content is the same, as their ETags, or whatever stands for them, show.
    etag_matches,
    /// Those whose content is not.
    etag_mismatch,
    /// Those of whose content nothing could be said.
    etag_unknown,
    /// Those whose checksums are the same.
    checksum_matches,
    /// Those whose checksums are not.
    checksum_mismatch,
    /// Those whose checksums could not be compared.
    checksum_unknown,
    /// Those whose headers and user metadata are the same.
    metadata_matches,
    /// Those of which one or more are not.
    metadata_mismatch,
    /// Those whose tags are the same.
    tagging_matches,
    /// Those whose tags are not.
    tagging_mismatch,
    /// Those that the target does not have.
    not_found,
    /// Things the person should know that are not failures.
    warnings,
    /// Requests sent, all tries counted.
    requests,
    /// Tries after the first.
    retries,
}

impl Counts {
    /// Takes what needed nothing out of what was planned; once, when all shards are summed.
    pub fn settle(&mut self) {
        // Shards publish at different moments, so between two of them more may be settled than planned.
        self.planned_objects = self.planned_objects.saturating_sub(self.settled_objects);
        self.planned_bytes = self.planned_bytes.saturating_sub(self.settled_bytes);
    }
}

/// Adds to a counter.
pub fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get() + amount);
}
