//! A multipart upload's beginning and end: what is asked for when it is opened, and how its completion is proven, even when
//! the answer is lost.

use ropeway_s3proto::checksum::{Algorithm, ChecksumType, Crc64Nvme, StoredChecksum};
use ropeway_s3proto::name::{ETag, ETagClass, Key, PartNumber, UploadId};
use ropeway_s3proto::op::{Condition, ObjectMetadata};

use super::error::Made;
use super::large::PartDone;
use super::part::Cut;
use super::side::{Acknowledged, BucketSide, NOT_COMPARED, refuses_checksum};
use super::verify::{self, Compared, Proof, Unproven};
use super::{Error, Kit, metadata, sums};
use crate::client::{self, CompletedPart, Failure, ObjectHead, UploadProof, Uploaded};

pub(super) async fn create_upload(
    kit: &Kit,
    side: &BucketSide,
    key: &Key,
    metadata: &ObjectMetadata,
    token: &str,
    cut: &Cut,
) -> Result<UploadId, Error> {
    let mut metadata = metadata.clone();
    metadata::set_upload(&mut metadata, token, cut);
    let abilities = side.client.abilities();
    let known = abilities.upload_proof();
    let checksum = (kit.integrity.algorithm(), kit.integrity.covers());
    match side.client.create_upload(key, &metadata, Some(checksum).filter(|_| known != UploadProof::Md5)).await {
        Err(error) if known == UploadProof::Unknown && refuses_checksum(&error) => {
            let without = side.client.create_upload(key, &metadata, None).await;
            // It was the checksum that was refused only if the same without it is taken.
            if without.is_ok() {
                abilities.learn_checksum_echo(false);
            }
            without
        }
        result => result,
    }
    .map_err(Error::target)
}

/// All parts of an upload, and what they come to.
pub(super) struct Whole<'a> {
    pub(super) key: &'a Key,
    pub(super) upload_id: &'a UploadId,
    pub(super) token: &'a str,
    /// Of the whole content, if it is known.
    pub(super) crc: Option<Crc64Nvme>,
    pub(super) parts: &'a [PartDone],
}

/// Completes an upload, and compares the object that it made with its parts.
pub(super) async fn complete(
    kit: &Kit,
    side: &BucketSide,
    whole: Whole<'_>,
    condition: Condition<'_>,
) -> Result<(Uploaded, Acknowledged), Error> {
    let Whole { key, upload_id, token, crc, parts } = whole;
    let (etags, algorithm) = (kit.etags(side), kit.integrity.algorithm());
    let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
    let with_checksums = side.client.abilities().upload_proof() == UploadProof::Checksum;
    let whole = match kit.integrity.covers() {
        ChecksumType::FullObject if with_checksums => made_of(algorithm, false, parts, crc).map(|whole| whole.checksum),
        ChecksumType::FullObject | ChecksumType::Composite => None,
    };
    let list: Result<Vec<CompletedPart>, Error> =
        parts.iter().map(|part| part.completed(algorithm, with_checksums, crc.is_some())).collect();
    let list = list?;
    let answer = match side.client.complete_upload(key, upload_id, &list, whole, size_bytes, condition).await {
        Ok(completed) => completed,
        Err(error) => reconcile(side, key, token, size_bytes, error).await?,
    };
    // Ceph's answer has an empty ETag; the object itself has one.
    let answer = match (&answer.etag, answer.checksum) {
        (None, None) => uploaded(side.client.head(key).await.map_err(Error::target)?),
        _ => answer,
    };
    let Uploaded { etag, etag_is_md5, checksum: theirs, version: _ } = answer.clone();
    let theirs = theirs.filter(|theirs| theirs.parts.is_none() || kit.integrity.of_parts);
    let ours = theirs.and_then(|theirs| made_of(theirs.checksum.algorithm(), theirs.parts.is_some(), parts, crc));
    let agrees = match (ours, theirs) {
        (Some(ours), Some(theirs)) if kit.integrity.uploaded_checksums => {
            verify::same_checksum(ours, theirs).map_err(|error| error.of_what_was_made(Made::of(&answer)))?
        }
        _ => false,
    };
    // The object is the list of parts that was sent. Its ETag proves them only if theirs were compared with our bytes.
    let of_parts = parts.iter().map(PartDone::proof).reduce(Proof::weaker).unwrap_or(NOT_COMPARED);
    let by_etags = matches!(of_parts, Proof::ETag | Proof::ChecksumAndETag);
    let compared = match (multipart_digest(&list), etag.as_ref().map(ETag::class)) {
        (Some(ours), Some(ETagClass::Multipart { digest, .. })) if by_etags && etag_is_md5 => {
            etags.same_parts(ours, digest, agrees).map_err(|error| error.of_what_was_made(Made::of(&answer)))?
        }
        _ => Compared::Not(Unproven::NoChecksum),
    };
    let proof = match (agrees, compared) {
        (true, compared) => Proof::by_checksum(compared),
        (false, Compared::Equal) => Proof::ETag,
        (false, Compared::Not(_)) => of_parts,
    };
    let checksum = ours.map(|ours| ours.checksum).filter(|ours| ours.algorithm() == algorithm);
    Ok((answer, Acknowledged { etag, proof, checksum }))
}

/// What a service must keep of an object of these parts, whose CRC64NVME is `crc`. None if that does not follow from what is
/// known of them.
fn made_of(
    algorithm: Algorithm,
    is_composite: bool,
    parts: &[PartDone],
    crc: Option<Crc64Nvme>,
) -> Option<StoredChecksum> {
    match (algorithm, is_composite) {
        (Algorithm::Crc64Nvme, false) => crc.map(|crc| StoredChecksum::of_bytes(crc.into())),
        _ => sums::of_parts(algorithm, is_composite, parts, |part| part.acknowledged.as_ref()?.checksum),
    }
}

fn uploaded(head: ObjectHead) -> Uploaded {
    Uploaded { etag: head.etag, etag_is_md5: head.etag_is_md5, checksum: head.checksum, version: None }
}

/// The answer to a completion was lost or told nothing, or says that there is no such upload, as it does when an earlier try
/// got through. The object that stands there now is ours if it carries our token and has our length (reliability.md P07); it
/// is never assumed to be.
async fn reconcile(
    side: &BucketSide,
    key: &Key,
    token: &str,
    size_bytes: u64,
    error: client::Error,
) -> Result<Uploaded, Error> {
    let lost = match &error.failure {
        Failure::Service(refusal) => {
            // Under a condition, an earlier try that got through is in the way of the next.
            let in_the_way = refusal.code == "PreconditionFailed" && error.attempts > 1;
            refusal.code == "NoSuchUpload" || refusal.is_ambiguous() || in_the_way
        }
        Failure::Transport { .. }
        | Failure::Protocol(_)
        | Failure::Changed(_)
        | Failure::Request(_)
        | Failure::Keys(_) => true,
    };
    if !lost {
        return Err(Error::target(error));
    }
    match side.client.head(key).await {
        Ok(head) if metadata::token(&head.metadata) == Some(token) && head.size_bytes == size_bytes => {
            tracing::debug!(key = key.as_str(), "the answer to the completion was lost; the object is there");
            Ok(uploaded(head))
        }
        _ => Err(Error::target(error)),
    }
}

/// The digest of the ETag that these parts must give.
fn multipart_digest(parts: &[CompletedPart]) -> Option<[u8; 16]> {
    let digests: Option<Vec<[u8; 16]>> = parts
        .iter()
        .map(|part| match part.etag.class() {
            ETagClass::Md5(digest) => Some(digest),
            ETagClass::Multipart { .. } | ETagClass::Opaque => None,
        })
        .collect();
    digests.map(|digests| verify::md5_of_md5s(digests.into_iter()))
}

impl PartDone {
    /// The part as the completion names it.
    fn completed(&self, algorithm: Algorithm, with_checksum: bool, has_crc: bool) -> Result<CompletedPart, Error> {
        let etag = self.acknowledged.as_ref().and_then(|it| it.etag.clone());
        let etag = etag.ok_or_else(|| Error::Mismatch(format!("the service gave part {} no ETag", self.number)))?;
        let number = PartNumber::new(self.number).expect("an upload is cut into 10,000 parts at most");
        let checksum = match algorithm {
            Algorithm::Crc64Nvme => has_crc.then_some(Crc64Nvme(self.crc64).into()),
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Sha1 | Algorithm::Sha256 => {
                self.acknowledged.as_ref().and_then(|it| it.checksum)
            }
        };
        Ok(CompletedPart { number, etag, checksum: checksum.filter(|_| with_checksum) })
    }

    /// Whether the service has computed its sum.
    pub(super) fn has_service_crc(&self) -> bool {
        self.acknowledged.as_ref().and_then(|it| it.checksum).is_some_and(|checksum| checksum.crc64nvme().is_some())
    }

    fn proof(&self) -> Proof {
        self.acknowledged.as_ref().map_or(NOT_COMPARED, |it| it.proof)
    }
}
