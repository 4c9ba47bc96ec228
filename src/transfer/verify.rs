//! What proves that an object is what it should be, and the comparison.
//!
//! A whole-object CRC64NVME is the best proof: the CRCs of parts combine into it, whoever computed them, in whatever order.
//! An ETag is the next: the MD5 of the content, or the MD5 of the parts' MD5s; it can be compared only by hashing the same
//! bytes in the same cut. An ETag of any other form (KMS, SSE-C, some vendors) proves nothing and refutes nothing
//! (reliability.md V01). Nor do the ETags of a service that has the form without the meaning; that shows when one differs
//! from the MD5 of a content whose CRC64NVME agrees, and is remembered.

use bytes::Bytes;
use ropeway_io::hash::{Md5, Md5Lane, Md5Lanes, combine, crc64};
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::name::{ETag, ETagClass};

use super::part::PARTS_MAX;
use super::{Error, PartDone};
use crate::client::{Abilities, ETagsAre, ETagsOf, ObjectHead, Uploaded};

/// What an object's content was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// CRC64NVME, computed by the service and by us.
    Checksum,
    /// The ETag, which is an MD5 of the content or of the parts' MD5s.
    ETag,
    /// Both of them.
    ChecksumAndETag,
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
    /// There is no CRC64NVME, and the person does not want ETags compared.
    TurnedOff,
}

impl Proof {
    /// The weaker of two: a way is as sure as its least sure part.
    pub(super) fn weaker(self, other: Proof) -> Proof {
        match (self, other) {
            (Proof::None(reason), _) | (_, Proof::None(reason)) => Proof::None(reason),
            (Proof::ETag, _) | (_, Proof::ETag) => Proof::ETag,
            (Proof::Checksum, _) | (_, Proof::Checksum) => Proof::Checksum,
            (Proof::ChecksumAndETag, Proof::ChecksumAndETag) => Proof::ChecksumAndETag,
        }
    }

    /// What was compared and agreed, by name.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Proof::Checksum => &["checksum"],
            Proof::ETag => &["etag"],
            Proof::ChecksumAndETag => &["checksum", "etag"],
            Proof::None(_) => &[],
        }
    }

    /// The proof by a checksum that agreed, and an ETag that was perhaps compared too.
    pub(super) fn by_checksum(etag: Compared) -> Proof {
        match etag {
            Compared::Equal => Proof::ChecksumAndETag,
            Compared::Not(_) => Proof::Checksum,
        }
    }

    /// The proof by an ETag alone, if it was compared.
    pub(super) fn by_etag(etag: Compared) -> Proof {
        match etag {
            Compared::Equal => Proof::ETag,
            Compared::Not(reason) => Proof::None(reason),
        }
    }
}

/// What became of an ETag's comparison; that it differed is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Equal,
    /// It could not be compared, for this reason.
    Not(Unproven),
}

impl Unproven {
    /// The sentence for warnings.
    pub fn reason(self) -> &'static str {
        match self {
            Unproven::Local => "both sides are local",
            Unproven::NoChecksum => "the service gave neither a CRC64NVME nor an ETag that is an MD5",
            Unproven::PartSizeUnknown => "its ETag is of parts whose size the service does not tell",
            Unproven::TurnedOff => "the service gave no CRC64NVME, and --disable-etag-verify is given",
        }
    }
}

/// The MD5 of a content that lies in memory, taken in a lane beside others'. It is waited for only when it is needed, which is
/// when the others that are under way have come into their lanes too.
#[derive(Debug)]
pub(super) struct ContentMd5 {
    pub(super) content: Bytes,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    Not,
    InLane(Md5Lane),
    Known([u8; 16]),
}

impl ContentMd5 {
    /// Puts the content into the lane that was announced for it, if one was.
    pub(super) fn new(content: Bytes, lane: Option<Md5Lane>) -> ContentMd5 {
        let taken = match lane {
            Some(mut lane) => {
                lane.push(content.clone());
                Taken::InLane(lane)
            }
            None => Taken::Not,
        };
        ContentMd5 { content, taken }
    }

    /// Waits for the MD5; takes it now if it was not begun.
    pub(super) async fn digest(&mut self, lanes: &Md5Lanes) -> [u8; 16] {
        let digest = match std::mem::replace(&mut self.taken, Taken::Not) {
            Taken::Not => md5_of(lanes, self.content.clone()).await,
            Taken::InLane(lane) => lane.finish().await,
            Taken::Known(digest) => digest,
        };
        self.taken = Taken::Known(digest);
        digest
    }
}

/// The MD5 of these bytes, in a lane of its own.
async fn md5_of(lanes: &Md5Lanes, content: Bytes) -> [u8; 16] {
    let mut lane = lanes.lane();
    lane.push(content);
    lane.finish().await
}

/// Waits for the MD5 of a lane, if there is one.
pub(super) async fn finished(lane: Option<Md5Lane>) -> Option<[u8; 16]> {
    match lane {
        Some(lane) => Some(lane.finish().await),
        None => None,
    }
}

/// What the source says of the content, to hold against what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) crc64: Option<Crc64Nvme>,
    pub(super) etag: ExpectedETag,
}

/// What the source's ETag says of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedETag {
    Md5([u8; 16]),
    /// The MD5 of the MD5s of parts of this size, the last one shorter.
    Md5OfParts {
        digest: [u8; 16],
        part_bytes: u64,
    },
    Nothing(Unproven),
}

impl Expected {
    /// Nothing is known of the content, for this reason.
    pub(super) fn nothing(reason: Unproven) -> Expected {
        Expected { crc64: None, etag: ExpectedETag::Nothing(reason) }
    }

    /// What a head says of an object's content. The part size of a multipart ETag is not in it: it is asked for only where
    /// the head [needs it](ObjectHead::needs_part_size). `etags` says whether ETags are compared at all.
    pub(super) fn of(head: &ObjectHead, part_bytes: Option<u64>, etags: ETags<'_>) -> Expected {
        Expected { crc64: head.checksum_crc64nvme, etag: etags.expected(head, part_bytes) }
    }

    /// What can be compared when the object is cut into parts of `part_bytes`: an ETag of parts only if they are the same.
    /// A plain ETag needs the parts in order, one after the other, which is not worth it where there is a CRC64NVME.
    pub(super) fn in_parts_of(self, part_bytes: u64) -> Expected {
        let etag = match self.etag {
            ExpectedETag::Md5OfParts { part_bytes: theirs, .. } if theirs != part_bytes => {
                ExpectedETag::Nothing(Unproven::PartSizeUnknown)
            }
            ExpectedETag::Md5(_) if self.crc64.is_some() => ExpectedETag::Nothing(Unproven::PartSizeUnknown),
            other => other,
        };
        Expected { etag, ..self }
    }

    /// Compares a whole content that lies in memory, and whose CRC64NVME is known.
    pub(super) async fn check_whole(
        self,
        md5: &mut ContentMd5,
        crc: Crc64Nvme,
        etags: ETags<'_>,
        lanes: &Md5Lanes,
    ) -> Result<Proof, Error> {
        let crc_agrees = self.crc_agrees(crc)?;
        let etag = match self.etag {
            ExpectedETag::Md5(theirs) => etags.same_content(md5.digest(lanes).await, theirs, crc_agrees)?,
            ExpectedETag::Md5OfParts { digest, part_bytes } => {
                let ours = md5_of_cut(&md5.content, part_bytes, lanes).await;
                etags.same_parts(ours, digest, crc_agrees)?
            }
            ExpectedETag::Nothing(reason) => Compared::Not(reason),
        };
        Ok(if crc_agrees { Proof::by_checksum(etag) } else { Proof::by_etag(etag) })
    }

    /// Compares the hashes of all parts, in their order. `whole_md5` is the MD5 of all bytes, if it was computed.
    pub(super) fn check_parts(
        self,
        parts: &[PartDone],
        whole_md5: Option<[u8; 16]>,
        etags: ETags<'_>,
    ) -> Result<Proof, Error> {
        let crc_agrees = self.crc_agrees(combined_crc(parts))?;
        let etag = match self.etag {
            ExpectedETag::Md5(theirs) => {
                let ours = whole_md5.expect("an object with a plain ETag is hashed in order");
                etags.same_content(ours, theirs, crc_agrees)?
            }
            ExpectedETag::Md5OfParts { digest, .. } => {
                let digests = parts.iter().map(|part| part.md5.expect("its parts are hashed with MD5"));
                etags.same_parts(md5_of_md5s(digests), digest, crc_agrees)?
            }
            ExpectedETag::Nothing(reason) => Compared::Not(reason),
        };
        Ok(if crc_agrees { Proof::by_checksum(etag) } else { Proof::by_etag(etag) })
    }

    /// Compares what a service says of a copy that it made, with what the source's service says of the original.
    pub(super) fn check_copy(self, answer: &Uploaded, etags: ETags<'_>) -> Result<Proof, Error> {
        let crc_agrees = match answer.crc64nvme {
            Some(theirs) => self.crc_agrees(theirs)?,
            None => false,
        };
        let theirs = answer.etag.as_ref().filter(|_| answer.etag_is_md5).map(ETag::class);
        let etag = match (self.etag, theirs) {
            (ExpectedETag::Md5(ours), Some(ETagClass::Md5(theirs))) => etags.same_content(ours, theirs, crc_agrees)?,
            (ExpectedETag::Md5OfParts { digest: ours, .. }, Some(ETagClass::Multipart { digest: theirs, .. })) => {
                etags.same_parts(ours, theirs, crc_agrees)?
            }
            (ExpectedETag::Nothing(reason), _) => Compared::Not(reason),
            (ExpectedETag::Md5(_) | ExpectedETag::Md5OfParts { .. }, _) => Compared::Not(Unproven::NoChecksum),
        };
        Ok(if crc_agrees { Proof::by_checksum(etag) } else { Proof::by_etag(etag) })
    }

    fn crc_agrees(&self, ours: Crc64Nvme) -> Result<bool, Error> {
        if let Some(theirs) = self.crc64 {
            same_crc(ours, theirs)?;
        }
        Ok(self.crc64.is_some())
    }
}

/// The digest in the ETag of a content that was sent in parts of this size. All parts are hashed at once, as many as lanes
/// are.
async fn md5_of_cut(content: &Bytes, part_bytes: u64, lanes: &Md5Lanes) -> [u8; 16] {
    const AT_ONCE: usize = 32;
    let part_bytes = part_bytes as usize;
    let mut starts = (0..content.len()).step_by(part_bytes).peekable();
    let mut whole = Md5::new();
    while starts.peek().is_some() {
        let cut = starts.by_ref().take(AT_ONCE).map(|start| start..content.len().min(start + part_bytes));
        let in_lanes: Vec<Md5Lane> = cut
            .map(|range| {
                let mut lane = lanes.lane();
                lane.push(content.slice(range));
                lane
            })
            .collect();
        for lane in in_lanes {
            whole.update(&lane.finish().await);
        }
    }
    whole.finish()
}

/// How the ETags of one side are compared.
#[derive(Clone, Copy)]
pub(super) enum ETags<'a> {
    /// With MD5s, and what that shows of the service is remembered here.
    Compared(&'a Abilities),
    /// Not at all: the person does not want it.
    Ignored,
}

impl ETags<'_> {
    /// Whether an MD5 of a content or a part would be compared with anything.
    pub(super) fn want_md5(self) -> bool {
        self.why_not(ETagsOf::Contents).is_none()
    }

    fn why_not(self, of: ETagsOf) -> Option<Unproven> {
        match self {
            ETags::Compared(abilities) => (abilities.etags(of) == ETagsAre::Opaque).then_some(Unproven::NoChecksum),
            ETags::Ignored => Some(Unproven::TurnedOff),
        }
    }

    fn expected(self, head: &ObjectHead, part_bytes: Option<u64>) -> ExpectedETag {
        let class = head.etag.as_ref().filter(|_| head.etag_is_md5).map(ETag::class);
        let of = match class {
            Some(ETagClass::Multipart { .. }) => ETagsOf::Parts,
            Some(ETagClass::Md5(_) | ETagClass::Opaque) | None => ETagsOf::Contents,
        };
        if let Some(reason) = self.why_not(of) {
            return ExpectedETag::Nothing(reason);
        }
        match class {
            Some(ETagClass::Md5(digest)) => ExpectedETag::Md5(digest),
            Some(ETagClass::Multipart { digest, parts: 1 }) => {
                ExpectedETag::Md5OfParts { digest, part_bytes: head.size_bytes.max(1) }
            }
            Some(ETagClass::Multipart { parts, .. }) if u64::from(parts) > PARTS_MAX => {
                ExpectedETag::Nothing(Unproven::PartSizeUnknown)
            }
            Some(ETagClass::Multipart { digest, parts }) => match part_bytes {
                Some(part_bytes) if head.size_bytes.div_ceil(part_bytes) == u64::from(parts) => {
                    ExpectedETag::Md5OfParts { digest, part_bytes }
                }
                _ => ExpectedETag::Nothing(Unproven::PartSizeUnknown),
            },
            Some(ETagClass::Opaque) | None => ExpectedETag::Nothing(Unproven::NoChecksum),
        }
    }

    /// Compares the MD5 of a content or a part with what its ETag says.
    pub(super) fn same_content(self, ours: [u8; 16], theirs: [u8; 16], crc_agrees: bool) -> Result<Compared, Error> {
        self.same(ETagsOf::Contents, ours, theirs, crc_agrees)
    }

    /// Compares the MD5 of parts' MD5s with what the ETag of the object made of them says.
    pub(super) fn same_parts(self, ours: [u8; 16], theirs: [u8; 16], crc_agrees: bool) -> Result<Compared, Error> {
        self.same(ETagsOf::Parts, ours, theirs, crc_agrees)
    }

    /// Whether the MD5 of what was sent is needed to judge this answer.
    pub(super) fn need_md5_for(self, answer: &Uploaded) -> bool {
        let class = answer.etag.as_ref().map(ETag::class);
        self.want_md5() && answer.etag_is_md5 && matches!(class, Some(ETagClass::Md5(_)))
    }

    /// Compares the ETag that an uploaded object or part was given with the MD5 of what was sent, if it was
    /// [needed](Self::need_md5_for). Every service gives one: an answer with neither a CRC64NVME nor an ETag is somebody
    /// else's, a proxy's for instance (reliability.md P33).
    pub(super) fn same_uploaded(
        self,
        ours: Option<[u8; 16]>,
        answer: &Uploaded,
        crc_agrees: bool,
    ) -> Result<Compared, Error> {
        match (answer.etag.as_ref().map(ETag::class), ours) {
            (Some(ETagClass::Md5(theirs)), Some(ours)) if answer.etag_is_md5 => {
                self.same_content(ours, theirs, crc_agrees)
            }
            (None, _) if !crc_agrees => Err(Error::Mismatch("the service acknowledged it without an ETag".to_owned())),
            _ => Ok(Compared::Not(self.why_not(ETagsOf::Contents).unwrap_or(Unproven::NoChecksum))),
        }
    }

    fn same(self, of: ETagsOf, ours: [u8; 16], theirs: [u8; 16], crc_agrees: bool) -> Result<Compared, Error> {
        let ETags::Compared(abilities) = self else { return Ok(Compared::Not(Unproven::TurnedOff)) };
        if let Some(reason) = self.why_not(of) {
            return Ok(Compared::Not(reason));
        }
        if ours == theirs {
            abilities.learn_etags(of, true);
            return Ok(Compared::Equal);
        }
        // The content is proven by its CRC, so an ETag that was never seen to be an MD5 is none.
        if crc_agrees && abilities.learn_etags(of, false) == ETagsAre::Opaque {
            return Ok(Compared::Not(Unproven::NoChecksum));
        }
        let (ours, theirs) = (ETag::from_md5(ours), ETag::from_md5(theirs));
        let remedy = if crc_agrees { "; its CRC64NVME agrees, see --disable-etag-verify" } else { "" };
        Err(Error::Mismatch(format!("the content's MD5 is {ours}, the service's ETag says {theirs}{remedy}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 16] = [1; 16];
    const THEIRS: [u8; 16] = [2; 16];

    #[test]
    fn an_etag_that_differs_without_a_proof_is_a_mismatch_and_teaches_nothing() {
        let abilities = Abilities::default();
        let etags = ETags::Compared(&abilities);
        assert!(matches!(etags.same_content(OURS, THEIRS, false), Err(Error::Mismatch(_))));
        assert_eq!(abilities.etags(ETagsOf::Contents), ETagsAre::Unknown);
        assert!(etags.want_md5());
    }

    #[test]
    fn etags_once_seen_to_be_md5s_stay_so() {
        let abilities = Abilities::default();
        let etags = ETags::Compared(&abilities);
        assert_eq!(etags.same_content(OURS, OURS, false).unwrap(), Compared::Equal);
        assert!(matches!(etags.same_content(OURS, THEIRS, true), Err(Error::Mismatch(_))));
        assert!(etags.want_md5());
    }

    #[test]
    fn for_etags_that_are_no_md5s_none_is_computed_any_more() {
        let abilities = Abilities::default();
        let etags = ETags::Compared(&abilities);
        assert_eq!(etags.same_content(OURS, THEIRS, true).unwrap(), Compared::Not(Unproven::NoChecksum));
        assert!(!etags.want_md5());
        let answer = Uploaded { etag: Some(ETag::from_md5(OURS)), etag_is_md5: true, crc64nvme: None };
        assert!(!etags.need_md5_for(&answer));
        assert_eq!(etags.same_content(OURS, THEIRS, false).unwrap(), Compared::Not(Unproven::NoChecksum));
        // Those of parts are judged by themselves.
        assert_eq!(etags.same_parts(OURS, OURS, true).unwrap(), Compared::Equal);
    }

    #[test]
    fn what_the_person_does_not_want_compared_is_neither_computed_nor_judged() {
        assert!(!ETags::Ignored.want_md5());
        assert_eq!(ETags::Ignored.same_content(OURS, THEIRS, false).unwrap(), Compared::Not(Unproven::TurnedOff));
    }

    #[test]
    fn a_way_is_as_sure_as_its_least_sure_half() {
        let none = Proof::None(Unproven::NoChecksum);
        let table = [
            (Proof::ChecksumAndETag, Proof::ChecksumAndETag, Proof::ChecksumAndETag),
            (Proof::ChecksumAndETag, Proof::Checksum, Proof::Checksum),
            (Proof::ChecksumAndETag, Proof::ETag, Proof::ETag),
            (Proof::Checksum, Proof::ETag, Proof::ETag),
            (Proof::ChecksumAndETag, none, none),
        ];
        for (one, other, expected) in table {
            assert_eq!((one.weaker(other), other.weaker(one)), (expected, expected));
        }
    }
}
