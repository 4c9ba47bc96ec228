//! Cutting a key range in two, so that an idle shard can take the tail of a busy one's.
//!
//! A bucket tells nothing of its keys but what is listed, so the cut is found by asking: is there a key behind the middle
//! of what is left? If not, the middle moves down. Each question is a listing of one key; a dozen settle it, whatever the
//! keys look like, with no delimiter and no hint.

use std::rc::Rc;

use crate::client::{self, Client};
use crate::entry::KeyRange;

/// Each question halves the space that is left, counted from the first symbol in which the keys differ.
const QUESTIONS_MAX: usize = 16;

/// A key of the bucket within the range that cuts it: keys up to it stay, keys behind it may go. None if there is nothing
/// much to cut.
pub async fn cut(client: &Rc<Client>, prefix: &str, range: &KeyRange) -> Result<Option<Box<[u8]>>, client::Error> {
    let first_behind = async |start: &[u8]| -> Result<Option<Box<[u8]>>, client::Error> {
        let start = [prefix.as_bytes(), start].concat();
        let page = client.list(prefix, Some(&start), None, 1).await?;
        let found =
            page.rows.first().map(|row| Box::<[u8]>::from(&page.key(row)[prefix.len().min(page.key(row).len())..]));
        Ok(found.filter(|key| !range.is_past(key)))
    };
    let low = range.after.as_deref().unwrap_or_default();
    let mut high = last_of_common_start(low, &first_behind).await?.or_else(|| range.through.as_deref().map(Vec::from));
    for _ in 0..QUESTIONS_MAX {
        let Some(middle) = middle(low, high.as_deref()) else { return Ok(None) };
        match first_behind(&middle).await? {
            Some(key) if range.through.as_deref() != Some(&key) => return Ok(Some(key)),
            _ => high = Some(middle),
        }
    }
    Ok(None)
}

/// The last text that begins like all keys that are left. `logs/2024/a` is followed by keys in `logs/` and by nothing behind
/// them: then the middle is looked for behind `logs/`, and not in the whole alphabet. Found by halving the length of the
/// start of `low` behind which there is still a key.
async fn last_of_common_start(
    low: &[u8],
    first_behind: &impl AsyncFn(&[u8]) -> Result<Option<Box<[u8]>>, client::Error>,
) -> Result<Option<Vec<u8>>, client::Error> {
    let Ok(text) = std::str::from_utf8(low) else { return Ok(None) };
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let last = |end: usize| [&low[..end], char::MAX.encode_utf8(&mut [0; 4]).as_bytes()].concat();
    // Behind the last text of a start there is nothing; behind that of a longer one there may be.
    let (mut nothing, mut something) = (0, ends.len());
    while something - nothing > 1 {
        let middle = nothing.midpoint(something);
        match first_behind(&last(ends[middle])).await? {
            Some(_) => something = middle,
            None => nothing = middle,
        }
    }
    Ok((nothing > 0).then(|| last(ends[nothing])))
}

/// Keys are taken for numbers in this base: the printable characters of ASCII, of which most keys consist. Others count as
/// the nearest of these; that makes a cut less even, never wrong.
const BASE: u128 = 95;
const FIRST: u8 = 0x20;

/// Symbols behind the common start that take part: 95^8 fits easily, and finer cuts are not needed.
const SYMBOLS: usize = 8;

/// A text in the middle between two keys, or None if they are next to each other. No upper key means the end of everything.
fn middle(low: &[u8], high: Option<&[u8]>) -> Option<Vec<u8>> {
    let common = high.map_or(0, |high| low.iter().zip(high).take_while(|(a, b)| a == b).count());
    let common = (0..=common).rev().find(|end| std::str::from_utf8(&low[..*end]).is_ok()).unwrap_or(0);
    let number = |key: &[u8]| {
        (0..SYMBOLS).fold(0u128, |number, index| {
            let symbol = key.get(common + index).map_or(0, |byte| (*byte).clamp(FIRST, FIRST + 94) - FIRST);
            number * BASE + u128::from(symbol)
        })
    };
    let (low_number, high_number) = (number(low), high.map_or(BASE.pow(SYMBOLS as u32), number));
    let middle = low_number + (high_number.checked_sub(low_number)?) / 2;
    if middle <= low_number {
        return None;
    }
    let mut key = low[..common].to_vec();
    let symbols = (0..SYMBOLS).rev().map(|index| (middle / BASE.pow(index as u32) % BASE) as u8 + FIRST);
    key.extend(symbols);
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_is_text_and_moves_towards_the_low_end(low in "[ -~]{0,12}", high in "[ -~]{0,12}") {
            prop_assume!(low < high);
            if let Some(middle) = middle(low.as_bytes(), Some(high.as_bytes())) {
                prop_assert!(std::str::from_utf8(&middle).is_ok());
                prop_assert!(middle.as_slice() > low.as_bytes());
                prop_assert!(middle.as_slice() < [high.as_bytes(), &[b' '; SYMBOLS]].concat().as_slice());
            }
        }

        #[test]
        fn no_keys_panic(low in proptest::collection::vec(any::<u8>(), 0..12), high in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = middle(&low, Some(&high));
            let _ = middle(&low, None);
        }
    }

    #[test]
    fn the_middle_of_everything_is_in_the_middle_of_the_alphabet() {
        assert_eq!(middle(b"", None).unwrap()[0], FIRST + 47);
        assert_eq!(middle(b"a/", Some(b"a/")), None);
        assert!(middle(b"logs/2024/", Some(b"logs/2025/")).unwrap().starts_with(b"logs/202"));
    }
}
