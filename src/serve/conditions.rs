//! Conditional requests: may this read answer, may this write happen? Pure, in the order RFC 9110 §13.2.2 prescribes.

use s3s::dto::{ETag, ETagCondition, Timestamp};

/// The four conditions of a read, or of the source of a copy.
#[derive(Debug, Default)]
pub(super) struct ReadConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

/// What the conditions of a read ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    NotModified,
    PreconditionFailed,
}

impl ReadConditions {
    /// Judges an object by its ETag (without quotes) and the second it was written in.
    pub(super) fn judge(&self, etag: &str, modified: &Timestamp) -> Verdict {
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !names(condition, etag) => return Verdict::PreconditionFailed,
            (None, Some(limit)) if modified > limit => return Verdict::PreconditionFailed,
            (Some(_), _) | (None, _) => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if names(condition, etag) => Verdict::NotModified,
            (None, Some(limit)) if modified <= limit => Verdict::NotModified,
            (Some(_), _) | (None, _) => Verdict::Proceed,
        }
    }
}

/// What must be true of a key at the instant a write replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    Anything,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match` with this ETag, without quotes.
    Etag(String),
}

/// Why a guarded write must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is nothing to match.
    Missing,
    /// What is there is not what the writer expects.
    Mismatch,
}

impl Guard {
    /// Judges the ETag of what is at the key now, if anything is.
    pub(super) fn judge(&self, current: Option<&str>) -> Result<(), Refusal> {
        match (self, current) {
            (Self::Anything, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Absent, Some(_)) => Err(Refusal::Mismatch),
            (Self::Present | Self::Etag(_), None) => Err(Refusal::Missing),
            (Self::Etag(expected), Some(current)) => {
                if expected == current {
                    Ok(())
                } else {
                    Err(Refusal::Mismatch)
                }
            }
        }
    }
}

fn names(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(ETag::Strong(value) | ETag::Weak(value)) => value == etag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        time::OffsetDateTime::from_unix_timestamp(seconds).unwrap().into()
    }

    fn etag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(value.into())))
    }

    #[test]
    fn reads_follow_the_table() {
        use Verdict::{NotModified, PreconditionFailed, Proceed};
        // The object has ETag `a` and was written in second 100.
        let cases = [
            (None, None, None, None, Proceed),
            (etag("a"), None, None, None, Proceed),
            (etag("b"), None, None, None, PreconditionFailed),
            (Some(ETagCondition::Any), None, None, None, Proceed),
            (None, etag("a"), None, None, NotModified),
            (None, etag("b"), None, None, Proceed),
            (None, None, Some(100), None, NotModified),
            (None, None, Some(99), None, Proceed),
            (None, None, None, Some(100), Proceed),
            (None, None, None, Some(99), PreconditionFailed),
            // A matching ETag silences If-Unmodified-Since, a differing one If-Modified-Since.
            (etag("a"), None, None, Some(99), Proceed),
            (None, etag("b"), Some(100), None, Proceed),
            (etag("b"), etag("a"), None, None, PreconditionFailed),
        ];
        for (if_match, if_none_match, modified_since, unmodified_since, expected) in cases {
            let conditions = ReadConditions {
                if_match,
                if_none_match,
                if_modified_since: modified_since.map(at),
                if_unmodified_since: unmodified_since.map(at),
            };
            assert_eq!(conditions.judge("a", &at(100)), expected, "{conditions:?}");
        }
    }

    #[test]
    fn writes_follow_the_table() {
        let cases = [
            (Guard::Anything, None, Ok(())),
            (Guard::Anything, Some("a"), Ok(())),
            (Guard::Absent, None, Ok(())),
            (Guard::Absent, Some("a"), Err(Refusal::Mismatch)),
            (Guard::Present, None, Err(Refusal::Missing)),
            (Guard::Present, Some("a"), Ok(())),
            (Guard::Etag("a".into()), None, Err(Refusal::Missing)),
            (Guard::Etag("a".into()), Some("a"), Ok(())),
            (Guard::Etag("a".into()), Some("b"), Err(Refusal::Mismatch)),
        ];
        for (guard, current, expected) in cases {
            assert_eq!(guard.judge(current), expected, "{guard:?} {current:?}");
        }
    }
}
