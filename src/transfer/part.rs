//! Part arithmetic, pure: how an object is cut so that 10,000 parts suffice and all but the last are equal.

use std::ops::Range;
use std::sync::Arc;

/// S3's limit on the parts of one upload (AWS, "Amazon S3 multipart upload limits").
pub const PARTS_MAX: u64 = 10_000;

/// The smallest part S3 takes, but for the last one: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// The largest part S3 takes, and the largest object of a single PUT: 5 GiB.
pub const PART_BYTES_MAX: u64 = 5 << 30;

/// Grown parts are a whole number of these: 1 MiB keeps every part's start aligned for direct I/O.
const GROWTH_STEP_BYTES: u64 = 1 << 20;

/// One byte range of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1, as S3 counts.
    pub number: u32,
    /// Half open.
    pub range: Range<u64>,
}

impl Part {
    /// Length of the range.
    pub fn size_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The part size for an upload of `size_bytes`: the wished one, or as much more as 10,000 parts need. None when even
/// 10,000 parts of 5 GiB are not enough (48.8 TiB).
pub fn upload_part_bytes(size_bytes: u64, wished_bytes: u64) -> Option<u64> {
    let needed = size_bytes.div_ceil(PARTS_MAX);
    let grown = if needed <= wished_bytes { wished_bytes } else { needed.next_multiple_of(GROWTH_STEP_BYTES) };
    (grown <= PART_BYTES_MAX.max(wished_bytes) && size_bytes.div_ceil(grown) <= PARTS_MAX).then_some(grown)
}

/// How an object is cut into parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Parts of this size, the last one as long as is left.
    Equal(u64),
    /// Parts that end at these bytes, in rising order; an object that somebody else has cut.
    Ends(Arc<[u64]>),
}

impl Cut {
    /// Parts of these sizes. None if there is none, if one of them is empty beside others, or if they are not the object.
    pub fn of(sizes_bytes: &[u64], size_bytes: u64) -> Option<Cut> {
        let (last, others) = sizes_bytes.split_last()?;
        let mut end = 0u64;
        let ends = sizes_bytes.iter().map(|size| {
            end = end.checked_add(*size)?;
            Some(end)
        });
        let ends: Vec<u64> = ends.collect::<Option<_>>()?;
        if end != size_bytes || sizes_bytes.contains(&0) && sizes_bytes.len() > 1 {
            return None;
        }
        let first = sizes_bytes[0];
        let equal = others.iter().all(|size| *size == first) && *last <= first;
        Some(if equal { Cut::Equal(first.max(1)) } else { Cut::Ends(ends.into()) })
    }

    /// Whether both make the same parts of an object.
    pub fn is_same(&self, other: &Cut, size_bytes: u64) -> bool {
        match (self, other) {
            (Cut::Equal(one), Cut::Equal(other)) => (*one).min(size_bytes) == (*other).min(size_bytes),
            (one, other) => one == other,
        }
    }

    /// How many parts it makes of an object.
    pub fn count(&self, size_bytes: u64) -> u64 {
        match self {
            Cut::Equal(part_bytes) => count(size_bytes, *part_bytes),
            Cut::Ends(ends) => ends.len() as u64,
        }
    }

    /// Part `index`, from 0.
    pub fn nth(&self, size_bytes: u64, index: u64) -> Part {
        match self {
            Cut::Equal(part_bytes) => nth(size_bytes, *part_bytes, index),
            Cut::Ends(ends) => {
                let at = index as usize;
                let start = if at == 0 { 0 } else { ends[at - 1] };
                Part { number: at as u32 + 1, range: start..ends[at] }
            }
        }
    }

    /// All parts, in order.
    pub fn parts(&self, size_bytes: u64) -> impl Iterator<Item = Part> {
        (0..self.count(size_bytes)).map(move |index| self.nth(size_bytes, index))
    }

    /// The length of the longest part.
    pub fn largest_bytes(&self, size_bytes: u64) -> u64 {
        match self {
            Cut::Equal(part_bytes) => (*part_bytes).min(size_bytes),
            Cut::Ends(_) => self.parts(size_bytes).map(|part| part.size_bytes()).max().unwrap_or(0),
        }
    }

    /// Whether S3 takes an upload so cut: no more than 10,000 parts, none above 5 GiB and none but the last below 5 MiB.
    pub fn is_uploadable(&self, size_bytes: u64) -> bool {
        let parts = self.count(size_bytes);
        let fits = |part: Part| {
            part.size_bytes() <= PART_BYTES_MAX
                && (part.size_bytes() >= PART_BYTES_MIN || u64::from(part.number) == parts)
        };
        parts <= PARTS_MAX && self.parts(size_bytes).all(fits)
    }
}

/// How many parts `cut` makes. An empty object has one, empty part.
pub fn count(size_bytes: u64, part_bytes: u64) -> u64 {
    size_bytes.div_ceil(part_bytes).max(1)
}

/// Part `index` (from 0) of an object cut into equal parts, the last one shorter.
pub fn nth(size_bytes: u64, part_bytes: u64, index: u64) -> Part {
    let start = index * part_bytes;
    let number = u32::try_from(index + 1).expect("a download of 2^32 parts would be 2^52 bytes and more");
    Part { number, range: start..size_bytes.min(start + part_bytes) }
}

/// `range` cut into stretches of at most `stretch_bytes`.
pub fn stretches(range: Range<u64>, stretch_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(stretch_bytes as usize).map(move |start| start..end.min(start + stretch_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;

    proptest! {
        #[test]
        fn parts_cover_the_object_once_and_all_but_the_last_are_equal(
            size_bytes in prop_oneof![0..100 * MIB, 0..48 * TIB],
            wished_bytes in PART_BYTES_MIN..PART_BYTES_MAX,
        ) {
            let part_bytes = upload_part_bytes(size_bytes, wished_bytes).unwrap();
            let parts = count(size_bytes, part_bytes);
            prop_assert!(part_bytes >= wished_bytes);
            prop_assert!(part_bytes <= PART_BYTES_MAX);
            prop_assert!((1..=PARTS_MAX).contains(&parts));
            let mut end = 0;
            for index in 0..parts {
                let part = nth(size_bytes, part_bytes, index);
                prop_assert_eq!(u64::from(part.number), index + 1);
                prop_assert_eq!(part.range.start, end);
                prop_assert!(part.size_bytes() == part_bytes || index == parts - 1);
                prop_assert!(part.size_bytes() > 0 || size_bytes == 0);
                end = part.range.end;
            }
            prop_assert_eq!(end, size_bytes);
        }

        #[test]
        fn stretches_cover_a_range_once(start in 0u64..1000, length in 0u64..1000, stretch in 1u64..100) {
            let mut end = start;
            for part in stretches(start..start + length, stretch) {
                prop_assert_eq!(part.start, end);
                prop_assert!(part.end - part.start <= stretch && part.end > part.start);
                end = part.end;
            }
            prop_assert_eq!(end, start + length);
        }
    }

    #[test]
    fn parts_of_another_make_a_cut_if_they_are_the_object() {
        assert_eq!(Cut::of(&[5, 5, 2], 12), Some(Cut::Equal(5)));
        assert_eq!(Cut::of(&[7], 7), Some(Cut::Equal(7)));
        assert_eq!(Cut::of(&[0], 0), Some(Cut::Equal(1)));
        for (sizes, size) in [(&[5u64, 5][..], 12), (&[], 0), (&[5, 0, 2], 7), (&[u64::MAX, 2], 1)] {
            assert_eq!(Cut::of(sizes, size), None, "{sizes:?}");
        }
        let uneven = Cut::of(&[5, 6, 1], 12).unwrap();
        let ranges: Vec<_> = uneven.parts(12).map(|part| (part.number, part.range)).collect();
        assert_eq!(ranges, [(1, 0..5), (2, 5..11), (3, 11..12)]);
        assert_eq!((uneven.count(12), uneven.largest_bytes(12)), (3, 6));
        // A last part that is the longest is no equal cut.
        assert!(matches!(Cut::of(&[5, 6], 11), Some(Cut::Ends(_))));
    }

    #[test]
    fn an_upload_takes_small_parts_only_at_its_end() {
        let small = PART_BYTES_MIN - 1;
        for (sizes, uploadable) in [
            (vec![PART_BYTES_MIN, small], true),
            (vec![small, PART_BYTES_MIN], false),
            (vec![PART_BYTES_MAX + 1], false),
        ] {
            let size = sizes.iter().sum();
            assert_eq!(Cut::of(&sizes, size).unwrap().is_uploadable(size), uploadable, "{sizes:?}");
        }
    }

    #[test]
    fn sizes_at_the_limits() {
        assert_eq!(upload_part_bytes(0, 8 * MIB), Some(8 * MIB));
        assert_eq!(count(0, 8 * MIB), 1);
        assert_eq!(nth(0, 8 * MIB, 0).range, 0..0);
        assert_eq!(upload_part_bytes(PARTS_MAX * 8 * MIB, 8 * MIB), Some(8 * MIB));
        assert_eq!(upload_part_bytes(PARTS_MAX * 8 * MIB + 1, 8 * MIB), Some(9 * MIB));
        assert_eq!(upload_part_bytes(PARTS_MAX * PART_BYTES_MAX, 8 * MIB), Some(PART_BYTES_MAX));
        assert_eq!(upload_part_bytes(PARTS_MAX * PART_BYTES_MAX + 1, 8 * MIB), None);
    }
}
