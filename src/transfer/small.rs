//! A small object: one buffer, one read, one write.

use ropeway_io::buf::Lease;
use ropeway_io::path::key_to_relative;
use ropeway_s3proto::name::{ETag, ETagClass, Key};
use ropeway_s3proto::op::ObjectMetadata;

use super::parts_of::{parts_of, stored_parts_of};
use super::side::{Acknowledged, BucketSide, Content, NOT_COMPARED, Opened, write_failed};
use super::verify::{Expected, Hashed, Proof};
use super::{Error, Kit, Lacks, Receipt, Side, Version, metadata};
use crate::entry::{Action, Entry};

/// The content in memory, with what must travel beside it.
struct Read {
    content: Hashed,
    /// How the content was compared with the source's word.
    proof: Proof,
    metadata: ObjectMetadata,
    modified_ns: i64,
    version: Version,
    source_has_checksum: bool,
}

/// New files are as the process's umask wants them; reliability.md F22: no mode comes from an object.
pub(super) const FILE_MODE: u32 = 0o666;

/// Moves one object through one buffer. `sure` believes nothing of its parts that the service does not say.
pub(super) async fn transfer(kit: &Kit, action: &Action, source: Opened, sure: bool) -> Result<Receipt, Error> {
    let buffer = kit.arena.lease(source.size_bytes as usize).await;
    let read = read(kit, &action.entry, &source, buffer, sure).await?;
    drop(source);
    write(kit, action, read).await
}

async fn read(kit: &Kit, entry: &Entry, source: &Opened, mut buffer: Lease, sure: bool) -> Result<Read, Error> {
    match (&source.content, &kit.source) {
        (Content::File { .. }, _) => {
            let read = source.read(kit, 0..source.size_bytes, buffer, kit.target_wants_md5()).await?;
            source.check_unchanged()?;
            let metadata = metadata::of_file(kit, &entry.key, source.modified_ns);
            let modified_ns = source.modified_ns;
            let version = Version { modified_ns, etag: None };
            let content = read.freeze();
            Ok(Read { content, proof: NOT_COMPARED, metadata, modified_ns, version, source_has_checksum: true })
        }
        (Content::Object { key, version, etag }, Side::Bucket(side)) => {
            let etags = kit.etags(side);
            let plain = matches!(etag.as_ref().map(ETag::class), Some(ETagClass::Md5(_)));
            let with_md5 = plain && etags.want_md5() || kit.target_wants_md5();
            let lane = with_md5.then(|| kit.lanes.lane());
            kit.limited.bytes.take(source.size_bytes).await;
            let got = side.client.get_whole(key, version.as_ref(), source.size_bytes, &mut buffer).await;
            let (mut head, crc) = got.map_err(Error::source)?;
            let parts = match sure || kit.integrity.needs_parts(&head) {
                true => parts_of(side, (key, version.as_ref()), &head, sure).await.map_err(Error::source)?,
                false => stored_parts_of(&head),
            };
            let mut content = Hashed::new(buffer.freeze(), crc, lane);
            let expected = Expected::of(&head, parts.cut(), etags, kit.integrity.of_parts);
            let proof = expected.check_whole(&mut content, etags, &kit.lanes).await?;
            let source_has_checksum = head.checksum.is_some();
            let modified_ns = metadata::modified_ns(&head.metadata, head.last_modified_ns, source.modified_ns);
            let written_ns = head.last_modified_ns.unwrap_or(source.modified_ns);
            let metadata = metadata::of_object(kit, side, (key, version.as_ref()), &mut head, written_ns).await?;
            let version = Version { modified_ns: written_ns, etag: head.etag };
            Ok(Read { content, proof, metadata, modified_ns, version, source_has_checksum })
        }
        (Content::Object { .. }, Side::Local(_)) => unreachable!("an object is opened by a bucket's side"),
    }
}

async fn write(kit: &Kit, action: &Action, mut read: Read) -> Result<Receipt, Error> {
    let entry = &action.entry;
    let content = read.content.content.clone();
    let size_bytes = content.len() as u64;
    let crc64nvme = Some(read.content.crc.0);
    let source_has_checksum = read.source_has_checksum;
    match &kit.target {
        Side::Local(side) => {
            let partial = side.root.create_brief_partial(&key_to_relative(&entry.key)?, FILE_MODE)?;
            kit.files.write_bytes_at(partial.file(), content, 0).await.map_err(write_failed)?;
            partial.publish(Some(read.modified_ns)).map_err(Error::publishing)?;
            kit.moved(size_bytes);
            let lacks = Lacks::of(kit, source_has_checksum, true);
            Ok(Receipt { size_bytes, proof: read.proof, crc64nvme, etag: None, version: read.version, lacks })
        }
        Side::Bucket(side) => {
            let key = side.key(&entry.key)?;
            let (metadata, condition) = (&read.metadata, kit.condition(action.existing_etag()));
            let sent = side
                .send_proven(kit, &mut read.content, async |client, checks| {
                    client.put(&key, metadata, condition, checks, content.clone()).await
                })
                .await;
            let acknowledged = match sent {
                // An earlier try may have got through, and its answer been lost: then it is our own object that is in the way.
                Err(Error::Overtaken(error)) if error.attempts > 1 => {
                    let ours = written_by_us(kit, side, &key, &mut read).await?;
                    ours.ok_or(Error::Overtaken(error))?
                }
                sent => sent?,
            };
            kit.moved(size_bytes);
            let proof = proven(kit, read.proof, acknowledged.proof);
            let lacks = Lacks::of(kit, source_has_checksum, acknowledged.checksum.is_some());
            let etag = acknowledged.etag.map(|etag| etag.to_string());
            Ok(Receipt { size_bytes, proof, crc64nvme, etag, version: read.version, lacks })
        }
    }
}

/// What the target has under the key, if that is the object that was to be written, content and metadata alike.
async fn written_by_us(
    kit: &Kit,
    side: &BucketSide,
    key: &Key,
    read: &mut Read,
) -> Result<Option<Acknowledged>, Error> {
    let head = side.client.head(key).await.map_err(Error::target)?;
    let (size_bytes, etags) = (read.content.content.len() as u64, kit.etags(side));
    if head.size_bytes != size_bytes || head.metadata.user != read.metadata.user {
        return Ok(None);
    }
    let expected = Expected::of(&head, None, etags, kit.integrity.of_parts);
    let compared = expected.check_whole(&mut read.content, etags, &kit.lanes).await;
    let checksum = expected.of_bytes();
    Ok(match compared {
        Ok(Proof::None(_)) | Err(_) => None,
        Ok(proof) => Some(Acknowledged { etag: head.etag, proof, checksum }),
    })
}

/// The proof of the whole way. A local side gives nothing to compare with: its bytes are taken as they are, or written by a
/// system that reports every error.
pub(super) fn proven(kit: &Kit, read: Proof, written: Proof) -> Proof {
    match (&kit.source, &kit.target) {
        (Side::Local(_), _) => written,
        (Side::Bucket(_), Side::Local(_)) => read,
        (Side::Bucket(_), Side::Bucket(_)) => read.weaker(written),
    }
}
