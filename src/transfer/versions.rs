//! What carrying all versions of an object asks of the target beside the transfers themselves.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{BucketSide, Error, Kit, Side, metadata};
use crate::entry::ObjectVersion;

/// Versions of one key that are asked about at the same time.
const ASKED_MAX: usize = 16;

/// Of which versions of the source the target's versions of a key are copies, as their metadata says. Delete markers say
/// nothing.
pub async fn origins(kit: &Kit, key: &str, versions: &[ObjectVersion]) -> Result<Vec<String>, Error> {
    let side = target(kit);
    let key = side.key(key)?;
    let asked = versions.iter().filter(|version| version.content.is_some()).map(|version| {
        let key = &key;
        async move {
            let head = side.client.head_version(key, Some(&version.id)).await.map_err(Error::target)?;
            Ok(metadata::origin(&head.metadata).map(str::to_owned))
        }
    });
    let asked = stream::iter(asked).buffer_unordered(ASKED_MAX).try_filter_map(async |origin| Ok(origin));
    kit.stop.or_abandon(asked.try_collect()).await
}

/// Deletes a key of the target, where versions are kept: a delete marker becomes its latest.
pub async fn mark_deleted(kit: &Kit, key: &str) -> Result<(), Error> {
    let side = target(kit);
    let key = side.key(key)?;
    kit.stop.or_abandon(async { side.client.delete(&key, None).await.map_err(Error::target) }).await
}

fn target(kit: &Kit) -> &BucketSide {
    match &kit.target {
        Side::Bucket(side) => side,
        Side::Local(_) => unreachable!("versions are carried from bucket to bucket"),
    }
}
