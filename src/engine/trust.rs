//! What the run has found out about its listings, known to all shards: whether a side lists in order, and whether its keys
//! are those that it has. Said once a side, whichever shard comes upon it first.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::entry::SideName;
use crate::settings::{Place, SyncSettings};

/// Both sides' listings.
#[derive(Debug, Default)]
pub(super) struct Trust {
    sides: [SideTrust; 2],
}

#[derive(Debug, Default)]
struct SideTrust {
    /// Its listing does not come in key order, so it is sorted and never cut.
    unordered: AtomicBool,
    /// Some of its names could not be decoded by the service. Nothing may be deleted that such a listing does not show: it may
    /// be there under its true name.
    lossy: AtomicBool,
    /// A range with a border was listed to its end while the listing was believed to be in order.
    cut: AtomicBool,
}

impl Trust {
    /// What is known at the start.
    pub(super) fn new(settings: &SyncSettings) -> Trust {
        let trust = Trust::default();
        for (side, place) in [(SideName::Source, &settings.source), (SideName::Target, &settings.target)] {
            // AWS lists directory buckets in an order of its own.
            if let Place::Bucket(place) = place
                && place.bucket.is_directory()
            {
                trust.of(side).unordered.store(true, Ordering::Relaxed);
            }
        }
        trust
    }

    /// Whether the side's listing comes in order, as far as is known.
    pub(super) fn is_ordered(&self, side: SideName) -> bool {
        !self.of(side).unordered.load(Ordering::Relaxed)
    }

    /// Whether ranges can be cut: where a listing can be told where to start, and starts there.
    pub(super) fn may_cut(&self) -> bool {
        self.is_ordered(SideName::Source) && self.is_ordered(SideName::Target)
    }

    /// The side turned out not to list in order. Whether that is news.
    pub(super) fn found_unordered(&self, side: SideName) -> bool {
        !self.of(side).unordered.swap(true, Ordering::Relaxed)
    }

    /// A key of the side could not be decoded. Whether that is news.
    pub(super) fn found_lossy(&self, side: SideName) -> bool {
        !self.of(side).lossy.swap(true, Ordering::Relaxed)
    }

    /// A range that is not the whole key space was listed to its end in what was believed to be its order.
    pub(super) fn finished_cut_range(&self, side: SideName) {
        self.of(side).cut.store(true, Ordering::Relaxed);
    }

    /// A side of which ranges were listed from starting places in an order that it turned out not to have: keys may have
    /// been missed between them.
    pub(super) fn may_have_gaps(&self) -> Option<SideName> {
        let gaps = |side: &SideName| !self.is_ordered(*side) && self.of(*side).cut.load(Ordering::Relaxed);
        [SideName::Source, SideName::Target].into_iter().find(gaps)
    }

    fn of(&self, side: SideName) -> &SideTrust {
        &self.sides[side as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_news_once_and_gaps_need_both_a_cut_and_disorder() {
        let trust = Trust::default();
        assert!(trust.may_cut() && trust.may_have_gaps().is_none());
        trust.finished_cut_range(SideName::Target);
        assert!(trust.may_have_gaps().is_none());
        assert!(trust.found_unordered(SideName::Source) && !trust.found_unordered(SideName::Source));
        assert!(!trust.may_cut() && trust.may_have_gaps().is_none());
        assert!(trust.found_unordered(SideName::Target));
        assert_eq!(trust.may_have_gaps(), Some(SideName::Target));
        assert!(trust.found_lossy(SideName::Source) && !trust.found_lossy(SideName::Source));
    }
}
