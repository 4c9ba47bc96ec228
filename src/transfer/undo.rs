//! What becomes of an object that the service made of other bytes than those that were sent. It stands under its name, and
//! readers would take it for the source's.

use std::time::Duration;

use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, VersionId};

use super::error::Made;
use super::side::BucketSide;
use super::{Error, Kit, Side};
use crate::client;
use crate::entry::{Action, Reason};

/// How long it may take, since the run may be ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes the object: its version, if the bucket keeps them, and else if this run made it and there was none before, since
/// what was replaced cannot be restored. The error says what was wrong with it and what has become of it.
pub(super) async fn take_back(kit: &Kit, action: &Action, how: String, made: Made) -> Error {
    let created = action.reason == Reason::Absent && action.existing.is_none();
    let became = match (&kit.target, &made.version) {
        (Side::Local(_), _) => String::new(),
        (Side::Bucket(_), None) if !created => {
            "; the object is left at the target, where it may have replaced an older one: that cannot be restored, for \
             the bucket keeps no versions"
                .to_owned()
        }
        (Side::Bucket(side), version) => {
            let removed = async {
                match version {
                    Some(version) => remove_version(side, action, version).await,
                    None => remove(side, action, made.etag.as_ref()).await,
                }
            };
            match tokio::time::timeout(PATIENCE, removed).await {
                Ok(Ok(true)) if version.is_some() => {
                    "; that version was removed from the target, which shows what it had before".to_owned()
                }
                Ok(Ok(true)) => "; the object was removed from the target".to_owned(),
                Ok(Ok(false)) => {
                    "; the target now shows another ETag than it answered, and the object is left there".to_owned()
                }
                Ok(Err(error)) => format!("; the object is left at the target, for it cannot be removed: {error}"),
                Err(_) => "; the object is left at the target, for its removal was not answered in time".to_owned(),
            }
        }
    };
    Error::Spoilt { how, made, became }
}

async fn remove_version(side: &BucketSide, action: &Action, version: &VersionId) -> Result<bool, Error> {
    match side.client.delete_version(&side.key(&action.entry.key)?, version).await {
        Err(error) if !is_absent(&error) => Err(Error::target(error)),
        _ => Ok(true),
    }
}

/// Whether the object was removed: it is not if another has taken its place.
async fn remove(side: &BucketSide, action: &Action, etag: Option<&ETag>) -> Result<bool, Error> {
    let key = side.key(&action.entry.key)?;
    let now = match side.client.head(&key).await {
        Ok(head) => head.etag,
        Err(error) if is_absent(&error) => return Ok(true),
        Err(error) => return Err(Error::target(error)),
    };
    if now.as_ref() != etag {
        return Ok(false);
    }
    match side.client.delete(&key, None).await {
        Err(error) if !is_absent(&error) => Err(Error::target(error)),
        _ => Ok(true),
    }
}

fn is_absent(error: &client::Error) -> bool {
    error.class() == Class::Absent
}
