//! One file per S3 operation: what it takes, the head of its request, what its answer means.
//!
//! Every operation is a struct of borrowed inputs. `request` writes the head to be signed and sent, `Host` and the exact
//! `Content-Length` included: present, if only as 0, where a body could be, and absent where none may be. `parse`
//! takes the whole answer; where the body is an object's data, `parse_head` takes the head alone. An operation whose
//! answer is a document succeeds only if the document's root says so, whatever the status.

mod abort_multipart_upload;
mod complete_multipart_upload;
mod condition;
mod copy_object;
mod create_multipart_upload;
mod create_session;
mod delete_object;
mod delete_objects;
mod draft;
mod get_bucket_versioning;
mod get_object;
mod get_object_attributes;
mod head_bucket;
mod head_object;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects_v2;
mod list_parts;
mod metadata;
mod object_head;
mod object_tagging;
mod protection;
mod put_object;
mod upload_part;
mod upload_part_copy;

pub use abort_multipart_upload::AbortMultipartUpload;
pub use complete_multipart_upload::{CompleteMultipartUpload, CompleteMultipartUploadOutput, CompletedPart};
pub use condition::Condition;
pub use copy_object::{CopyObject, CopyObjectOutput, CopySource};
pub use create_multipart_upload::{CreateMultipartUpload, CreateMultipartUploadOutput};
pub use create_session::{CreateSession, CreateSessionOutput};
pub use delete_object::DeleteObject;
pub use delete_objects::{DeleteFailure, DeleteObjects, DeleteObjectsOutput, KEYS_MAX};
pub use get_bucket_versioning::{BucketVersioning, GetBucketVersioning};
pub use get_object::GetObject;
pub use get_object_attributes::{GetObjectAttributes, GetObjectAttributesOutput, ObjectPart};
pub use head_bucket::{HeadBucket, HeadBucketOutput};
pub use head_object::HeadObject;
pub use list_multipart_uploads::{ListMultipartUploads, ListMultipartUploadsOutput, ListedUpload};
pub use list_object_versions::{ListObjectVersions, ListedContent, ListedVersion, VersionsPage};
pub use list_objects_v2::{ListObjectsV2, ListPage, ListRow};
pub use list_parts::{ListParts, ListPartsOutput, ListedPart};
pub use metadata::{InputError, ObjectMetadata};
pub use object_head::ObjectHead;
pub use object_tagging::{DeleteObjectTagging, GetObjectTagging, PutObjectTagging, Tags};
pub use protection::{CUSTOMER_KEY_BYTES, CustomerKey, Encryption, Protection};
pub use put_object::{PutObject, PutObjectOutput};
pub use upload_part::{UploadPart, UploadPartOutput};
pub use upload_part_copy::{UploadPartCopy, UploadPartCopyOutput};
