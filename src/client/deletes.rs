//! The two operations that delete, each as one call.

use ropeway_io::hash::{crc64, md5};
use ropeway_s3proto::checksum::{Crc64Nvme, Md5Digest};
use ropeway_s3proto::head::HeadText;
use ropeway_s3proto::name::{ETag, Key, VersionId};
use ropeway_s3proto::op::{DeleteObject, DeleteObjects, DeleteObjectsOutput};
use ropeway_s3proto::sign::Payload;

use super::send::Outgoing;
use super::{Client, Error, Failure, RequestBody};

impl Client {
    /// Deletes one object, if it still has this ETag. No error if there is none of that key.
    pub async fn delete(&self, key: &Key, if_match: Option<&ETag>) -> Result<(), Error> {
        self.delete_one(DeleteObject { key, version: None, if_match }).await
    }

    /// Deletes one version of an object for good. What was the latest before it is the latest again.
    pub async fn delete_version(&self, key: &Key, version: &VersionId) -> Result<(), Error> {
        self.delete_one(DeleteObject { key, version: Some(version), if_match: None }).await
    }

    async fn delete_one(&self, delete: DeleteObject<'_>) -> Result<(), Error> {
        let make = |text: &mut HeadText| {
            delete.request(&self.settings.address, text);
            Ok(Outgoing { payload: Payload::Empty, body: RequestBody::Empty })
        };
        self.perform("DeleteObject", Some(delete.key), make, async |client, answer| {
            answer.whole(client, DeleteObject::parse).await
        })
        .await
    }

    /// Deletes up to [`KEYS_MAX`](ropeway_s3proto::op::KEYS_MAX) objects, and says what the service answered for each. A
    /// key that XML cannot carry is an error of the request; it has to be deleted alone.
    pub async fn delete_batch(&self, keys: &[Key]) -> Result<DeleteObjectsOutput, Error> {
        let make = |text: &mut HeadText| {
            let document = DeleteObjects::document(keys, false).map_err(|error| Failure::Request(error.to_string()))?;
            // One service insists on the MD5, another on a CRC.
            let content_md5 = Some(Md5Digest(md5(&document)));
            let checksum_crc64nvme = Some(Crc64Nvme(crc64(&document)));
            let delete = DeleteObjects { document, content_md5, checksum_crc64nvme };
            delete.request(&self.settings.address, text);
            Ok(Outgoing { payload: Payload::Unsigned, body: RequestBody::whole(delete.body()) })
        };
        self.perform("DeleteObjects", None, make, async |client, answer| {
            answer.whole(client, DeleteObjects::parse).await
        })
        .await
    }
}
