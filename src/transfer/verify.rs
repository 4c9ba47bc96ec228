//! What proves that an object is what it should be, and the comparison.
//!
//! A whole-object CRC64NVME is the best proof: the CRCs of parts combine into it, whoever computed them, in whatever order.
//! An ETag is the next: the MD5 of the content, or the MD5 of the parts' MD5s; it can be compared only by hashing the same
//! bytes in the same cut. An ETag of any other form (KMS, SSE-C, some vendors) proves nothing and refutes nothing
//! (reliability.md V01).

use ropeway_io::hash::{Md5, combine, crc64, md5};
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::name::{ETag, ETagClass};

use super::part::PARTS_MAX;
use super::{Error, PartDone};
use crate::client::ObjectHead;

/// What an object's content was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// CRC64NVME, computed by the service and by us.
    Checksum,
    /// The ETag, which is an MD5 of the content or of the parts' MD5s.
    ETag,
    /// Nothing could be compared but the length.
    None(Unproven),
}

/// Why nothing could be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// Both sides are local: every byte was written, and the system reported no error.
    Local,
    /// The service gave neither a CRC64NVME nor an ETag that is an MD5.
    NoChecksum,
    /// The ETag is of parts whose size is not known.
    PartSizeUnknown,
}

impl Proof {
    /// The weaker of two: a way is as sure as its least sure part.
    pub(super) fn weaker(self, other: Proof) -> Proof {
        match (self, other) {
            (Proof::None(reason), _) | (_, Proof::None(reason)) => Proof::None(reason),
            (Proof::ETag, _) | (_, Proof::ETag) => Proof::ETag,
            (Proof::Checksum, Proof::Checksum) => Proof::Checksum,
        }
    }
}

impl Unproven {
    /// The sentence for warnings.
    pub fn reason(self) -> &'static str {
        match self {
            Unproven::Local => "both sides are local",
            Unproven::NoChecksum => "the service gave neither a CRC64NVME nor an ETag that is an MD5",
            Unproven::PartSizeUnknown => "its ETag is of parts whose size the service does not tell",
        }
    }
}

/// What the source says of the content, to hold against what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Crc64(Crc64Nvme),
    Md5([u8; 16]),
    /// The MD5 of the MD5s of parts of this size, the last one shorter.
    Md5OfParts {
        digest: [u8; 16],
        part_bytes: u64,
    },
    Nothing(Unproven),
}

impl Expected {
    /// What a head says of an object's content. The part size of a multipart ETag is not in it: it is asked for only where
    /// the head [needs it](ObjectHead::needs_part_size).
    pub(super) fn of(head: &ObjectHead, part_bytes: Option<u64>) -> Expected {
        if let Some(crc) = head.checksum_crc64nvme {
            return Expected::Crc64(crc);
        }
        match head.etag.as_ref().filter(|_| head.etag_is_md5).map(ETag::class) {
            Some(ETagClass::Md5(digest)) => Expected::Md5(digest),
            Some(ETagClass::Multipart { digest, parts: 1 }) => {
                Expected::Md5OfParts { digest, part_bytes: head.size_bytes.max(1) }
            }
            Some(ETagClass::Multipart { parts, .. }) if u64::from(parts) > PARTS_MAX => {
                Expected::Nothing(Unproven::PartSizeUnknown)
            }
            Some(ETagClass::Multipart { digest, parts }) => match part_bytes {
                Some(part_bytes) if head.size_bytes.div_ceil(part_bytes) == u64::from(parts) => {
                    Expected::Md5OfParts { digest, part_bytes }
                }
                _ => Expected::Nothing(Unproven::PartSizeUnknown),
            },
            Some(ETagClass::Opaque) | None => Expected::Nothing(Unproven::NoChecksum),
        }
    }

    /// What can be compared when the object is cut into parts of `part_bytes`: an ETag of parts only if they are the same.
    pub(super) fn in_parts_of(self, part_bytes: u64) -> Expected {
        match self {
            Expected::Md5OfParts { part_bytes: theirs, .. } if theirs != part_bytes => {
                Expected::Nothing(Unproven::PartSizeUnknown)
            }
            other => other,
        }
    }

    /// Compares a whole content that lies in memory, and whose CRC64NVME is known.
    pub(super) fn check_whole(self, content: &[u8], crc: Crc64Nvme) -> Result<Proof, Error> {
        match self {
            Expected::Crc64(theirs) => {
                same_crc(crc, theirs)?;
                Ok(Proof::Checksum)
            }
            Expected::Md5(theirs) => same_md5(md5(content), theirs),
            Expected::Md5OfParts { digest, part_bytes } => {
                let digests = content.chunks(part_bytes as usize).map(md5);
                same_md5(md5_of_md5s(digests), digest)
            }
            Expected::Nothing(reason) => Ok(Proof::None(reason)),
        }
    }

    /// Compares the hashes of all parts, in their order. `whole_md5` is the MD5 of all bytes, if it was computed.
    pub(super) fn check_parts(self, parts: &[PartDone], whole_md5: Option<[u8; 16]>) -> Result<Proof, Error> {
        match self {
            Expected::Crc64(theirs) => {
                same_crc(combined_crc(parts), theirs)?;
                Ok(Proof::Checksum)
            }
            Expected::Md5(theirs) => {
                same_md5(whole_md5.expect("an object with a plain ETag is hashed in order"), theirs)
            }
            Expected::Md5OfParts { digest, .. } => {
                let digests = parts.iter().map(|part| part.md5.expect("its parts are hashed with MD5"));
                same_md5(md5_of_md5s(digests), digest)
            }
            Expected::Nothing(reason) => Ok(Proof::None(reason)),
        }
    }
}

/// The whole content's CRC64NVME from those of its parts, in their order.
pub(super) fn combined_crc(parts: &[PartDone]) -> Crc64Nvme {
    Crc64Nvme(parts.iter().fold(crc64(b""), |crc, part| combine(crc, part.crc64, part.size_bytes)))
}

/// The digest in a multipart ETag.
pub(super) fn md5_of_md5s(digests: impl Iterator<Item = [u8; 16]>) -> [u8; 16] {
    let mut md5 = Md5::new();
    digests.for_each(|digest| md5.update(&digest));
    md5.finish()
}

/// Compares our CRC64NVME with the service's.
pub(super) fn same_crc(ours: Crc64Nvme, theirs: Crc64Nvme) -> Result<(), Error> {
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (ours.to_base64(), theirs.to_base64());
    Err(Error::Mismatch(format!("the content's CRC64NVME is {ours}, the service has {theirs}")))
}

fn same_md5(ours: [u8; 16], theirs: [u8; 16]) -> Result<Proof, Error> {
    if ours == theirs {
        return Ok(Proof::ETag);
    }
    let (ours, theirs) = (ETag::from_md5(ours), ETag::from_md5(theirs));
    Err(Error::Mismatch(format!("the content's MD5 is {ours}, the service's ETag says {theirs}")))
}

/// Compares the ETag that an uploaded object or part was given with the MD5 of what was sent. Every service gives one: an
/// answer without it is somebody else's, a proxy's for instance (reliability.md P33).
pub(super) fn same_etag(ours: [u8; 16], theirs: Option<&ETag>) -> Result<Proof, Error> {
    match theirs.map(ETag::class) {
        Some(ETagClass::Md5(theirs)) => same_md5(ours, theirs),
        Some(ETagClass::Multipart { .. } | ETagClass::Opaque) => Ok(Proof::None(Unproven::NoChecksum)),
        None => Err(Error::Mismatch("the service acknowledged it without an ETag".to_owned())),
    }
}
