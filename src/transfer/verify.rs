//! What proves that an object is what it should be, and the comparison.
//!
//! A checksum of the whole object's bytes is the best proof. CRC64NVME is taken of everything that passes, and the CRCs of parts
//! combine into the whole's, whoever computed them, in whatever order; another algorithm is taken beside it where the object has
//! one of that. A composite checksum is that of the parts' checksums, and an ETag the MD5 of the content or of the parts' MD5s:
//! those can be compared only by hashing the same bytes in the same cut. An ETag of any other form (KMS, SSE-C, some vendors)
//! proves nothing and refutes nothing (reliability.md V01). Nor do the ETags of a service that has the form without the meaning;
//! that shows when one differs from the MD5 of a content whose checksum agrees, and is remembered.

use bytes::Bytes;
use ropeway_io::hash::{Md5, Md5Lane, Md5Lanes, combine, crc64};
use ropeway_s3proto::checksum::{Algorithm, Checksum, ChecksumType, Crc64Nvme, StoredChecksum};
use ropeway_s3proto::name::{ETag, ETagClass};

use super::part::{Cut, PARTS_MAX};
use super::sums::{self, sum_of};
use super::{Error, PartDone};
use crate::client::{Abilities, ETagsAre, ETagsOf, ObjectHead, Uploaded};

/// What is compared, and what uploads are given to be compared with later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integrity {
    /// Whether ETags are compared with MD5s.
    pub etags: bool,
    /// Whether what covers parts is: ETags of parts, and composite checksums.
    pub of_parts: bool,
    /// The checksum that objects are uploaded with. None is CRC64NVME, where the service knows it.
    pub upload_with: Option<Algorithm>,
    /// Whether the checksum of an object sent in parts covers its bytes, and not the parts' checksums.
    pub full_object: bool,
    /// Whether the checksum that was asked for is compared with what the service made of the upload.
    pub uploaded_checksums: bool,
    /// Whether a source without a checksum is worth a warning.
    pub source_checksum_expected: bool,
    /// Whether uploads carry Content-MD5 where they have no checksum that the service heeds.
    pub content_md5: bool,
    /// Whether an object keeps the parts that it was uploaded in.
    pub keep_parts: bool,
}

impl Integrity {
    /// The checksum that goes with an upload.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.upload_with.unwrap_or(Algorithm::Crc64Nvme)
    }

    /// Whether an object's content can be compared only if its parts are known, and is to be.
    pub(super) fn needs_parts(&self, head: &ObjectHead) -> bool {
        self.of_parts && head.needs_parts() && (self.etags || head.checksum.is_some())
    }

    /// What the checksum of an object sent in parts covers.
    pub(super) fn covers(&self) -> ChecksumType {
        match self.algorithm() {
            Algorithm::Crc64Nvme => ChecksumType::FullObject,
            Algorithm::Crc32 | Algorithm::Crc32c if self.full_object => ChecksumType::FullObject,
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Sha1 | Algorithm::Sha256 => ChecksumType::Composite,
        }
    }
}

/// Which hashes of some bytes are wanted beside their CRC64NVME, which is always taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) md5: bool,
    /// Never [`Algorithm::Crc64Nvme`].
    pub(super) sum: Option<Algorithm>,
}

/// What was wanted, taken of all bytes in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) md5: Option<[u8; 16]>,
    pub(super) sum: Option<Checksum>,
}

/// What an object's content was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A checksum, computed by the service and by us.
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
    /// The service gave neither a checksum nor an ETag that is an MD5.
    NoChecksum,
    /// The ETag, or the checksum, is of parts whose sizes are not known, or that cannot be uploaded again as they are.
    PartSizeUnknown,
    /// The person does not want compared what there is.
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
            Unproven::NoChecksum => "the service gave neither a checksum nor an ETag that is an MD5",
            Unproven::PartSizeUnknown => "its checksum and ETag are of parts whose sizes the service does not tell",
            Unproven::TurnedOff => "comparing what the service gave was turned off",
        }
    }
}

/// A content that lies in memory, and the hashes of it that were taken. Its MD5 is taken in a lane beside others'. It is waited
/// for only when it is needed, which is when the others that are under way have come into their lanes too.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) content: Bytes,
    pub(super) crc: Crc64Nvme,
    md5: Md5Taken,
    /// The last checksum of another algorithm that was asked for.
    sum: Option<Checksum>,
}

#[derive(Debug)]
enum Md5Taken {
    Not,
    InLane(Md5Lane),
    Known([u8; 16]),
}

impl Hashed {
    /// Puts the content, whose CRC is known, into the lane that was announced for it, if one was.
    pub(super) fn new(content: Bytes, crc: Crc64Nvme, lane: Option<Md5Lane>) -> Hashed {
        let md5 = match lane {
            Some(mut lane) => {
                lane.push(content.clone());
                Md5Taken::InLane(lane)
            }
            None => Md5Taken::Not,
        };
        Hashed { content, crc, md5, sum: None }
    }

    /// Waits for the MD5; takes it now if it was not begun.
    pub(super) async fn md5(&mut self, lanes: &Md5Lanes) -> [u8; 16] {
        let digest = match std::mem::replace(&mut self.md5, Md5Taken::Not) {
            Md5Taken::Not => md5_of(lanes, self.content.clone()).await,
            Md5Taken::InLane(lane) => lane.finish().await,
            Md5Taken::Known(digest) => digest,
        };
        self.md5 = Md5Taken::Known(digest);
        digest
    }

    /// Its checksum.
    pub(super) async fn checksum(&mut self, algorithm: Algorithm) -> Checksum {
        match (algorithm, self.sum) {
            (Algorithm::Crc64Nvme, _) => self.crc.into(),
            (_, Some(sum)) if sum.algorithm() == algorithm => sum,
            _ => {
                let sum = sum_of(algorithm, &self.content).await;
                self.sum = Some(sum);
                sum
            }
        }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) checksum: ExpectedChecksum,
    pub(super) etag: ExpectedETag,
}

/// What the source's checksum says of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpectedChecksum {
    OfBytes(Checksum),
    /// The checksum of the checksums of such parts.
    OfParts(StoredChecksum, Cut),
    Nothing(Unproven),
}

/// What the source's ETag says of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpectedETag {
    Md5([u8; 16]),
    /// The MD5 of the MD5s of such parts.
    Md5OfParts {
        digest: [u8; 16],
        cut: Cut,
    },
    Nothing(Unproven),
}

impl Expected {
    /// Nothing is known of the content, for this reason.
    pub(super) fn nothing(reason: Unproven) -> Expected {
        Expected { checksum: ExpectedChecksum::Nothing(reason), etag: ExpectedETag::Nothing(reason) }
    }

    /// What a head says of an object's content, which was cut so, if that is known. `etags` says whether ETags are compared at
    /// all, and `of_parts` whether a composite checksum is.
    pub(super) fn of(head: &ObjectHead, cut: Option<&Cut>, etags: ETags<'_>, of_parts: bool) -> Expected {
        let checksum = match (head.checksum, cut) {
            (None, _) => ExpectedChecksum::Nothing(Unproven::NoChecksum),
            (Some(StoredChecksum { checksum, parts: None }), _) => ExpectedChecksum::OfBytes(checksum),
            (Some(StoredChecksum { parts: Some(_), .. }), _) if !of_parts => {
                ExpectedChecksum::Nothing(Unproven::TurnedOff)
            }
            (Some(stored @ StoredChecksum { parts: Some(parts), .. }), Some(cut))
                if cut.count(head.size_bytes) == u64::from(parts) =>
            {
                ExpectedChecksum::OfParts(stored, cut.clone())
            }
            (Some(StoredChecksum { parts: Some(_), .. }), _) => ExpectedChecksum::Nothing(Unproven::PartSizeUnknown),
        };
        Expected { checksum, etag: etags.expected(head, cut) }
    }

    /// The checksum of all bytes, if it is known.
    pub(super) fn of_bytes(&self) -> Option<Checksum> {
        match self.checksum {
            ExpectedChecksum::OfBytes(checksum) => Some(checksum),
            ExpectedChecksum::OfParts(..) | ExpectedChecksum::Nothing(_) => None,
        }
    }

    /// The cut without which nothing can be compared, if there is one.
    pub(super) fn needed_cut(&self) -> Option<&Cut> {
        match (&self.checksum, &self.etag) {
            (ExpectedChecksum::OfBytes(_), _) => None,
            (ExpectedChecksum::OfParts(_, cut), _) | (_, ExpectedETag::Md5OfParts { cut, .. }) => Some(cut),
            (ExpectedChecksum::Nothing(_), ExpectedETag::Md5(_) | ExpectedETag::Nothing(_)) => None,
        }
    }

    /// What can be compared when the object is cut so: what covers parts only if they are the same. A plain ETag needs the
    /// parts in order, one after the other, which is not worth it where there is a checksum.
    pub(super) fn in_parts_of(self, ours: &Cut, size_bytes: u64) -> Expected {
        let checksum = match self.checksum {
            ExpectedChecksum::OfParts(_, theirs) if !theirs.is_same(ours, size_bytes) => {
                ExpectedChecksum::Nothing(Unproven::PartSizeUnknown)
            }
            other => other,
        };
        let has_checksum = !matches!(checksum, ExpectedChecksum::Nothing(_));
        let etag = match self.etag {
            ExpectedETag::Md5OfParts { cut: theirs, .. } if !theirs.is_same(ours, size_bytes) => {
                ExpectedETag::Nothing(Unproven::PartSizeUnknown)
            }
            ExpectedETag::Md5(_) if has_checksum => ExpectedETag::Nothing(Unproven::PartSizeUnknown),
            other => other,
        };
        Expected { checksum, etag }
    }

    /// Which hashes of each part are needed for it.
    pub(super) fn wanted_of_parts(&self) -> Wanted {
        let sum = match &self.checksum {
            ExpectedChecksum::OfBytes(checksum) if checksum.algorithm().combines() => Some(checksum.algorithm()),
            ExpectedChecksum::OfParts(stored, _) => Some(stored.checksum.algorithm()),
            ExpectedChecksum::OfBytes(_) | ExpectedChecksum::Nothing(_) => None,
        };
        let sum = sum.filter(|algorithm| *algorithm != Algorithm::Crc64Nvme);
        Wanted { md5: matches!(self.etag, ExpectedETag::Md5OfParts { .. }), sum }
    }

    /// Which hashes of all bytes in their order are.
    pub(super) fn wanted_in_order(&self) -> Wanted {
        let sum = self.of_bytes().map(|checksum| checksum.algorithm()).filter(|algorithm| !algorithm.combines());
        Wanted { md5: matches!(self.etag, ExpectedETag::Md5(_)), sum }
    }

    /// Compares a whole content that lies in memory.
    pub(super) async fn check_whole(
        &self,
        hashed: &mut Hashed,
        etags: ETags<'_>,
        lanes: &Md5Lanes,
    ) -> Result<Proof, Error> {
        let agrees = match &self.checksum {
            ExpectedChecksum::OfBytes(theirs) => {
                same_checksum(of_bytes(hashed.checksum(theirs.algorithm()).await), of_bytes(*theirs))?
            }
            ExpectedChecksum::OfParts(theirs, cut) => {
                let algorithm = theirs.checksum.algorithm();
                let mut of_parts = Vec::new();
                for part in cut.parts(hashed.content.len() as u64) {
                    let bytes = hashed.content.slice(part.range.start as usize..part.range.end as usize);
                    of_parts.push(sum_of(algorithm, &bytes).await);
                }
                same_checksum(sums::composite(algorithm, of_parts.into_iter()), *theirs)?
            }
            ExpectedChecksum::Nothing(_) => false,
        };
        let etag = match &self.etag {
            ExpectedETag::Md5(theirs) => etags.same_content(hashed.md5(lanes).await, *theirs, agrees)?,
            ExpectedETag::Md5OfParts { digest, cut } => {
                let ours = md5_of_cut(&hashed.content, cut, lanes).await;
                etags.same_parts(ours, *digest, agrees)?
            }
            ExpectedETag::Nothing(reason) => Compared::Not(*reason),
        };
        Ok(self.proof(agrees, etag))
    }

    /// Compares the hashes of all parts, in their order, and those that were taken of all bytes.
    pub(super) fn check_parts(&self, parts: &[PartDone], whole: Taken, etags: ETags<'_>) -> Result<Proof, Error> {
        let agrees = match &self.checksum {
            ExpectedChecksum::OfBytes(theirs) => {
                let ours = match theirs.algorithm() {
                    Algorithm::Crc64Nvme => Some(combined_crc(parts).into()),
                    algorithm if algorithm.combines() => {
                        sums::of_parts(algorithm, false, parts, |part| part.sum).map(|stored| stored.checksum)
                    }
                    _ => whole.sum,
                };
                same_checksum(of_bytes(ours.expect("its parts, or all bytes, are summed")), of_bytes(*theirs))?
            }
            ExpectedChecksum::OfParts(theirs, _) => {
                let ours = sums::of_parts(theirs.checksum.algorithm(), true, parts, |part| part.sum);
                same_checksum(ours.expect("its parts are summed"), *theirs)?
            }
            ExpectedChecksum::Nothing(_) => false,
        };
        let etag = match &self.etag {
            ExpectedETag::Md5(theirs) => {
                let ours = whole.md5.expect("an object with a plain ETag is hashed in order");
                etags.same_content(ours, *theirs, agrees)?
            }
            ExpectedETag::Md5OfParts { digest, .. } => {
                let digests = parts.iter().map(|part| part.md5.expect("its parts are hashed with MD5"));
                etags.same_parts(md5_of_md5s(digests), *digest, agrees)?
            }
            ExpectedETag::Nothing(reason) => Compared::Not(*reason),
        };
        Ok(self.proof(agrees, etag))
    }

    /// Compares what a service says of a copy that it made, with what the source's service says of the original.
    pub(super) fn check_copy(&self, answer: &Uploaded, etags: ETags<'_>) -> Result<Proof, Error> {
        let ours = match &self.checksum {
            ExpectedChecksum::OfBytes(checksum) => Some(of_bytes(*checksum)),
            ExpectedChecksum::OfParts(stored, _) => Some(*stored),
            ExpectedChecksum::Nothing(_) => None,
        };
        // Checksums of different kinds say nothing of each other.
        let comparable = |ours: &StoredChecksum, theirs: &StoredChecksum| {
            ours.checksum.algorithm() == theirs.checksum.algorithm() && ours.parts == theirs.parts
        };
        let agrees = match (ours, answer.checksum) {
            (Some(ours), Some(theirs)) if comparable(&ours, &theirs) => same_checksum(ours, theirs)?,
            _ => false,
        };
        let theirs = answer.etag.as_ref().filter(|_| answer.etag_is_md5).map(ETag::class);
        let etag = match (&self.etag, theirs) {
            (ExpectedETag::Md5(ours), Some(ETagClass::Md5(theirs))) => etags.same_content(*ours, theirs, agrees)?,
            (ExpectedETag::Md5OfParts { digest: ours, .. }, Some(ETagClass::Multipart { digest: theirs, .. })) => {
                etags.same_parts(*ours, theirs, agrees)?
            }
            (ExpectedETag::Nothing(reason), _) => Compared::Not(*reason),
            (ExpectedETag::Md5(_) | ExpectedETag::Md5OfParts { .. }, _) => Compared::Not(Unproven::NoChecksum),
        };
        Ok(self.proof(agrees, etag))
    }

    fn proof(&self, checksum_agrees: bool, etag: Compared) -> Proof {
        match (checksum_agrees, etag, &self.checksum) {
            (true, etag, _) => Proof::by_checksum(etag),
            // Of the two reasons the more telling one: a checksum is better than an ETag.
            (
                false,
                Compared::Not(Unproven::NoChecksum),
                ExpectedChecksum::Nothing(reason @ (Unproven::PartSizeUnknown | Unproven::TurnedOff)),
            ) => Proof::None(*reason),
            (false, etag, _) => Proof::by_etag(etag),
        }
    }
}

/// The digest in the ETag of a content that was sent in such parts. All parts are hashed at once, as many as lanes are.
async fn md5_of_cut(content: &Bytes, cut: &Cut, lanes: &Md5Lanes) -> [u8; 16] {
    const AT_ONCE: usize = 32;
    let mut parts = cut.parts(content.len() as u64).peekable();
    let mut whole = Md5::new();
    while parts.peek().is_some() {
        let some = parts.by_ref().take(AT_ONCE);
        let in_lanes: Vec<Md5Lane> = some
            .map(|part| {
                let mut lane = lanes.lane();
                lane.push(content.slice(part.range.start as usize..part.range.end as usize));
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
    /// The same, but only those of contents: the person does not want those of parts compared.
    OfContents(&'a Abilities),
    /// Not at all: the person does not want it.
    Ignored,
}

impl ETags<'_> {
    /// Whether an MD5 of a content or a part would be compared with anything.
    pub(super) fn want_md5(self) -> bool {
        self.why_not(ETagsOf::Contents).is_none()
    }

    fn why_not(self, of: ETagsOf) -> Option<Unproven> {
        match (self, of) {
            (ETags::Compared(abilities), _) | (ETags::OfContents(abilities), ETagsOf::Contents) => {
                (abilities.etags(of) == ETagsAre::Opaque).then_some(Unproven::NoChecksum)
            }
            (ETags::OfContents(_), ETagsOf::Parts) | (ETags::Ignored, _) => Some(Unproven::TurnedOff),
        }
    }

    fn expected(self, head: &ObjectHead, cut: Option<&Cut>) -> ExpectedETag {
        let class = head.etag.as_ref().filter(|_| head.etag_is_md5).map(ETag::class);
        let of = match class {
            Some(ETagClass::Multipart { .. }) => ETagsOf::Parts,
            Some(ETagClass::Md5(_) | ETagClass::Opaque) | None => ETagsOf::Contents,
        };
        if let Some(reason) = self.why_not(of) {
            return ExpectedETag::Nothing(reason);
        }
        match (class, cut) {
            (Some(ETagClass::Md5(digest)), _) => ExpectedETag::Md5(digest),
            (Some(ETagClass::Multipart { digest, parts: 1 }), _) => {
                ExpectedETag::Md5OfParts { digest, cut: Cut::Equal(head.size_bytes.max(1)) }
            }
            (Some(ETagClass::Multipart { digest, parts }), Some(cut))
                if u64::from(parts) <= PARTS_MAX && cut.count(head.size_bytes) == u64::from(parts) =>
            {
                ExpectedETag::Md5OfParts { digest, cut: cut.clone() }
            }
            (Some(ETagClass::Multipart { .. }), _) => ExpectedETag::Nothing(Unproven::PartSizeUnknown),
            (Some(ETagClass::Opaque) | None, _) => ExpectedETag::Nothing(Unproven::NoChecksum),
        }
    }

    /// Compares the MD5 of a content or a part with what its ETag says.
    pub(super) fn same_content(
        self,
        ours: [u8; 16],
        theirs: [u8; 16],
        checksum_agrees: bool,
    ) -> Result<Compared, Error> {
        self.same(ETagsOf::Contents, ours, theirs, checksum_agrees)
    }

    /// Compares the MD5 of parts' MD5s with what the ETag of the object made of them says.
    pub(super) fn same_parts(self, ours: [u8; 16], theirs: [u8; 16], checksum_agrees: bool) -> Result<Compared, Error> {
        self.same(ETagsOf::Parts, ours, theirs, checksum_agrees)
    }

    /// Whether the MD5 of what was sent is needed to judge this answer.
    pub(super) fn need_md5_for(self, answer: &Uploaded) -> bool {
        let class = answer.etag.as_ref().map(ETag::class);
        self.want_md5() && answer.etag_is_md5 && matches!(class, Some(ETagClass::Md5(_)))
    }

    /// Compares the ETag that an uploaded object or part was given with the MD5 of what was sent, if it was
    /// [needed](Self::need_md5_for). Every service gives one: an answer with neither a checksum nor an ETag is somebody
    /// else's, a proxy's for instance (reliability.md P33).
    pub(super) fn same_uploaded(
        self,
        ours: Option<[u8; 16]>,
        answer: &Uploaded,
        checksum_agrees: bool,
    ) -> Result<Compared, Error> {
        match (answer.etag.as_ref().map(ETag::class), ours) {
            (Some(ETagClass::Md5(theirs)), Some(ours)) if answer.etag_is_md5 => {
                self.same_content(ours, theirs, checksum_agrees)
            }
            (None, _) if !checksum_agrees => {
                Err(Error::Mismatch("the service acknowledged it without an ETag".to_owned()))
            }
            _ => Ok(Compared::Not(self.why_not(ETagsOf::Contents).unwrap_or(Unproven::NoChecksum))),
        }
    }

    fn same(self, of: ETagsOf, ours: [u8; 16], theirs: [u8; 16], checksum_agrees: bool) -> Result<Compared, Error> {
        let (ETags::Compared(abilities) | ETags::OfContents(abilities)) = self else {
            return Ok(Compared::Not(Unproven::TurnedOff));
        };
        if let Some(reason) = self.why_not(of) {
            return Ok(Compared::Not(reason));
        }
        if ours == theirs {
            abilities.learn_etags(of, true);
            return Ok(Compared::Equal);
        }
        // The content is proven by its checksum, so an ETag that was never seen to be an MD5 is none.
        if checksum_agrees && abilities.learn_etags(of, false) == ETagsAre::Opaque {
            return Ok(Compared::Not(Unproven::NoChecksum));
        }
        let (ours, theirs) = (ETag::from_md5(ours), ETag::from_md5(theirs));
        let remedy = if checksum_agrees { "; its checksum agrees, see --disable-etag-verify" } else { "" };
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

fn of_bytes(checksum: Checksum) -> StoredChecksum {
    StoredChecksum::of_bytes(checksum)
}

/// Compares our checksum with the service's. It is true if they are the same.
pub(super) fn same_checksum(ours: StoredChecksum, theirs: StoredChecksum) -> Result<bool, Error> {
    if ours == theirs {
        return Ok(true);
    }
    let algorithm = theirs.checksum.algorithm();
    Err(Error::Mismatch(format!("the content's {algorithm} is {ours}, the service has {theirs}")))
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
        let answer = Uploaded { etag: Some(ETag::from_md5(OURS)), etag_is_md5: true, checksum: None, version: None };
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
