//! A multipart upload's beginning and end: what is asked for when it is opened, and how its completion is proven, even when
//! the answer is lost.

use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::name::{ETag, ETagClass, Key, PartNumber, UploadId};
use ropeway_s3proto::op::{Condition, ObjectMetadata};

use super::large::PartDone;
use super::side::{BucketSide, NOT_COMPARED, refuses_checksum};
use super::verify::{self, Compared, ETags, Proof, Unproven};
use super::{Error, metadata};
use crate::client::{self, CompletedPart, Failure, UploadProof, Uploaded};

pub(super) async fn create_upload(
    side: &BucketSide,
    key: &Key,
    metadata: &ObjectMetadata,
    token: &str,
    part_bytes: u64,
) -> Result<UploadId, Error> {
    let mut metadata = metadata.clone();
    metadata::set_upload(&mut metadata, token, part_bytes);
    let abilities = side.client.abilities();
    let known = abilities.upload_proof();
    match side.client.create_upload(key, &metadata, known != UploadProof::Md5).await {
        Err(error) if known == UploadProof::Unknown && refuses_checksum(&error) => {
            let without = side.client.create_upload(key, &metadata, false).await;
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
    side: &BucketSide,
    etags: ETags<'_>,
    whole: Whole<'_>,
    condition: Condition<'_>,
) -> Result<(Uploaded, Proof), Error> {
    let Whole { key, upload_id, token, crc, parts } = whole;
    let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
    let whole = crc.filter(|_| side.client.abilities().upload_proof() == UploadProof::Checksum);
    let list: Result<Vec<CompletedPart>, Error> = parts.iter().map(|part| part.completed(whole.is_some())).collect();
    let list = list?;
    let answer = match side.client.complete_upload(key, upload_id, &list, whole, size_bytes, condition).await {
        Ok(completed) => completed,
        Err(error) => reconcile(side, key, token, size_bytes, error).await?,
    };
    // Ceph's answer has an empty ETag; the object itself has one.
    let answer = match (&answer.etag, answer.crc64nvme) {
        (None, None) => {
            let head = side.client.head(key).await.map_err(Error::target)?;
            Uploaded { etag: head.etag, etag_is_md5: head.etag_is_md5, crc64nvme: head.checksum_crc64nvme }
        }
        _ => answer,
    };
    let Uploaded { etag, etag_is_md5, crc64nvme } = &answer;
    if let (Some(ours), Some(theirs)) = (crc, *crc64nvme) {
        verify::same_crc(ours, theirs)?;
    }
    // The object is the list of parts that was sent. Its ETag proves them only if theirs were compared with our bytes.
    let of_parts = parts.iter().map(PartDone::proof).reduce(Proof::weaker).unwrap_or(NOT_COMPARED);
    let by_etags = matches!(of_parts, Proof::ETag | Proof::ChecksumAndETag);
    let compared = match (multipart_digest(&list), etag.as_ref().map(ETag::class)) {
        (Some(ours), Some(ETagClass::Multipart { digest, .. })) if by_etags && *etag_is_md5 => {
            etags.same_parts(ours, digest, crc64nvme.is_some())?
        }
        _ => Compared::Not(Unproven::NoChecksum),
    };
    let proof = match (crc64nvme, compared) {
        (Some(_), compared) => Proof::by_checksum(compared),
        (None, Compared::Equal) => Proof::ETag,
        (None, Compared::Not(_)) => of_parts,
    };
    Ok((answer, proof))
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
            let (etag, etag_is_md5) = (head.etag, head.etag_is_md5);
            Ok(Uploaded { etag, etag_is_md5, crc64nvme: head.checksum_crc64nvme })
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
    fn completed(&self, with_checksum: bool) -> Result<CompletedPart, Error> {
        let etag = self.acknowledged.as_ref().and_then(|it| it.etag.clone());
        let etag = etag.ok_or_else(|| Error::Mismatch(format!("the service gave part {} no ETag", self.number)))?;
        let number = PartNumber::new(self.number).expect("an upload is cut into 10,000 parts at most");
        let checksum_crc64nvme = with_checksum.then_some(Crc64Nvme(self.crc64));
        Ok(CompletedPart { number, etag, checksum_crc64nvme })
    }

    /// Whether the service has computed its sum.
    pub(super) fn has_service_crc(&self) -> bool {
        matches!(self.proof(), Proof::Checksum | Proof::ChecksumAndETag)
    }

    fn proof(&self) -> Proof {
        self.acknowledged.as_ref().map_or(NOT_COMPARED, |it| it.proof)
    }
}
