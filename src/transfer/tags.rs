//! Tags that travel apart from an object: made equal where nothing else needs copying, and given once more where a service
//! loses them.

use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::Key;
use ropeway_s3proto::op::{ObjectMetadata, Tags};

use super::side::BucketSide;
use super::{Error, Kit, Side};
use crate::client::{GivenTags, TagsGivenTo};
use crate::entry::Action;

/// Makes the tags of an object that needs no copying the source's. Says whether they were others.
pub async fn sync_tags(kit: &Kit, action: &Action) -> Result<bool, Error> {
    let Some(wanted) = kit.stop.or_abandon(missing_tags(kit, action)).await? else { return Ok(false) };
    if kit.limited.objects.is_set() {
        kit.stop.unless_asked(kit.limited.objects.take(1)).await?;
    }
    let (_, target) = sides(kit);
    let key = target.key(&action.entry.key)?;
    kit.stop.or_abandon(async { target.client.set_tags(&key, &wanted).await.map_err(Error::target) }).await?;
    Ok(true)
}

/// Whether [`sync_tags`] would change anything.
pub async fn tags_differ(kit: &Kit, action: &Action) -> Result<bool, Error> {
    Ok(kit.stop.or_abandon(missing_tags(kit, action)).await?.is_some())
}

/// The source's tags, if the target's object has others.
async fn missing_tags(kit: &Kit, action: &Action) -> Result<Option<Tags>, Error> {
    let (source, target) = sides(kit);
    let relative = &action.entry.key;
    let wanted = source.client.tags(&source.key(relative)?).await.map_err(Error::source)?;
    let there = target.client.tags(&target.key(relative)?).await.map_err(Error::target)?;
    Ok((wanted != there).then_some(wanted))
}

fn sides(kit: &Kit) -> (&BucketSide, &BucketSide) {
    match (&kit.source, &kit.target) {
        (Side::Bucket(source), Side::Bucket(target)) => (source, target),
        _ => unreachable!("asked for only from bucket to bucket"),
    }
}

/// Makes sure that a new object has the tags that it was to be given: some services lose them on the way. Whether this one
/// does is looked at once.
pub(super) async fn keep_tags(
    side: &BucketSide,
    key: &Key,
    metadata: &ObjectMetadata,
    to: TagsGivenTo,
) -> Result<(), Error> {
    let Some(tags) = metadata.tagging.as_deref().and_then(Tags::parse) else { return Ok(()) };
    let abilities = side.client.abilities();
    let lost = match abilities.given_tags(to) {
        GivenTags::Kept => false,
        GivenTags::Lost => true,
        GivenTags::Unknown => {
            let lost = match side.client.tags(key).await {
                Ok(theirs) => theirs != tags,
                // Who may not look has to believe it.
                Err(error) if matches!(error.class(), Class::Denied | Class::Unsupported) => false,
                Err(error) => return Err(Error::target(error)),
            };
            abilities.learn_given_tags(to, !lost);
            lost
        }
    };
    if lost { side.client.set_tags(key, &tags).await.map_err(Error::target) } else { Ok(()) }
}
