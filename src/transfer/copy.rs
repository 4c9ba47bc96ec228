//! Copies that the target's service makes by itself.
//!
//! What a copy is given is said in full, never left to the service, so that an object copied so is the same as one that came
//! through here. It is of the very object that was looked at (`x-amz-copy-source-if-match`). A service that may not read the
//! source, or does not know how, refuses; then the object takes the other way.

use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ByteRange, ETag, Key, VersionId};
use ropeway_s3proto::op::{Condition, CopySource};

use super::large::{About, Attached, Destination, PartDone};
use super::part::Part;
use super::side::{Acknowledged, BucketSide, Content, Opened};
use super::tags::keep_tags;
use super::verify::{Proof, Unproven};
use super::{Error, Kit, Lacks, Receipt, Side, Version};
use crate::client::{self, Copied, Copies, TagsGivenTo};
use crate::entry::Action;

/// Whether the target's service is to be asked first.
pub(super) fn wanted(kit: &Kit) -> bool {
    let asked = kit.attributes.as_ref().is_some_and(|attributes| attributes.server_side_copy);
    match (&kit.source, &kit.target) {
        (Side::Bucket(_), Side::Bucket(target)) => asked && target.client.abilities().copies() != Copies::Refused,
        _ => false,
    }
}

/// Whether a copy was refused in a way that leaves the object's other way open. The first refusal of a run stands for all.
pub(super) fn refused(kit: &Kit, error: &Error) -> bool {
    let (Error::NotCopied(refusal), Side::Bucket(target)) = (error, &kit.target) else { return false };
    tracing::debug!(%error, "the service does not copy by itself");
    target.client.abilities().learn_copies_refused(refusal.to_string());
    true
}

/// Has a small object copied in one request.
pub(super) async fn whole(kit: &Kit, action: &Action, source: &Opened, about: &About) -> Result<Receipt, Error> {
    let (from, side) = sides(kit);
    let key = side.key(&action.entry.key)?;
    let object = object(source);
    let condition = kit.condition(action.existing_etag());
    let copied =
        side.client.copy(&key, copied_from(from, object), &about.metadata, kit.integrity.upload_with, condition).await;
    let answer = match copied {
        Ok(answer) => answer,
        Err(error) => return Err(judge(from, object, condition, error).await),
    };
    side.client.abilities().learn_copies_made();
    let proof = about.expected.check_copy(&answer, kit.etags(side))?;
    keep_tags(side, &key, &about.metadata, TagsGivenTo::Copy).await?;
    kit.moved(source.size_bytes);
    let version = Version { modified_ns: source.modified_ns, etag: object.etag.cloned() };
    let whole = answer.checksum.and_then(|stored| stored.whole());
    let keeps = whole.is_some_and(|checksum| checksum.algorithm() == kit.integrity.algorithm());
    let crc64nvme = whole.and_then(|checksum| checksum.crc64nvme()).map(|crc| crc.0);
    let etag = answer.etag.map(|etag| etag.to_string());
    let lacks = Lacks::of(kit, about.has_checksum, keeps);
    Ok(Receipt { size_bytes: source.size_bytes, proof, crc64nvme, etag, version, lacks })
}

/// Has one part of a large object copied.
pub(super) async fn part(kit: &Kit, attached: &Attached, part: &Part) -> Result<PartDone, Error> {
    let (from, side) = sides(kit);
    let Destination::Upload { key, upload_id } = &attached.large.target else {
        unreachable!("a large object is copied into an upload")
    };
    let object = object(&attached.source);
    let range = ByteRange { start: part.range.start, end: part.range.end };
    let copied = copied_from(from, object);
    let answer = match side.client.copy_part(key, upload_id, part.number, copied, range).await {
        Ok(answer) => answer,
        Err(error) => return Err(judge(from, object, Condition::Always, error).await),
    };
    side.client.abilities().learn_copies_made();
    let checksum = answer.checksum.and_then(|stored| stored.whole());
    let proof = match checksum {
        Some(_) => Proof::Checksum,
        None => Proof::None(Unproven::NoChecksum),
    };
    Ok(PartDone {
        number: part.number,
        size_bytes: part.size_bytes(),
        crc64: checksum.and_then(|checksum| checksum.crc64nvme()).map_or(0, |crc| crc.0),
        md5: None,
        sum: None,
        acknowledged: Some(Acknowledged { etag: answer.etag, proof, checksum }),
    })
}

fn sides(kit: &Kit) -> (&BucketSide, &BucketSide) {
    match (&kit.source, &kit.target) {
        (Side::Bucket(source), Side::Bucket(target)) => (source, target),
        _ => unreachable!("asked for only from bucket to bucket"),
    }
}

/// What is copied.
#[derive(Clone, Copy)]
struct CopiedObject<'a> {
    key: &'a Key,
    version: Option<&'a VersionId>,
    etag: Option<&'a ETag>,
}

fn object(source: &Opened) -> CopiedObject<'_> {
    match &source.content {
        Content::Object { key, version, etag } => CopiedObject { key, version: version.as_ref(), etag: etag.as_ref() },
        Content::File { .. } => unreachable!("copies are of objects"),
    }
}

fn copied_from<'a>(from: &'a BucketSide, object: CopiedObject<'a>) -> Copied<'a> {
    let CopiedObject { key, version, etag } = object;
    let version_id = version.map(VersionId::as_str);
    let source = CopySource { bucket: from.client.bucket(), key, version_id, if_match: etag };
    Copied { source, protection: from.client.protection() }
}

/// What a failed copy means. A condition that did not hold may be the source's or the target's; a look at the source tells.
async fn judge(from: &BucketSide, source: CopiedObject<'_>, condition: Condition<'_>, error: client::Error) -> Error {
    if is_archived(&error) {
        return Error::Archived;
    }
    match error.class() {
        Class::Conflict if error.code() == Some("PreconditionFailed") => {
            let now = from.client.head_version(source.key, source.version).await;
            match (now.is_ok_and(|head| head.etag.as_ref() == source.etag), condition) {
                (false, _) => Error::Changed(error.to_string()),
                // The service looked at another object: some decode the source's name twice.
                (true, Condition::Always) => Error::NotCopied(Box::new(error)),
                (true, Condition::Absent | Condition::Is(_)) => Error::target(error),
            }
        }
        Class::Denied | Class::Unsupported | Class::Fatal | Class::WrongRegion => Error::NotCopied(Box::new(error)),
        // The service knows no such bucket or object; an upload that is gone is another matter.
        Class::Absent if error.code() != Some("NoSuchUpload") => Error::NotCopied(Box::new(error)),
        Class::Absent | Class::Conflict | Class::Retry | Class::Throttle | Class::Auth | Class::ClockSkew => {
            Error::target(error)
        }
    }
}

/// Whether the source cannot be read before it has been restored from an archive.
pub(super) fn is_archived(error: &client::Error) -> bool {
    matches!(error.code(), Some("InvalidObjectState" | "ObjectNotInActiveTierError"))
}
