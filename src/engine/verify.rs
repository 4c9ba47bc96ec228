//! A comparison instead of a sync: the same ranges, listings and merge, and for each key what is different about it.
//!
//! What the listings settle is settled while merging. The rest is queued like any action, and compared by a worker.

use std::rc::Rc;

use ropeway_io::hash::crc64;
use ropeway_s3proto::name::{ETag, ETagClass};

use super::preflight;
use super::shard::{Shard, Token, Told};
use crate::entry::{Action, EntryRef, Existing, Reason};
use crate::report::tally::add;
use crate::report::{Event, Kind};
use crate::settings::Depth;
use crate::transfer::compare::{self, Likeness};
use crate::transfer::{self, Side};

/// One key of the source, with what the target has under that key.
pub(super) async fn listed(
    shard: &Rc<Shard>,
    token: &Rc<Token>,
    depth: Depth,
    source: EntryRef<'_>,
    target: Option<EntryRef<'_>>,
) {
    let key = || String::from_utf8_lossy(source.key).into_owned();
    let sizes = (Some(source.size_bytes), target.map(|target| target.size_bytes));
    let Some(target) = target else {
        return missing(shard, source).await;
    };
    if source.size_bytes != target.size_bytes {
        return different(shard, Kind::Size, key(), sizes, None).await;
    }
    if !reads(depth, source.key) && same_tags(source.etag, target.etag) {
        return equal(shard, key(), source.size_bytes).await;
    }
    let Ok(text) = std::str::from_utf8(source.key) else {
        return unverifiable(shard, key(), "its name is not UTF-8, which S3 keys must be".to_owned()).await;
    };
    let entry = source.to_entry(text);
    let action = Action { entry, reason: Reason::Content, existing: Some(Existing::from(target)), history: None };
    add(&shard.tally.planned_objects, 1);
    add(&shard.tally.planned_bytes, action.entry.size_bytes);
    shard.enqueue(action, token).await;
}

/// A key that only the target lists.
pub(super) async fn extra(shard: &Shard, target: EntryRef<'_>) {
    let key = String::from_utf8_lossy(target.key).into_owned();
    different(shard, Kind::Extra, key, (None, Some(target.size_bytes)), None).await;
}

/// Something that cannot be compared, for this reason.
pub(super) async fn unverifiable(shard: &Shard, key: String, reason: String) {
    add(&shard.tally.unverifiable_objects, 1);
    let (kind, detail) = (Kind::Unverifiable, Some(reason));
    shard.event(Event::Difference { kind, key, source_bytes: None, target_bytes: None, detail }).await;
}

/// Compares the content of an object whose sizes agree.
pub(super) async fn content(shard: &Shard, depth: Depth, action: &Action) {
    let (key, size_bytes) = (action.entry.key.to_string(), action.entry.size_bytes);
    let Some(existing) = &action.existing else { unreachable!("only what both sides have is queued") };
    let bytes = reads(depth, action.entry.key.as_bytes());
    let compared = compare::compare(&shard.kit, &action.entry, existing, bytes);
    match shard.kit.stop.or_abandon(compared).await {
        Ok(Likeness::Equal) => equal(shard, key, size_bytes).await,
        Ok(Likeness::Different(detail)) => {
            let sizes = (Some(size_bytes), Some(existing.size_bytes));
            different(shard, Kind::Content, key, sizes, Some(detail)).await;
        }
        Ok(Likeness::Unknown(reason)) => unverifiable(shard, key, reason).await,
        Err(transfer::Error::Stopped) => {}
        Err(error) if error.ends_the_run() => {
            let (text, code) = (format!("`{key}`: {error}"), preflight::exit_code_of(&error));
            shard.tell(Told::Fatal { text, code, objects: 1 }).await;
        }
        Err(error) => unverifiable(shard, key, error.to_string()).await,
    }
}

/// A directory's object, `dir/`, is at a local target if the directory is, which no listing shows.
pub(super) fn is_directory_at_target(shard: &Shard, source: EntryRef<'_>) -> bool {
    let key = String::from_utf8_lossy(source.key);
    let marks_a_directory = source.size_bytes == 0 && key.ends_with('/');
    match &shard.kit.target {
        Side::Local(target) => marks_a_directory && target.holds(&key).is_ok_and(|holds| holds),
        Side::Bucket(_) => false,
    }
}

async fn missing(shard: &Shard, source: EntryRef<'_>) {
    let key = String::from_utf8_lossy(source.key).into_owned();
    if is_directory_at_target(shard, source) {
        return equal(shard, key, 0).await;
    }
    different(shard, Kind::Missing, key, (Some(source.size_bytes), None), None).await;
}

async fn equal(shard: &Shard, key: String, size_bytes: u64) {
    add(&shard.tally.equal_objects, 1);
    if shard.orders.events.skipped {
        shard.event(Event::Skipped { key, size_bytes }).await;
    }
}

async fn different(
    shard: &Shard,
    kind: Kind,
    key: String,
    (source_bytes, target_bytes): (Option<u64>, Option<u64>),
    detail: Option<String>,
) {
    add(&shard.tally.differences, 1);
    shard.event(Event::Difference { kind, key, source_bytes, target_bytes, detail }).await;
}

/// Whether equal tags of two listings prove equal contents: they are hashes of the same bytes in the same cut. Tags that
/// differ prove nothing, since they may be of different cuts, or no hashes.
pub(super) fn same_tags(one: Option<&ETag>, other: Option<&ETag>) -> bool {
    match (one.map(ETag::class), other.map(ETag::class)) {
        (Some(ETagClass::Opaque), _) | (None, _) => false,
        (one, other) => one == other,
    }
}

/// Whether this key is among those whose bytes are read.
fn reads(depth: Depth, key: &[u8]) -> bool {
    match depth {
        Depth::Checksums => false,
        Depth::Bytes { share, seed } => {
            // The upper bits of the product depend on all bits of the sum.
            let number = (crc64(key) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            number % SHARES < u64::from(share)
        }
    }
}

/// A share is counted in so many.
const SHARES: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_of_the_same_cut_are_equal() {
        let tag = |text: &str| ETag::parse(text).unwrap();
        let (plain, other) = (tag(&"a".repeat(32)), tag(&"b".repeat(32)));
        let (parts, more) = (tag(&format!("{}-2", "a".repeat(32))), tag(&format!("{}-3", "a".repeat(32))));
        let opaque = tag("opaque");
        assert!(same_tags(Some(&plain), Some(&plain)) && same_tags(Some(&parts), Some(&parts)));
        for (one, two) in [
            (Some(&plain), Some(&other)),
            (Some(&plain), Some(&parts)),
            (Some(&parts), Some(&more)),
            (Some(&opaque), Some(&opaque)),
            (None, None),
            (Some(&plain), None),
        ] {
            assert!(!same_tags(one, two), "{one:?} {two:?}");
        }
    }

    #[test]
    fn a_sample_has_about_its_share_and_is_the_same_for_the_same_seed() {
        let chosen = |share, seed| {
            let keys =
                (0..10_000).filter(|number| reads(Depth::Bytes { share, seed }, format!("key/{number}").as_bytes()));
            keys.collect::<Vec<i32>>()
        };
        assert_eq!((chosen(10_000, 1).len(), chosen(0, 1).len()), (10_000, 0));
        for seed in [1, 0xDEAD_BEEF, u64::MAX] {
            let sample = chosen(1_000, seed);
            assert!((800..1_200).contains(&sample.len()), "seed {seed}: {}", sample.len());
            assert_eq!(sample, chosen(1_000, seed));
        }
        assert_ne!(chosen(1_000, 1), chosen(1_000, 2));
    }
}
