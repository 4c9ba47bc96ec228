//! A small object: one buffer, one read, one write.

use ropeway_io::buf::Lease;
use ropeway_io::path::key_to_relative;
use ropeway_s3proto::checksum::Crc64Nvme;
use ropeway_s3proto::op::ObjectMetadata;

use super::side::{Content, NOT_COMPARED, Opened, write_failed};
use super::verify::{Expected, Proof};
use super::{Error, Kit, Receipt, Side, Version, metadata};
use crate::entry::Entry;

/// The content in memory, with what must travel beside it.
struct Read {
    content: Lease,
    crc: Crc64Nvme,
    /// How the content was compared with the source's word.
    proof: Proof,
    metadata: ObjectMetadata,
    modified_ns: i64,
    version: Version,
}

/// New files are as the process's umask wants them; reliability.md F22: no mode comes from an object.
pub(super) const FILE_MODE: u32 = 0o666;

/// Moves one object through one buffer.
pub(super) async fn transfer(kit: &Kit, entry: &Entry, source: Opened) -> Result<Receipt, Error> {
    let buffer = kit.arena.lease(source.size_bytes as usize).await;
    let read = read(kit, entry, &source, buffer).await?;
    drop(source);
    write(kit, entry, read).await
}

async fn read(kit: &Kit, entry: &Entry, source: &Opened, mut buffer: Lease) -> Result<Read, Error> {
    match (&source.content, &kit.source) {
        (Content::File { .. }, _) => {
            let (content, crc) = source.read(kit, 0..source.size_bytes, buffer).await?;
            source.check_unchanged()?;
            let metadata = metadata::of_file(&entry.key, source.modified_ns);
            let modified_ns = source.modified_ns;
            let version = Version { modified_ns, etag: None };
            Ok(Read { content, crc, proof: NOT_COMPARED, metadata, modified_ns, version })
        }
        (Content::Object { key, .. }, Side::Bucket(side)) => {
            let got = side.client.get_whole(key, source.size_bytes, &mut buffer).await;
            let (head, crc) = got.map_err(Error::source)?;
            let mut part_bytes = metadata::part_bytes(&head.metadata);
            if part_bytes.is_none() && head.needs_part_size() {
                part_bytes = side.client.first_part_bytes(key).await.map_err(Error::source)?;
            }
            let proof = Expected::of(&head, part_bytes).check_whole(buffer.filled(), crc)?;
            let modified_ns = metadata::modified_ns(&head.metadata, head.last_modified_ns, source.modified_ns);
            let version = Version { modified_ns: head.last_modified_ns.unwrap_or(source.modified_ns), etag: head.etag };
            let mut metadata = head.metadata;
            metadata::forget_upload(&mut metadata);
            Ok(Read { content: buffer, crc, proof, metadata, modified_ns, version })
        }
        (Content::Object { .. }, Side::Local(_)) => unreachable!("an object is opened by a bucket's side"),
    }
}

async fn write(kit: &Kit, entry: &Entry, read: Read) -> Result<Receipt, Error> {
    let size_bytes = read.content.len() as u64;
    let crc64nvme = Some(read.crc.0);
    match &kit.target {
        Side::Local(side) => {
            let partial = side.root.create_partial(&key_to_relative(&entry.key)?, FILE_MODE)?;
            let (written, _buffer) = kit.files.write_at(partial.file(), read.content, 0).await;
            written.map_err(write_failed)?;
            partial.publish(Some(read.modified_ns)).map_err(Error::publishing)?;
            kit.moved(size_bytes);
            Ok(Receipt { size_bytes, proof: read.proof, crc64nvme, etag: None, version: read.version })
        }
        Side::Bucket(side) => {
            let key = side.key(&entry.key)?;
            let content = read.content.freeze();
            let metadata = &read.metadata;
            let acknowledged = side
                .send_proven(&content, read.crc, async |client, checks| {
                    client.put(&key, metadata, checks, content.clone()).await
                })
                .await?;
            kit.moved(size_bytes);
            let proof = proven(kit, read.proof, acknowledged.proof);
            let etag = acknowledged.etag.map(|etag| etag.to_string());
            Ok(Receipt { size_bytes, proof, crc64nvme, etag, version: read.version })
        }
    }
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
