//! Completing a multipart upload: the checks between a list of parts and an object. Pure but for the clock.

use super::checksums::{Algorithm, Checksum, Coverage, multipart_checksum, multipart_etag};
use super::now_secs;
use super::store::{Body, Object, Part, PartRecord, Record, Upload};
use s3s::{S3Result, s3_error};
use std::collections::BTreeMap;

/// Every part but the last must have this size; AWS's own limit, which clients rely on being enforced.
pub(super) const PART_SIZE_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// What a client names in CompleteMultipartUpload.
pub(super) struct Named {
    pub(super) number: i32,
    /// Without quotes.
    pub(super) etag: Option<String>,
    pub(super) checksums: Vec<(Algorithm, String)>,
}

/// What the client says of the whole.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) size_bytes: Option<i64>,
    pub(super) checksums: Vec<(Algorithm, String)>,
    pub(super) coverage: Option<Coverage>,
}

/// The object that the named parts of the upload make, or the reason why they make none.
pub(super) fn assemble(upload: &Upload, parts: Vec<Part>, named: &[Named], expected: &Expected) -> S3Result<Object> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part."));
    }
    if named.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(s3_error!(InvalidPartOrder));
    }
    let parts: BTreeMap<i32, Part> = parts.into_iter().map(|part| (i32::from(part.number), part)).collect();
    let chosen = named.iter().map(|named| choose(upload, &parts, named)).collect::<S3Result<Vec<_>>>()?;
    let (_, all_but_last) = chosen.split_last().expect("there is at least one");
    if all_but_last.iter().any(|part| part.body.size_bytes() < PART_SIZE_BYTES_MIN) {
        return Err(s3_error!(EntityTooSmall));
    }
    let checksum = checksum_of(upload, &chosen, expected)?;
    let body = Body::concat(chosen.iter().map(|part| &part.body));
    if expected.size_bytes.is_some_and(|size_bytes| u64::try_from(size_bytes) != Ok(body.size_bytes())) {
        return Err(s3_error!(InvalidRequest, "The provided x-amz-mp-object-size does not match the parts."));
    }
    let etag = multipart_etag(chosen.iter().map(|part| part.etag.as_str()))
        .ok_or_else(|| s3_error!(InternalError, "a stored part has no valid ETag"))?;
    let part_record = |part: &&Part| PartRecord {
        number: part.number,
        size_bytes: part.body.size_bytes(),
        checksum: Some(part.checksum.value.clone()),
    };
    let record = Record {
        etag,
        size_bytes: body.size_bytes(),
        modified_secs: now_secs(),
        attributes: upload.attributes.clone(),
        checksum: Some(checksum),
        parts: chosen.iter().map(part_record).collect(),
        version: None,
    };
    Ok(Object { record, body })
}

fn choose<'a>(upload: &Upload, parts: &'a BTreeMap<i32, Part>, named: &Named) -> S3Result<&'a Part> {
    let number = named.number;
    let part = parts.get(&number).ok_or_else(|| s3_error!(InvalidPart, "Part {number} was not uploaded."))?;
    if named.etag.as_ref().is_some_and(|etag| *etag != part.etag) {
        return Err(s3_error!(InvalidPart, "The ETag of part {number} is not the one it was uploaded with."));
    }
    if upload.algorithm.is_some() && upload.coverage == Coverage::Composite && named.checksums.is_empty() {
        return Err(s3_error!(InvalidRequest, "The complete request must include the checksum for each part."));
    }
    let differs = |(algorithm, value): &(Algorithm, String)| {
        *algorithm == part.checksum.algorithm && *value != part.checksum.value
    };
    if named.checksums.iter().any(differs) {
        return Err(s3_error!(InvalidPart, "The checksum of part {number} is not the one it was uploaded with."));
    }
    Ok(part)
}

fn checksum_of(upload: &Upload, chosen: &[&Part], expected: &Expected) -> S3Result<Checksum> {
    let algorithm = upload.algorithm.unwrap_or(Algorithm::Crc64Nvme);
    if expected.coverage.is_some_and(|coverage| coverage != upload.coverage) {
        return Err(s3_error!(InvalidRequest, "The checksum type differs from the one the upload was created with."));
    }
    let values = chosen.iter().map(|part| (part.checksum.value.as_str(), part.body.size_bytes()));
    let checksum = multipart_checksum(algorithm, upload.coverage, values)
        .ok_or_else(|| s3_error!(InternalError, "a stored part has no valid checksum"))?;
    for (claimed_algorithm, claimed) in &expected.checksums {
        if *claimed_algorithm == algorithm && *claimed != checksum.value {
            return Err(s3_error!(BadDigest, "The {} you specified did not match the parts.", algorithm.name()));
        }
    }
    Ok(checksum)
}
