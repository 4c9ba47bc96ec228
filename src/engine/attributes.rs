//! What the person wants of the objects that are written, for the two that carry it out: the client, which says with every
//! request what guards an object, and the transfers, which say what it is given.

use std::sync::Arc;

use ropeway_io::hash::md5;
use ropeway_s3proto::op::Protection;

use crate::settings::{Attributes, BucketPlace, Overwrite, Place, SyncSettings, Versions};
use crate::transfer;

/// What guards the objects of a target bucket.
pub(super) fn protection(attributes: &Attributes, place: &BucketPlace) -> Protection {
    Protection {
        acl: attributes.acl,
        encryption: attributes.encryption.clone(),
        customer_key: place.customer_key.as_deref().cloned(),
    }
}

/// What transfers have to know. None if nothing is asked for, so that they have nothing to look at.
pub(super) fn for_transfers(settings: &SyncSettings) -> Option<Arc<transfer::Attributes>> {
    let Place::Bucket(target) = &settings.target else { return None };
    let attributes = &settings.attributes;
    let wanted = transfer::Attributes {
        given: attributes.given.clone(),
        drop_system: attributes.dropped.system,
        drop_user: attributes.dropped.user,
        drop_tags: attributes.dropped.tags,
        no_guessed_type: attributes.no_guessed_type,
        with_modified_time: attributes.with_modified_time,
        overwrite: match attributes.overwrite {
            Overwrite::Always => transfer::Overwrite::Always,
            Overwrite::IfUnchanged => transfer::Overwrite::IfUnchanged,
            Overwrite::Never => transfer::Overwrite::Never,
        },
        server_side_copy: attributes.server_side_copy,
        fingerprint: fingerprint(attributes, target, settings.versions == Versions::All),
    };
    (wanted != transfer::Attributes::default()).then(|| Arc::new(wanted))
}

/// A number for all that is fixed when an upload is opened: one that was opened with other attributes is not continued. None
/// if nothing is asked for. No secret goes into it: of a customer's key, the MD5 that travels beside it.
fn fingerprint(attributes: &Attributes, target: &BucketPlace, marks_origins: bool) -> Option<u64> {
    let Attributes { given, dropped, no_guessed_type, with_modified_time, .. } = attributes;
    let fixed = (given, dropped, no_guessed_type, with_modified_time, protection(attributes, target), marks_origins);
    let Attributes { given, dropped, no_guessed_type, with_modified_time, .. } = &Attributes::default();
    if fixed == (given, dropped, no_guessed_type, with_modified_time, Protection::default(), false) {
        return None;
    }
    let digest = md5(format!("{fixed:?}").as_bytes());
    Some(u64::from_be_bytes(digest[..8].try_into().expect("an MD5 has sixteen bytes")))
}
