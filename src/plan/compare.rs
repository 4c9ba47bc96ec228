//! The one table that says what differs. Default rule: copy when the target is absent, the sizes differ, or the source is
//! newer. Other [rules](Rule) look at the size alone, at contents, or at contents of what is newer.
//!
//! "Newer" needs care where the two times come from different clocks. A bucket shows when an object was *written*, in
//! whole seconds on most services; a file shows when its content was last changed. So a listing alone cannot always tell,
//! and then the verdict is [`Verdict::AskStoredTime`]: Ropeway stores a file's own time with the object it uploads, and
//! one HEAD request reads it back. That is asked only where sizes agree and times do not settle the matter.

use ropeway_s3proto::name::{ETag, ETagClass};

use crate::entry::{ContentBy, EntryRef, Reason};

/// Which kinds of place face each other: it decides what their times mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A directory or file into a bucket.
    Upload,
    /// A bucket into a directory.
    Download,
    /// Bucket to bucket.
    BucketToBucket,
    /// Directory to directory.
    LocalToLocal,
}

/// By what an entry of the source is held to be another than the target's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rule {
    /// Its size, or a later time.
    #[default]
    Newer,
    /// Its size alone.
    Size,
    /// Its content.
    Content(ContentBy),
    /// A later time, and its content. What is not later is left alone even if its size differs.
    NewerContent(ContentBy),
}

/// What is to be done about a key of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Copy, for this reason.
    Copy(Reason),
    /// Leave the target as it is.
    Skip,
    /// Sizes agree and the listed times do not settle it: copy unless the modification time stored with the object is
    /// this one, of the local file, in nanoseconds since 1970.
    AskStoredTime(i64),
    /// Sizes agree and the listings do not settle the rest: copy unless the contents are the same.
    AskContent(ContentBy),
}

const SECOND_NS: i64 = 1_000_000_000;

/// What a rule says of a key of the source, with what the target has under that key.
pub fn compare(rule: Rule, direction: Direction, source: EntryRef<'_>, target: Option<EntryRef<'_>>) -> Verdict {
    let Some(target) = target else { return Verdict::Copy(Reason::Absent) };
    match rule {
        Rule::NewerContent(_) if source.modified_ns <= target.modified_ns => Verdict::Skip,
        _ if source.size_bytes != target.size_bytes => Verdict::Copy(Reason::Size),
        Rule::Newer => newer(direction, source, target),
        Rule::Size => Verdict::Skip,
        Rule::Content(by) | Rule::NewerContent(by) => content(by, source, target),
    }
}

/// What listings say of two contents of equal length.
fn content(by: ContentBy, source: EntryRef<'_>, target: EntryRef<'_>) -> Verdict {
    match (by, source.etag, target.etag) {
        (ContentBy::ETag, Some(ours), Some(theirs)) => match ours == theirs || is_same_hash(ours, theirs) {
            true => Verdict::Skip,
            false => Verdict::Copy(Reason::ETag),
        },
        (ContentBy::ETag | ContentBy::Checksum(_), _, _) => Verdict::AskContent(by),
    }
}

/// One service writes the digits of a hash in capitals and another does not.
fn is_same_hash(one: &ETag, other: &ETag) -> bool {
    let class = one.class();
    class != ETagClass::Opaque && class == other.class()
}

/// The default rule, where sizes agree.
fn newer(direction: Direction, source: EntryRef<'_>, target: EntryRef<'_>) -> Verdict {
    match direction {
        Direction::Upload => match source.modified_ns {
            changed if changed <= target.modified_ns => Verdict::Skip,
            // The object's time may be cut to whole seconds: a file changed within that second may be older or newer.
            changed if same_cut_second(changed, target.modified_ns) => Verdict::AskStoredTime(changed),
            _ => Verdict::Copy(Reason::Newer),
        },
        // A download restores the file's own time, which is older than the object's: a later LastModified proves nothing.
        Direction::Download if source.modified_ns > target.modified_ns => Verdict::AskStoredTime(target.modified_ns),
        // A target that shows whole seconds may have been written after the source within the same one: the content decides.
        Direction::BucketToBucket
            if same_cut_second(source.modified_ns, target.modified_ns)
                && source.etag.is_some()
                && source.etag == target.etag =>
        {
            Verdict::Skip
        }
        Direction::BucketToBucket | Direction::LocalToLocal if source.modified_ns > target.modified_ns => {
            Verdict::Copy(Reason::Newer)
        }
        Direction::Download | Direction::BucketToBucket | Direction::LocalToLocal => Verdict::Skip,
    }
}

fn same_cut_second(file_ns: i64, object_ns: i64) -> bool {
    object_ns % SECOND_NS == 0 && file_ns.div_euclid(SECOND_NS) == object_ns.div_euclid(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use super::Direction::*;
    use super::*;

    fn entry(size_bytes: u64, modified_ns: i64) -> EntryRef<'static> {
        EntryRef { key: b"k", size_bytes, modified_ns, etag: None, versions: &[] }
    }

    #[test]
    fn within_a_cut_second_equal_etags_settle_it() {
        let etags = ["\"5d41402abc4b2a76b9719d911017c592\"", "\"00000000000000000000000000000000\""];
        let [one, other] = etags.map(|text| ropeway_s3proto::name::ETag::parse(text).unwrap());
        let with = |modified_ns, etag| EntryRef { etag, ..entry(1, modified_ns) };
        let (fine, cut) = (5 * SECOND_NS + 7, 5 * SECOND_NS);
        let verdict = |source, target| compare(Rule::Newer, BucketToBucket, source, Some(target));
        assert_eq!(verdict(with(fine, Some(&one)), with(cut, Some(&one))), Verdict::Skip);
        assert_eq!(verdict(with(fine, Some(&one)), with(cut, Some(&other))), Verdict::Copy(Reason::Newer));
        assert_eq!(verdict(with(fine, None), with(cut, None)), Verdict::Copy(Reason::Newer));
        assert_eq!(verdict(with(fine, Some(&one)), with(fine - 1, Some(&one))), Verdict::Copy(Reason::Newer));
    }

    #[test]
    fn the_whole_table() {
        const S: i64 = SECOND_NS;
        let copy = Verdict::Copy;
        let ask = Verdict::AskStoredTime;
        let skip = Verdict::Skip;
        // (direction, source (size, time), target (size, time) if any, verdict)
        let table = [
            (Upload, (1, 5 * S), None, copy(Reason::Absent)),
            (Upload, (1, 5 * S), Some((2, 9 * S)), copy(Reason::Size)),
            (Upload, (1, 5 * S), Some((1, 9 * S)), skip),
            (Upload, (1, 5 * S), Some((1, 5 * S)), skip),
            (Upload, (1, 5 * S + 7), Some((1, 5 * S)), ask(5 * S + 7)),
            (Upload, (1, 6 * S), Some((1, 5 * S)), copy(Reason::Newer)),
            (Upload, (1, 5 * S + 9), Some((1, 5 * S + 7)), copy(Reason::Newer)),
            (Upload, (1, -S / 2), Some((1, -S)), ask(-S / 2)),
            (Download, (1, 5 * S), None, copy(Reason::Absent)),
            (Download, (1, 5 * S), Some((2, 5 * S)), copy(Reason::Size)),
            (Download, (1, 5 * S), Some((1, 5 * S)), skip),
            (Download, (1, 5 * S), Some((1, 6 * S)), skip),
            (Download, (1, 5 * S), Some((1, 4 * S)), ask(4 * S)),
            (BucketToBucket, (1, 5 * S), None, copy(Reason::Absent)),
            (BucketToBucket, (1, 5 * S), Some((2, 9 * S)), copy(Reason::Size)),
            (BucketToBucket, (1, 5 * S), Some((1, 6 * S)), skip),
            (BucketToBucket, (1, 6 * S), Some((1, 5 * S)), copy(Reason::Newer)),
            (LocalToLocal, (1, 5 * S + 1), Some((1, 5 * S + 1)), skip),
            (LocalToLocal, (1, 5 * S + 2), Some((1, 5 * S + 1)), copy(Reason::Newer)),
            (LocalToLocal, (1, 5 * S), Some((1, 6 * S)), skip),
        ];
        for (direction, source, target, verdict) in table {
            let got = compare(
                Rule::Newer,
                direction,
                entry(source.0, source.1),
                target.map(|(size, time)| entry(size, time)),
            );
            assert_eq!(got, verdict, "{direction:?} {source:?} -> {target:?}");
        }
    }

    #[test]
    fn the_other_rules() {
        const ETAG: ContentBy = ContentBy::ETag;
        const SUM: ContentBy = ContentBy::Checksum(ropeway_s3proto::checksum::Algorithm::Sha256);
        let (copy, skip, ask) = (Verdict::Copy, Verdict::Skip, Verdict::AskContent);
        // (rule, source (size, time), target (size, time) if any, verdict)
        let table = [
            (Rule::Size, (1, 9), None, copy(Reason::Absent)),
            (Rule::Size, (1, 9), Some((1, 5)), skip),
            (Rule::Size, (1, 5), Some((2, 9)), copy(Reason::Size)),
            (Rule::Content(ETAG), (1, 5), None, copy(Reason::Absent)),
            (Rule::Content(ETAG), (1, 5), Some((2, 9)), copy(Reason::Size)),
            (Rule::Content(ETAG), (1, 5), Some((1, 9)), ask(ETAG)),
            (Rule::Content(SUM), (1, 5), Some((1, 9)), ask(SUM)),
            (Rule::NewerContent(ETAG), (1, 5), None, copy(Reason::Absent)),
            (Rule::NewerContent(ETAG), (1, 5), Some((1, 5)), skip),
            (Rule::NewerContent(ETAG), (1, 5), Some((2, 9)), skip),
            (Rule::NewerContent(SUM), (1, 9), Some((2, 5)), copy(Reason::Size)),
            (Rule::NewerContent(SUM), (1, 9), Some((1, 5)), ask(SUM)),
        ];
        for direction in [Upload, Download, BucketToBucket, LocalToLocal] {
            for (rule, source, target, verdict) in table {
                let target = target.map(|(size, time)| entry(size, time));
                let got = compare(rule, direction, entry(source.0, source.1), target);
                assert_eq!(got, verdict, "{rule:?} {direction:?} {source:?} -> {target:?}");
            }
        }
    }

    #[test]
    fn listed_etags_settle_the_content_between_buckets() {
        let parse = |text: &str| ropeway_s3proto::name::ETag::parse(text).unwrap();
        let (one, capitals) = (parse("5d41402abc4b2a76b9719d911017c592"), parse("5D41402ABC4B2A76B9719D911017C592"));
        let (parts, opaque) = (parse("5d41402abc4b2a76b9719d911017c592-2"), parse("x"));
        let with = |etag| EntryRef { etag: Some(etag), ..entry(1, 9) };
        for (source, target, same) in [
            (&one, &one, true),
            (&one, &capitals, true),
            (&one, &parts, false),
            (&opaque, &opaque, true),
            (&opaque, &one, false),
        ] {
            let got = compare(Rule::Content(ContentBy::ETag), BucketToBucket, with(source), Some(with(target)));
            let verdict = if same { Verdict::Skip } else { Verdict::Copy(Reason::ETag) };
            assert_eq!(got, verdict, "{source} {target}");
        }
    }
}
