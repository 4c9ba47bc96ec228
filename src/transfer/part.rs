//! Part arithmetic, pure: how an object is cut so that 10,000 parts suffice and all but the last are equal.

use std::ops::Range;

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
