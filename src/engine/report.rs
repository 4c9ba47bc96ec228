//! A report of what is in sync and what is not, as s3sync makes it: every object of the source is compared with the
//! target's, nothing is changed, and each comparison is a record. What only the target has is not spoken of.
//!
//! It goes the way of a comparison (`verify`): what the listings show is known while merging, and the rest is a worker's.

use std::collections::BTreeMap;
use std::rc::Rc;

use ropeway_s3proto::date::rfc3339_of_unix_ns;
use ropeway_s3proto::name::ETag;
use ropeway_s3proto::op::ObjectMetadata;
use serde_json::Value;

use super::shard::{Shard, Token, Told};
use super::{preflight, verify};
use crate::entry::{Action, ContentBy, EntryRef, Existing, Reason};
use crate::plan::compare::Rule;
use crate::report::tally::{Counts, add};
use crate::report::{Event, ReportTotals};
use crate::settings::Report;
use crate::transfer;
use crate::transfer::compare::{By, Likeness};

const SYNC: &str = "SYNC_STATUS";
const METADATA: &str = "METADATA_SYNC_STATUS";
const TAGGING: &str = "TAGGING_SYNC_STATUS";

const MATCHES: &str = "MATCHES";
const MISMATCH: &str = "MISMATCH";
const NOT_FOUND: &str = "NOT_FOUND";
const UNKNOWN: &str = "UNKNOWN";

/// What a record says beside its status.
type Values = BTreeMap<&'static str, Value>;

/// One key of the source, with what the target has under that key.
pub(super) async fn listed(shard: &Rc<Shard>, token: &Rc<Token>, source: EntryRef<'_>, target: Option<EntryRef<'_>>) {
    add(&shard.tally.reported_objects, 1);
    let key = || String::from_utf8_lossy(source.key).into_owned();
    let mut values = Values::new();
    describe(&mut values, &SOURCE, &Existing::from(source));
    let Some(target) = target else {
        let (kind, status, counter) = match verify::is_directory_at_target(shard, source) {
            true => (ETAG, MATCHES, &shard.tally.etag_matches),
            false => ("EXISTENCE", NOT_FOUND, &shard.tally.not_found),
        };
        add(counter, 1);
        return record(shard, SYNC, kind, status, key(), values).await;
    };
    describe(&mut values, &TARGET, &Existing::from(target));
    let Ok(text) = std::str::from_utf8(source.key) else {
        add(&shard.tally.etag_unknown, 1);
        values.insert("detail", "its name is not UTF-8, which S3 keys must be".into());
        return record(shard, SYNC, ETAG, UNKNOWN, key(), values).await;
    };
    let entry = source.to_entry(text);
    add(&shard.tally.planned_objects, 1);
    add(&shard.tally.planned_bytes, entry.size_bytes);
    let action = Action { entry, reason: Reason::Content, existing: Some(Existing::from(target)), history: None };
    shard.enqueue(action, token).await;
}

/// Compares an object that both sides have, in all that was asked for.
pub(super) async fn compared(shard: &Shard, report: Report, action: &Action) {
    match compare(shard, report, action).await {
        Ok(()) | Err(transfer::Error::Stopped) => {}
        Err(error) if error.ends_the_run() => {
            let (text, code) = (format!("`{}`: {error}", action.entry.key), preflight::exit_code_of(&error));
            shard.tell(Told::Fatal { text, code, objects: 1 }).await;
        }
        Err(error) => {
            add(&shard.tally.etag_unknown, 1);
            let values = Values::from([("detail", error.to_string().into())]);
            record(shard, SYNC, ETAG, UNKNOWN, action.entry.key.to_string(), values).await;
        }
    }
}

async fn compare(shard: &Shard, report: Report, action: &Action) -> Result<(), transfer::Error> {
    let (kit, entry) = (&shard.kit, &action.entry);
    let Some(existing) = &action.existing else { unreachable!("only what both sides have is queued") };
    if report.metadata {
        let (source, target) = transfer::metadata_of_both(kit, &entry.key).await?;
        metadata(shard, &entry.key, &source, &target).await;
    }
    if report.tags {
        let (source, target) = transfer::tags_of_both(kit, &entry.key).await?;
        let (status, counter) = match source == target {
            true => (MATCHES, &shard.tally.tagging_matches),
            false => (MISMATCH, &shard.tally.tagging_mismatch),
        };
        add(counter, 1);
        let values = [("source_tagging", source.to_header()), ("target_tagging", target.to_header())];
        let values = values.into_iter().map(|(name, value)| (name, value.into())).collect();
        record(shard, TAGGING, "TAGGING", status, entry.key.to_string(), values).await;
    }
    let (kind, likeness) = content(shard, action, existing).await?;
    let mut values = Values::new();
    describe(&mut values, &SOURCE, &Existing::from(entry));
    describe(&mut values, &TARGET, existing);
    let (status, etag_counter, checksum_counter, detail) = match likeness {
        Likeness::Equal => (MATCHES, &shard.tally.etag_matches, &shard.tally.checksum_matches, None),
        Likeness::Different(how) => (MISMATCH, &shard.tally.etag_mismatch, &shard.tally.checksum_mismatch, Some(how)),
        Likeness::Unknown(why) => (UNKNOWN, &shard.tally.etag_unknown, &shard.tally.checksum_unknown, Some(why)),
    };
    add(if kind == CHECKSUM { checksum_counter } else { etag_counter }, 1);
    if let Some(detail) = detail {
        values.insert("detail", detail.into());
    }
    record(shard, SYNC, kind, status, entry.key.to_string(), values).await;
    Ok(())
}

const ETAG: &str = "ETAG";
const CHECKSUM: &str = "CHECKSUM";

/// What the contents were compared by, and what came of it. Where the listings tell, nobody is asked.
async fn content(
    shard: &Shard,
    action: &Action,
    existing: &Existing,
) -> Result<(&'static str, Likeness), transfer::Error> {
    let entry = &action.entry;
    let (kind, by) = match shard.orders.rule {
        Rule::Content(ContentBy::Checksum(algorithm)) => (CHECKSUM, By::Checksum(algorithm)),
        Rule::Newer | Rule::Size | Rule::Content(ContentBy::ETag) | Rule::NewerContent(_) => (ETAG, By::ETag),
    };
    if entry.size_bytes != existing.size_bytes {
        let how = format!("it has {} bytes at the source and {} at the target", entry.size_bytes, existing.size_bytes);
        return Ok((kind, Likeness::Different(how)));
    }
    if by == By::ETag && verify::same_tags(entry.etag.as_ref(), existing.etag.as_ref()) {
        return Ok((kind, Likeness::Equal));
    }
    let compared = transfer::compare::compare_by(&shard.kit, entry, existing, by);
    Ok((kind, shard.kit.stop.or_abandon(compared).await?))
}

/// A record for each of the headers, and one for all user metadata.
async fn metadata(shard: &Shard, key: &str, source: &ObjectMetadata, target: &ObjectMetadata) {
    let mut differs = false;
    for (name, source, target) in headers(source, target) {
        let status = if source == target { MATCHES } else { MISMATCH };
        differs |= source != target;
        let values = [("metadata_name", name.to_owned()), ("source", source), ("target", target)];
        let values = values.into_iter().map(|(name, value)| (name, value.into())).collect();
        record(shard, METADATA, "METADATA", status, key.to_owned(), values).await;
    }
    add(if differs { &shard.tally.metadata_mismatch } else { &shard.tally.metadata_matches }, 1);
}

/// Each header with its two values, empty where there is none.
fn headers(source: &ObjectMetadata, target: &ObjectMetadata) -> Vec<(&'static str, String, String)> {
    type Header = fn(&ObjectMetadata) -> &Option<String>;
    let system: [(&str, Header); 7] = [
        ("Content-Disposition", |it| &it.content_disposition),
        ("Content-Encoding", |it| &it.content_encoding),
        ("Content-Language", |it| &it.content_language),
        ("Content-Type", |it| &it.content_type),
        ("Cache-Control", |it| &it.cache_control),
        ("Expires", |it| &it.expires),
        ("x-amz-website-redirect-location", |it| &it.website_redirect),
    ];
    let value = |of: &ObjectMetadata, header: Header| header(of).clone().unwrap_or_default();
    let user = |of: &ObjectMetadata| {
        let mut pairs: Vec<_> = of.user.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        pairs.join(",")
    };
    let system = system.into_iter().map(|(name, header)| (name, value(source, header), value(target, header)));
    system.chain([("x-amz-meta-", user(source), user(target))]).collect()
}

/// The names under which a side's object is described.
const SOURCE: [&str; 3] = ["source_e_tag", "source_last_modified", "source_size"];
const TARGET: [&str; 3] = ["target_e_tag", "target_last_modified", "target_size"];

fn describe(values: &mut Values, names: &[&'static str; 3], object: &Existing) {
    let [etag, modified, size] = names;
    values.insert(size, object.size_bytes.into());
    if let Some(time) = rfc3339_of_unix_ns(object.modified_ns) {
        values.insert(modified, time.into());
    }
    if let Some(tag) = &object.etag {
        values.insert(etag, ETag::to_string(tag).into());
    }
}

async fn record(
    shard: &Shard,
    name: &'static str,
    kind: &'static str,
    status: &'static str,
    key: String,
    values: Values,
) {
    shard.event(Event::SyncStatus { name, kind, status, key, values }).await;
}

/// The totals, which are the last record.
pub(super) fn totals(counts: &Counts) -> Event {
    Event::ReportSummary {
        name: "REPORT_SUMMARY",
        totals: ReportTotals {
            number_of_objects: counts.reported_objects,
            etag_matches: counts.etag_matches,
            checksum_matches: counts.checksum_matches,
            metadata_matches: counts.metadata_matches,
            tagging_matches: counts.tagging_matches,
            not_found: counts.not_found,
            etag_mismatch: counts.etag_mismatch,
            checksum_mismatch: counts.checksum_mismatch,
            metadata_mismatch: counts.metadata_mismatch,
            tagging_mismatch: counts.tagging_mismatch,
            etag_unknown: counts.etag_unknown,
            checksum_unknown: counts.checksum_unknown,
        },
    }
}

/// How many comparisons came to anything else than a match.
pub(super) fn out_of_sync(counts: &Counts) -> u64 {
    counts.not_found
        + counts.etag_mismatch
        + counts.checksum_mismatch
        + counts.metadata_mismatch
        + counts.tagging_mismatch
        + counts.etag_unknown
        + counts.checksum_unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_compared_one_by_one_and_user_metadata_as_a_whole() {
        let one = ObjectMetadata {
            content_type: Some("text/plain".into()),
            user: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
            ..ObjectMetadata::default()
        };
        let other = ObjectMetadata {
            cache_control: Some("no-store".into()),
            user: vec![("a".into(), "1".into()), ("b".into(), "2".into())],
            ..ObjectMetadata::default()
        };
        let compared = headers(&one, &other);
        assert_eq!(compared.len(), 8);
        let different: Vec<_> =
            compared.iter().filter(|(_, one, other)| one != other).map(|(name, ..)| *name).collect();
        assert_eq!(different, ["Content-Type", "Cache-Control"]);
        assert_eq!(compared[7], ("x-amz-meta-", "a=1,b=2".to_owned(), "a=1,b=2".to_owned()));
    }
}
