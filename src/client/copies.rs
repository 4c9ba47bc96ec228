//! The two operations by which a service copies within itself, each as one call: no byte of content passes here.

use ropeway_s3proto::checksum::{Algorithm, Checksum, StoredChecksum};
use ropeway_s3proto::head::{HeadText, Headers};
use ropeway_s3proto::name::{ByteRange, ETag, Key, PartNumber, UploadId};
use ropeway_s3proto::op::{Condition, CopyObject, CopySource, ObjectMetadata, Protection, UploadPartCopy};

use super::operations::{BARE, unfit};
use super::{Client, Error, Uploaded};

/// What is copied from, and what guards it there.
#[derive(Debug, Clone, Copy)]
pub struct Copied<'a> {
    /// The object.
    pub source: CopySource<'a>,
    /// The source's, whose key the service needs to read it.
    pub protection: &'a Protection,
}

impl Client {
    /// Copies a whole object of at most 5 GiB, and gives the copy such a checksum; without one, what the service thinks right.
    pub async fn copy(
        &self,
        key: &Key,
        from: Copied<'_>,
        metadata: &ObjectMetadata,
        algorithm: Option<Algorithm>,
        condition: Condition<'_>,
    ) -> Result<Uploaded, Error> {
        let copy = CopyObject { key, source: from.source, metadata: Some(metadata), algorithm, condition };
        let make = |head: &mut HeadText| {
            copy.request(&self.settings.address, head).map_err(unfit)?;
            from.protection.write_copy_source_key(head);
            self.settings.protection.write_new(head).map_err(unfit)?;
            Ok(BARE)
        };
        self.perform("CopyObject", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    let copied = CopyObject::parse(status, headers, body)?;
                    Ok(client.uploaded(headers, copied.etag, copied.checksum))
                })
                .await
        })
        .await
    }

    /// Copies a range of an object into a part.
    pub async fn copy_part(
        &self,
        key: &Key,
        upload_id: &UploadId,
        number: u32,
        from: Copied<'_>,
        range: ByteRange,
    ) -> Result<Uploaded, Error> {
        let part_number = PartNumber::new(number).map_err(|error| self.refused("UploadPartCopy", error))?;
        let copy = UploadPartCopy { key, upload_id, part_number, source: from.source, range };
        let make = |head: &mut HeadText| {
            copy.request(&self.settings.address, head);
            from.protection.write_copy_source_key(head);
            self.settings.protection.write_key(head);
            Ok(BARE)
        };
        self.perform("UploadPartCopy", Some(key), make, async |client, answer| {
            answer
                .whole(client, |status, headers, body| {
                    let copied = UploadPartCopy::parse(status, headers, body)?;
                    Ok(client.uploaded(headers, copied.etag, copied.checksum))
                })
                .await
        })
        .await
    }

    fn uploaded(&self, headers: &Headers, etag: Option<ETag>, checksum: Option<Checksum>) -> Uploaded {
        let checksum = checksum.map(StoredChecksum::of_bytes);
        let version = super::operations::version(headers.text("x-amz-version-id").map(str::to_owned));
        Uploaded { etag, etag_is_md5: self.etags_are_md5s(headers), checksum, version }
    }
}
