//! The three operations about an object's tags, each as one call.

use ropeway_io::hash::{crc64, md5};
use ropeway_s3proto::checksum::{Crc64Nvme, Md5Digest};
use ropeway_s3proto::head::HeadText;
use ropeway_s3proto::name::{Key, VersionId};
use ropeway_s3proto::op::{DeleteObjectTagging, GetObjectTagging, PutObjectTagging, Tags};
use ropeway_s3proto::sign::Payload;

use super::operations::{BARE, unfit};
use super::send::Outgoing;
use super::{Client, Error, RequestBody};

impl Client {
    /// The tags of a version of an object, or of the latest.
    pub async fn tags(&self, key: &Key, version: Option<&VersionId>) -> Result<Tags, Error> {
        let get = GetObjectTagging { key, version };
        let make = |text: &mut HeadText| {
            get.request(&self.settings.address, text);
            Ok(BARE)
        };
        self.perform("GetObjectTagging", Some(key), make, async |client, answer| {
            answer.whole(client, GetObjectTagging::parse).await
        })
        .await
    }

    /// Gives an object these tags and no others.
    pub async fn set_tags(&self, key: &Key, tags: &Tags) -> Result<(), Error> {
        if tags.is_empty() {
            let delete = DeleteObjectTagging { key };
            let make = |text: &mut HeadText| {
                delete.request(&self.settings.address, text);
                Ok(BARE)
            };
            let deleted = self.perform("DeleteObjectTagging", Some(key), make, async |client, answer| {
                answer.whole(client, DeleteObjectTagging::parse).await
            });
            return deleted.await;
        }
        let make = |text: &mut HeadText| {
            let document = PutObjectTagging::document(tags).map_err(unfit)?;
            // One service insists on the MD5, another on a CRC.
            let content_md5 = Some(Md5Digest(md5(&document)));
            let checksum_crc64nvme = Some(Crc64Nvme(crc64(&document)));
            let put = PutObjectTagging { key, document: document.clone(), content_md5, checksum_crc64nvme };
            put.request(&self.settings.address, text);
            Ok(Outgoing { payload: Payload::Unsigned, body: RequestBody::whole(document) })
        };
        self.perform("PutObjectTagging", Some(key), make, async |client, answer| {
            answer.whole(client, PutObjectTagging::parse).await
        })
        .await
    }
}
