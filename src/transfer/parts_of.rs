//! Of what parts an object was made. What covers parts, an ETag or a composite checksum, can be compared only in the same cut.
//!
//! The service tells it in one request for a thousand parts, if the object has a checksum and the service knows how
//! (GetObjectAttributes), else in one for each part (HEAD by part number). The size of the first part, or the one that we have
//! stored with the object, suffices as long as all parts but the last are equal, which most programs see to; so that is
//! believed at first, and the sure way is gone when what was compared did not agree.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use ropeway_s3proto::error::Class;
use ropeway_s3proto::name::{ETag, ETagClass, Key, VersionId};

use super::metadata;
use super::part::{Cut, PARTS_MAX};
use super::side::BucketSide;
use crate::client::{self, ObjectHead};

/// What is known of an object's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartsOf {
    /// The object was put whole.
    Whole,
    /// It was cut so.
    Cut(Cut),
    /// It was sent in parts, and nobody tells their sizes.
    Untold,
    /// What the service says of them cannot be, for this reason.
    Contradictory(String),
}

impl PartsOf {
    pub(super) fn cut(&self) -> Option<&Cut> {
        match self {
            PartsOf::Cut(cut) => Some(cut),
            PartsOf::Whole | PartsOf::Untold | PartsOf::Contradictory(_) => None,
        }
    }
}

/// Requests for the sizes of single parts that are under way at a time.
const HEADS_AT_ONCE: usize = 8;

/// How many parts an object was made of; None if it was put whole, as far as its ETag and checksum tell.
pub(super) fn number_of(head: &ObjectHead) -> Option<u32> {
    let by_checksum = head.checksum.and_then(|stored| stored.parts);
    match head.etag.as_ref().map(ETag::class) {
        Some(ETagClass::Multipart { parts, .. }) => Some(parts),
        Some(ETagClass::Md5(_) | ETagClass::Opaque) | None => by_checksum,
    }
}

/// What the object itself says of its parts, without a request.
pub(super) fn stored_parts_of(head: &ObjectHead) -> PartsOf {
    match (number_of(head), metadata::part_bytes(&head.metadata)) {
        (None, _) => PartsOf::Whole,
        (Some(1), _) => PartsOf::Cut(Cut::Equal(head.size_bytes.max(1))),
        (Some(number), Some(part_bytes)) if Cut::Equal(part_bytes).count(head.size_bytes) == u64::from(number) => {
            PartsOf::Cut(Cut::Equal(part_bytes))
        }
        (Some(_), _) => PartsOf::Untold,
    }
}

/// Asks for the parts of an object. `sure` wants all their sizes from the service; what the object itself says is believed only
/// where the service tells nothing, so that a content that differs is never passed off as one that cannot be compared.
pub(super) async fn parts_of(
    side: &BucketSide,
    (key, version): (&Key, Option<&VersionId>),
    head: &ObjectHead,
    sure: bool,
) -> Result<PartsOf, client::Error> {
    let Some(number) = number_of(head) else { return Ok(PartsOf::Whole) };
    if u64::from(number) > PARTS_MAX {
        return Ok(PartsOf::Contradictory(format!("it has {number} parts, and S3 takes {PARTS_MAX}")));
    }
    let size_bytes = head.size_bytes;
    let equal = |part_bytes: u64| {
        let cut = Cut::Equal(part_bytes);
        (part_bytes > 0 && cut.count(size_bytes) == u64::from(number)).then_some(PartsOf::Cut(cut))
    };
    let stored = stored_parts_of(head);
    if stored.cut().is_some() && (!sure || number == 1) {
        return Ok(stored);
    }
    let abilities = side.client.abilities();
    if (sure || head.checksum.is_some()) && !abilities.parts_untold() {
        match side.client.object_parts(key, version).await {
            Ok(Some(parts)) if parts.etag.is_none() || parts.etag == head.etag => {
                return Ok(judge(&parts.sizes_bytes, number, size_bytes));
            }
            Ok(_) => {}
            Err(error) if error.class() == Class::Unsupported => abilities.learn_parts_untold(),
            // We may not be allowed to ask. What else may be wrong shows in the next request.
            Err(error) => tracing::debug!(key = key.as_str(), %error, "the service does not list an object's parts"),
        }
    }
    let Some((first_bytes, told)) = side.client.part_bytes(key, version, 1).await? else { return Ok(stored) };
    if told != number {
        let text = format!("its ETag or checksum is of {number} parts, and the service says that it has {told}");
        return Ok(PartsOf::Contradictory(text));
    }
    if !sure {
        return Ok(equal(first_bytes).unwrap_or(PartsOf::Untold));
    }
    let rest = iter(2..=number).map(|number| side.client.part_bytes(key, version, number)).buffered(HEADS_AT_ONCE);
    let rest: Vec<Option<(u64, u32)>> = rest.try_collect().await?;
    let sizes: Option<Vec<u64>> =
        std::iter::once(Some(first_bytes)).chain(rest.into_iter().map(|part| Some(part?.0))).collect();
    Ok(match sizes {
        Some(sizes) => judge(&sizes, number, size_bytes),
        None => equal(first_bytes).unwrap_or(stored),
    })
}

fn judge(sizes_bytes: &[u64], number: u32, size_bytes: u64) -> PartsOf {
    if sizes_bytes.len() != number as usize {
        let told = sizes_bytes.len();
        let text = format!("its ETag or checksum is of {number} parts, and the service lists {told}");
        return PartsOf::Contradictory(text);
    }
    match Cut::of(sizes_bytes, size_bytes) {
        Some(cut) => PartsOf::Cut(cut),
        None => {
            let sum: u128 = sizes_bytes.iter().map(|size| u128::from(*size)).sum();
            PartsOf::Contradictory(format!("its parts have {sum} bytes together, and it has {size_bytes}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_not_the_objects_are_a_contradiction() {
        assert_eq!(judge(&[5, 5, 2], 3, 12), PartsOf::Cut(Cut::Equal(5)));
        for (sizes, number, size) in [(&[5u64, 5][..], 3, 10), (&[5, 5, 2], 3, 13), (&[u64::MAX, u64::MAX], 2, 1)] {
            assert!(matches!(judge(sizes, number, size), PartsOf::Contradictory(_)), "{sizes:?}");
        }
    }
}
