//! Tags that travel apart from an object: made equal where nothing else needs copying, and given once more where a service
//! loses them; and what else an object says of itself on both sides.

use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::Key;
use ropeway_s3proto::op::{ObjectMetadata, Tags};

use super::side::BucketSide;
use super::{Error, Kit, Side, metadata};
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

/// The tags of an object in both buckets.
pub async fn tags_of_both(kit: &Kit, key: &str) -> Result<(Tags, Tags), Error> {
    kit.stop.or_abandon(both_tags(kit, key)).await
}

/// What an object says of itself in both buckets, without what Ropeway and s3sync have said of it.
pub async fn metadata_of_both(kit: &Kit, key: &str) -> Result<(ObjectMetadata, ObjectMetadata), Error> {
    let (source, target) = sides(kit);
    let asked = async {
        let mut ours = source.client.head(&source.key(key)?).await.map_err(Error::source)?.metadata;
        let mut theirs = target.client.head(&target.key(key)?).await.map_err(Error::target)?.metadata;
        metadata::keep_what_compares(&mut ours, &mut theirs);
        Ok((ours, theirs))
    };
    kit.stop.or_abandon(asked).await
}

/// The source's tags, if the target's object has others.
async fn missing_tags(kit: &Kit, action: &Action) -> Result<Option<Tags>, Error> {
    let (wanted, there) = both_tags(kit, &action.entry.key).await?;
    Ok((wanted != there).then_some(wanted))
}

async fn both_tags(kit: &Kit, key: &str) -> Result<(Tags, Tags), Error> {
    let (source, target) = sides(kit);
    let ours = source.client.tags(&source.key(key)?, None).await.map_err(Error::source)?;
    let theirs = target.client.tags(&target.key(key)?, None).await.map_err(Error::target)?;
    Ok((ours, theirs))
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
            let lost = match side.client.tags(key, None).await {
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
