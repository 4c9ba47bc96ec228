//! What counts. Each filter is a flag; together they are one table, gone through in s3sync's order: what a listing shows
//! first, then what only a request for each object tells.
//!
//! A pattern is searched for anywhere in its text. Text that is not there matches nothing: it is left out where something
//! is to be included, and stays where something is to be excluded.

use ropeway_s3proto::op::{ObjectMetadata, Tags};
use ropeway_s3proto::text::encoded;

use crate::entry::EntryRef;
use crate::settings::{Filters, Patterns, Regex};

/// The filter that left something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It was modified at that time or later.
    ModifiedBefore,
    /// It was modified before that time.
    ModifiedAfter,
    /// It is not smaller.
    SmallerSize,
    /// It is smaller.
    LargerSize,
    /// Its key does not match.
    IncludeKey,
    /// Its key matches.
    ExcludeKey,
    /// Its Content-Type does not match.
    IncludeContentType,
    /// Its Content-Type matches.
    ExcludeContentType,
    /// Its metadata does not match.
    IncludeMetadata,
    /// Its metadata matches.
    ExcludeMetadata,
    /// Its tags do not match.
    IncludeTags,
    /// Its tags match.
    ExcludeTags,
}

impl By {
    /// The flag, as a person gives it.
    pub fn flag(self) -> &'static str {
        match self {
            By::ModifiedBefore => "--filter-mtime-before",
            By::ModifiedAfter => "--filter-mtime-after",
            By::SmallerSize => "--filter-smaller-size",
            By::LargerSize => "--filter-larger-size",
            By::IncludeKey => "--filter-include-regex",
            By::ExcludeKey => "--filter-exclude-regex",
            By::IncludeContentType => "--filter-include-content-type-regex",
            By::ExcludeContentType => "--filter-exclude-content-type-regex",
            By::IncludeMetadata => "--filter-include-metadata-regex",
            By::ExcludeMetadata => "--filter-exclude-metadata-regex",
            By::IncludeTags => "--filter-include-tag-regex",
            By::ExcludeTags => "--filter-exclude-tag-regex",
        }
    }
}

/// A pattern that goes back and forth without end on some text, so that nobody can say whether it matches.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot decide about it: {reason}; write the pattern with fewer nested repetitions", by.flag())]
pub struct Undecided {
    by: By,
    reason: String,
}

/// Which filter leaves out what a listing shows, if one does.
pub fn listed(filters: &Filters, entry: EntryRef<'_>) -> Result<Option<By>, Undecided> {
    if let Some(by) = times(filters, entry.modified_ns) {
        return Ok(Some(by));
    }
    if filters.below_bytes.is_some_and(|size| entry.size_bytes >= size) {
        return Ok(Some(By::SmallerSize));
    }
    if filters.from_bytes.is_some_and(|size| entry.size_bytes < size) {
        return Ok(Some(By::LargerSize));
    }
    key(filters, entry.key)
}

/// Which filter leaves out what was modified then, if one does.
pub fn times(filters: &Filters, modified_ns: i64) -> Option<By> {
    if filters.modified_before_ns.is_some_and(|time| modified_ns >= time) {
        return Some(By::ModifiedBefore);
    }
    filters.modified_from_ns.is_some_and(|time| modified_ns < time).then_some(By::ModifiedAfter)
}

/// Which filter leaves out this relative key, if one does.
pub fn key(filters: &Filters, key: &[u8]) -> Result<Option<By>, Undecided> {
    if !filters.key.any() {
        return Ok(None);
    }
    let key = String::from_utf8_lossy(key);
    text(&filters.key, (By::IncludeKey, By::ExcludeKey), Some(&key))
}

/// Whether a key that only the target has is kept because of its name. No other filter says anything about it: what the
/// target has tells nothing of what the source would have had.
pub fn shields_extra(filters: &Filters, key: &[u8]) -> Result<bool, Undecided> {
    match &filters.key.exclude {
        Some(pattern) => found(pattern, By::ExcludeKey, &String::from_utf8_lossy(key)),
        None => Ok(false),
    }
}

/// Which filter leaves out an object by its head, if one does.
pub fn asked(filters: &Filters, metadata: &ObjectMetadata) -> Result<Option<By>, Undecided> {
    let by = (By::IncludeContentType, By::ExcludeContentType);
    if let Some(by) = text(&filters.content_type, by, metadata.content_type.as_deref())? {
        return Ok(Some(by));
    }
    if !filters.metadata.any() {
        return Ok(None);
    }
    let written = (!metadata.user.is_empty()).then(|| metadata_text(&metadata.user));
    text(&filters.metadata, (By::IncludeMetadata, By::ExcludeMetadata), written.as_deref())
}

/// Which filter leaves out an object by its tags, if one does.
pub fn tags(filters: &Filters, tags: &Tags) -> Result<Option<By>, Undecided> {
    if !filters.tags.any() {
        return Ok(None);
    }
    // `name=value`, in the order of the names, `&` between them, both encoded.
    let written = (!tags.is_empty()).then(|| tags.to_header());
    text(&filters.tags, (By::IncludeTags, By::ExcludeTags), written.as_deref())
}

/// User metadata as the patterns see it: `name=value`, in the order of the names, commas between them, values encoded.
fn metadata_text(metadata: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join(",")
}

fn text(patterns: &Patterns, (include, exclude): (By, By), text: Option<&str>) -> Result<Option<By>, Undecided> {
    let matches = |pattern: &Regex, by| text.map_or(Ok(false), |text| found(pattern, by, text));
    if let Some(pattern) = &patterns.include
        && !matches(pattern, include)?
    {
        return Ok(Some(include));
    }
    match &patterns.exclude {
        Some(pattern) if matches(pattern, exclude)? => Ok(Some(exclude)),
        Some(_) | None => Ok(None),
    }
}

fn found(pattern: &Regex, by: By, text: &str) -> Result<bool, Undecided> {
    pattern.is_match(text).map_err(|error| Undecided { by, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, size_bytes: u64, modified_ns: i64) -> EntryRef<'_> {
        EntryRef { key: key.as_bytes(), size_bytes, modified_ns, etag: None, versions: &[] }
    }

    fn pattern(text: &str) -> Option<Regex> {
        Some(Regex::new(text).unwrap())
    }

    #[test]
    fn the_whole_table_of_what_a_listing_shows() {
        let none = Filters::default();
        let before = Filters { modified_before_ns: Some(10), ..Filters::default() };
        let after = Filters { modified_from_ns: Some(10), ..Filters::default() };
        let smaller = Filters { below_bytes: Some(5), ..Filters::default() };
        let larger = Filters { from_bytes: Some(5), ..Filters::default() };
        let key = |include, exclude| Filters { key: Patterns { include, exclude }, ..Filters::default() };
        let (include, exclude) = (key(pattern("b"), None), key(None, pattern("b")));
        let without = key(pattern(r"^(?!.*\.tmp$).*$"), None);
        let table = [
            (&none, entry("abc", 0, 0), None),
            (&before, entry("abc", 0, 9), None),
            (&before, entry("abc", 0, 10), Some(By::ModifiedBefore)),
            (&after, entry("abc", 0, 9), Some(By::ModifiedAfter)),
            (&after, entry("abc", 0, 10), None),
            (&smaller, entry("abc", 4, 0), None),
            (&smaller, entry("abc", 5, 0), Some(By::SmallerSize)),
            (&larger, entry("abc", 4, 0), Some(By::LargerSize)),
            (&larger, entry("abc", 5, 0), None),
            (&include, entry("abc", 0, 0), None),
            (&include, entry("ac", 0, 0), Some(By::IncludeKey)),
            (&exclude, entry("abc", 0, 0), Some(By::ExcludeKey)),
            (&exclude, entry("ac", 0, 0), None),
            (&without, entry("a.tmp", 0, 0), Some(By::IncludeKey)),
            (&without, entry("a.tmp/b", 0, 0), None),
        ];
        for (filters, entry, by) in table {
            assert_eq!(listed(filters, entry).unwrap(), by, "{filters:?} {entry:?}");
        }
    }

    #[test]
    fn the_first_of_several_that_apply_is_named_in_the_order_of_the_flags() {
        let mut filters = Filters {
            modified_before_ns: Some(5),
            modified_from_ns: Some(20),
            below_bytes: Some(1),
            from_bytes: Some(10),
            key: Patterns { include: pattern("x"), exclude: pattern("a") },
            ..Filters::default()
        };
        let mut found = Vec::new();
        for _ in 0..7 {
            let by = listed(&filters, entry("a", 5, 10)).unwrap();
            found.push(by);
            match by {
                Some(By::ModifiedBefore) => filters.modified_before_ns = None,
                Some(By::ModifiedAfter) => filters.modified_from_ns = None,
                Some(By::SmallerSize) => filters.below_bytes = None,
                Some(By::LargerSize) => filters.from_bytes = None,
                Some(By::IncludeKey) => filters.key.include = None,
                _ => filters.key.exclude = None,
            }
        }
        let order = [By::ModifiedBefore, By::ModifiedAfter, By::SmallerSize, By::LargerSize, By::IncludeKey];
        let order: Vec<_> = order.into_iter().chain([By::ExcludeKey]).map(Some).chain([None]).collect();
        assert_eq!(found, order);
    }

    /// Some of the patterns.
    type Of = fn(&mut Filters) -> &mut Patterns;

    #[test]
    fn what_is_not_there_is_left_out_by_an_include_and_kept_by_an_exclude() {
        let none = ObjectMetadata::default();
        let user = vec![("k".to_owned(), "v".to_owned())];
        let some = ObjectMetadata { content_type: Some("text/plain".into()), user, ..none.clone() };
        let filters = |include: &str, exclude: &str, of: Of| {
            let mut filters = Filters::default();
            let make = |text: &str| if text.is_empty() { None } else { pattern(text) };
            *of(&mut filters) = Patterns { include: make(include), exclude: make(exclude) };
            filters
        };
        let of_type: Of = |filters| &mut filters.content_type;
        let of_metadata: Of = |filters| &mut filters.metadata;
        let of_tags: Of = |filters| &mut filters.tags;
        let table = [
            (filters("text", "", of_type), &some, None),
            (filters("json", "", of_type), &some, Some(By::IncludeContentType)),
            (filters("text", "", of_type), &none, Some(By::IncludeContentType)),
            (filters("", "text", of_type), &some, Some(By::ExcludeContentType)),
            (filters("", "text", of_type), &none, None),
            (filters("k=v", "", of_metadata), &some, None),
            (filters("k=w", "", of_metadata), &some, Some(By::IncludeMetadata)),
            (filters(".*", "", of_metadata), &none, Some(By::IncludeMetadata)),
            (filters("", "k=v", of_metadata), &some, Some(By::ExcludeMetadata)),
            (filters("", ".*", of_metadata), &none, None),
        ];
        for (filters, object, by) in table {
            assert_eq!(asked(&filters, object).unwrap(), by, "{filters:?} {object:?}");
        }
        let (tagged, untagged) = (Tags::new(vec![("k".to_owned(), "v".to_owned())]), Tags::default());
        assert_eq!(tags(&filters("k=v", "", of_tags), &tagged).unwrap(), None);
        assert_eq!(tags(&filters("k=v", "", of_tags), &untagged).unwrap(), Some(By::IncludeTags));
        assert_eq!(tags(&filters("", "k=v", of_tags), &tagged).unwrap(), Some(By::ExcludeTags));
        assert_eq!(tags(&filters("", "k=v", of_tags), &untagged).unwrap(), None);
    }

    #[test]
    fn metadata_and_tags_are_written_in_order_and_encoded() {
        let pairs = [("b".to_owned(), "x y".to_owned()), ("a/1".to_owned(), "=&".to_owned())];
        assert_eq!(metadata_text(&pairs), "a/1=%3D%26,b=x%20y");
        assert_eq!(Tags::new(pairs.to_vec()).to_header(), "a%2F1=%3D%26&b=x%20y");
    }

    #[test]
    fn only_an_exclude_shields_what_the_target_has_alone() {
        let key = |include, exclude| Filters { key: Patterns { include, exclude }, ..Filters::default() };
        assert!(shields_extra(&key(None, pattern("^keep")), b"keep/1").unwrap());
        assert!(!shields_extra(&key(None, pattern("^keep")), b"other").unwrap());
        assert!(!shields_extra(&key(pattern("x"), None), b"keep/1").unwrap());
    }

    #[test]
    fn a_pattern_that_never_ends_is_an_error_and_not_an_answer() {
        let slow =
            Filters { key: Patterns { include: None, exclude: pattern("(a|b|ab)*(?>c)") }, ..Filters::default() };
        let error = key(&slow, "ab".repeat(40).as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("--filter-exclude-regex cannot decide"), "{error}");
    }
}
