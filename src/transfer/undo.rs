//! What becomes of an object that the service made of other bytes than those that were sent. It stands under its name, and
//! readers would take it for the source's.

use std::time::Duration;

use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::ETag;

use super::{Error, Kit, Side};
use crate::client;
use crate::entry::{Action, Reason};

/// How long it may take, since the run may be ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes the object if this run made it, and there was none before: what was replaced cannot be restored. The error says
/// what was wrong with it and what has become of it.
pub(super) async fn take_back(kit: &Kit, action: &Action, how: String, etag: Option<ETag>) -> Error {
    let became = match (&kit.target, action.reason) {
        (Side::Bucket(_), Reason::Absent) if action.existing.is_none() => {
            match tokio::time::timeout(PATIENCE, remove(kit, action, etag.as_ref())).await {
                Ok(Ok(true)) => "; the object was removed from the target".to_owned(),
                Ok(Ok(false)) => "; the target now shows another ETag than it answered, and the object is left there".to_owned(),
                Ok(Err(error)) => format!("; the object is left at the target, for it cannot be removed: {error}"),
                Err(_) => "; the object is left at the target, for its removal was not answered in time".to_owned(),
            }
        }
        (Side::Bucket(_), _) => {
            "; the object is left at the target, where it may have replaced an older one: that cannot be restored, unless \
             the bucket keeps versions"
                .to_owned()
        }
        (Side::Local(_), _) => String::new(),
    };
    Error::Spoilt { how, etag, became }
}

/// Whether the object was removed: it is not if another has taken its place.
async fn remove(kit: &Kit, action: &Action, etag: Option<&ETag>) -> Result<bool, Error> {
    let Side::Bucket(side) = &kit.target else { return Ok(false) };
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
