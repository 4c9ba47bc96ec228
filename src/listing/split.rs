//! Cutting what is left of a key range into pieces, so that idle listers can take their share, with no delimiter and no
//! hint from the person.
//!
//! A bucket tells nothing of its keys but what is listed, so cuts are found by asking, several questions at a time: which
//! is the first key behind this text? Texts are chosen in two ways. *Even* ones lie at equal distances, keys read as
//! numbers in the alphabet that the pages have shown. *Rungs* lie behind all keys that begin like the first few characters
//! of the position, for several lengths: they find out at which depth the keys that are left differ, however long their
//! common start. Two or three rounds of questions suffice for any number of cuts, whatever the keys look like.
//!
//! Nothing says how many keys lie between two that were found, so a cut is made in the middle of where there may be keys:
//! of all texts but those between a question and the key that was the answer. How many keys lie ahead is estimated from
//! the density of the last page. Where that gives an absurd number, the density changes on the way (one hot prefix among
//! many), and what is near and what is far are cut each on its own; a single cut is made far away, unless the piece behind
//! the one before turned out to be next to nothing.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

/// What a lister knows of the range that it is in the middle of.
#[derive(Debug, Clone)]
pub struct Known {
    /// Keys up to this one are listed already.
    pub position: Box<[u8]>,
    /// The last key of the range; None where it has no end.
    pub through: Option<Box<[u8]>>,
    /// Where nothing was found behind, when it was last asked. Only a hint: keys come into being.
    pub ceiling: Option<Box<[u8]>>,
    /// The first key of the page that ends at the position.
    pub page_first: Box<[u8]>,
    /// The keys of that page.
    pub page_rows: u64,
    /// What keys are made of, as far as was seen.
    pub alphabet: Alphabet,
    /// The last piece that was cut off held next to nothing: most keys are near the position.
    pub near: bool,
    /// Longer texts cannot be asked for.
    pub text_bytes_max: usize,
}

/// Where to cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Keys of the range, rising. Each is the last one of a piece, and none is the last one of the range.
    pub keys: Vec<Box<[u8]>>,
    /// The range's new ceiling.
    pub ceiling: Option<Box<[u8]>>,
}

/// The characters of ASCII that keys were seen to be made of, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alphabet(u128);

/// Rounds of questions before the best that was found is taken.
const ROUNDS_MAX: usize = 6;

/// Even texts asked for at once in a zone: enough that a round tells much, and no more than a service takes in its stride.
const EVENS_MIN: usize = 10;
const EVENS_MAX: usize = 16;

/// Rungs asked for at once at either end of a zone.
const RUNGS: usize = 4;

/// A range that seems to hold more keys than this has another density further on. It cannot be much lower: dates, and names
/// in directories, seem to be many thousand times as many as they are, since few of the numbers that could be there are.
const PLAUSIBLE_ROWS: f64 = 1e12;

impl Alphabet {
    /// Adds what is in `text`. What cannot stand in the text of a question is left out.
    pub fn add(&mut self, text: &[u8]) {
        for byte in text.iter().filter(|byte| (b' '..=b'~').contains(*byte)) {
            self.0 |= 1 << byte;
        }
    }

    fn symbols(self) -> Vec<u8> {
        (b' '..=b'~').filter(|byte| self.0 & (1 << byte) != 0).collect()
    }
}

impl Known {
    /// About how many keys are left; infinite where nothing tells.
    pub fn rows_left(&self) -> f64 {
        match self.high() {
            Some(high) => self.rows_up_to(&high),
            None => f64::INFINITY,
        }
    }

    /// The text behind which nothing of the range is expected.
    fn high(&self) -> Option<Vec<u8>> {
        // Keys that came into being behind the ceiling have made it worthless.
        let ceiling = self.ceiling.as_deref().filter(|ceiling| **ceiling > *self.position);
        [ceiling, self.through.as_deref()].into_iter().flatten().min().map(Vec::from)
    }

    /// About how many keys lie between the position and `high`, were all of them as dense as the last page.
    fn rows_up_to(&self, high: &[u8]) -> f64 {
        let scale = Scale::between(&self.page_first, high, self.alphabet);
        let [first, position, high] = [&self.page_first, &self.position, high].map(|key| scale.number(key) as f64);
        if position > first { self.page_rows as f64 * (high - position) / (position - first) } else { f64::INFINITY }
    }
}

/// Looks for `wanted` keys that cut what is left into about equal pieces. There may be fewer, or none. `first_behind` asks
/// for the first key behind a text, in the range or not.
pub async fn cuts<E>(
    known: &Known,
    wanted: usize,
    first_behind: &impl AsyncFn(&[u8]) -> Result<Option<Box<[u8]>>, E>,
) -> Result<Cuts, E> {
    let mut search = Search { known, high: known.high(), found: BTreeMap::new(), alphabet: known.alphabet };
    for _ in 0..ROUNDS_MAX {
        let questions = search.questions(wanted);
        let answers = try_join_all(questions.iter().map(|text| first_behind(text))).await?;
        for (text, answer) in questions.iter().zip(answers) {
            // Who answers with a key that is not behind the text does not know of starting places.
            if answer.as_deref().is_some_and(|key| key <= text.as_slice()) {
                return Ok(Cuts::default());
            }
            search.learn(text, answer);
        }
        if questions.is_empty() || search.is_enough(wanted) {
            break;
        }
    }
    Ok(search.cuts(wanted))
}

/// A search under way.
struct Search<'a> {
    known: &'a Known,
    /// Nothing of the range is behind it.
    high: Option<Vec<u8>>,
    /// Keys of the range, each with the lowest text that it is the first one behind.
    found: BTreeMap<Box<[u8]>, Vec<u8>>,
    alphabet: Alphabet,
}

/// A stretch of the range that is cut on its own: behind `from`, up to `to`.
struct Zone {
    from: Vec<u8>,
    to: Vec<u8>,
    wanted: usize,
}

impl Search<'_> {
    fn learn(&mut self, text: &[u8], answer: Option<Box<[u8]>>) {
        let through = self.known.through.as_deref();
        match answer.filter(|key| through.is_none_or(|through| **key <= *through)) {
            Some(key) => {
                self.alphabet.add(&key[common(&key, &self.known.position)..]);
                let lowest = self.found.entry(key).or_insert_with(|| text.to_vec());
                if text < lowest.as_slice() {
                    *lowest = text.to_vec();
                }
            }
            None => {
                if self.high.as_deref().is_none_or(|high| text < high) {
                    self.high = Some(text.to_vec());
                }
            }
        }
    }

    /// All that is left, or near and far if they differ too much.
    fn zones(&self, wanted: usize) -> Vec<Zone> {
        let position = self.known.position.to_vec();
        let top = self.high.clone().unwrap_or_else(|| char::MAX.to_string().into_bytes());
        let known = Known { alphabet: self.alphabet, ..self.known.clone() };
        if known.rows_up_to(&top) > PLAUSIBLE_ROWS {
            let absurd = self.found.iter().find(|(key, _)| known.rows_up_to(key) > PLAUSIBLE_ROWS);
            if let Some((_, border)) = absurd.filter(|(_, text)| **text > position) {
                let near = if wanted > 1 { wanted.div_ceil(2) } else { usize::from(self.known.near) };
                let far = Zone { from: border.clone(), to: top, wanted: wanted - near };
                return vec![Zone { from: position, to: border.clone(), wanted: near }, far];
            }
        }
        vec![Zone { from: position, to: top, wanted }]
    }

    /// The keys found in a zone, each with where the gap before it ends.
    fn found_in<'a>(&'a self, zone: &'a Zone) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let found = self.found.iter().map(|(key, text)| (&**key, text.as_slice()));
        found.filter(|(key, _)| *key > zone.from.as_slice() && *key <= zone.to.as_slice())
    }

    /// Where in a zone there may be keys that are not known, and how wide each such gap is.
    fn gaps(&self, zone: &Zone) -> Vec<(Vec<u8>, Vec<u8>, u128)> {
        let scale = Scale::between(&zone.from, &zone.to, self.alphabet);
        let mut from = zone.from.as_slice();
        let mut gaps = Vec::new();
        for (key, text) in self.found_in(zone).chain([(zone.to.as_slice(), zone.to.as_slice())]) {
            if from < text {
                gaps.push((from.to_vec(), text.to_vec(), scale.number(text).saturating_sub(scale.number(from))));
            }
            from = key;
        }
        gaps
    }

    /// Keys of a zone that may be cut at, each with how much room for keys there is in the zone before it, and the room of the
    /// whole zone. Behind the last key of all there may be nothing, so that one is left out.
    fn rooms<'a>(&'a self, zone: &'a Zone) -> (Vec<(u128, &'a [u8])>, u128) {
        let scale = Scale::between(&zone.from, &zone.to, self.alphabet);
        let last = self.found.keys().next_back().map(|key| &**key);
        let (mut room, mut from, mut rooms) = (0, zone.from.as_slice(), Vec::new());
        for (key, text) in self.found_in(zone) {
            room += scale.number(text).saturating_sub(scale.number(from));
            from = key;
            rooms.push((room, key));
        }
        room += scale.number(&zone.to).saturating_sub(scale.number(from));
        rooms.retain(|(_, key)| last != Some(*key));
        (rooms, room)
    }

    /// Whether there is a key near each place where the zones should be cut: no further away than half a piece.
    fn is_enough(&self, wanted: usize) -> bool {
        self.zones(wanted).iter().all(|zone| {
            let (rooms, all) = self.rooms(zone);
            zone.goals(all).all(|goal| {
                let nearest = rooms.iter().map(|(room, _)| room.abs_diff(goal)).min();
                nearest.is_some_and(|nearest| nearest <= all / (2 * (zone.wanted as u128 + 1)))
            })
        })
    }

    fn questions(&self, wanted: usize) -> Vec<Vec<u8>> {
        let mut questions = Vec::new();
        for zone in self.zones(wanted).iter().filter(|zone| zone.wanted > 0) {
            let number = (2 * zone.wanted).clamp(EVENS_MIN, EVENS_MAX) as u128;
            let gaps = self.gaps(zone);
            let all = gaps.iter().map(|(_, _, width)| width).sum::<u128>().max(1);
            for (from, to, width) in &gaps {
                questions.extend(evens(from, to, ((number * width + all / 2) / all) as usize, self.alphabet));
            }
            // Where the lister is, and where nobody knows yet how far keys go.
            for (from, to, _) in [gaps.first(), gaps.last()].into_iter().flatten() {
                questions.extend(rungs(from, to, RUNGS));
            }
        }
        questions.retain(|text| text.len() <= self.known.text_bytes_max);
        questions.sort();
        questions.dedup();
        questions
    }

    fn cuts(self, wanted: usize) -> Cuts {
        let mut keys = Vec::new();
        for zone in self.zones(wanted) {
            let (rooms, all) = self.rooms(&zone);
            for goal in zone.goals(all) {
                keys.extend(rooms.iter().min_by_key(|(room, _)| room.abs_diff(goal)).map(|(_, key)| Box::from(*key)));
            }
        }
        keys.sort();
        keys.dedup();
        Cuts { keys, ceiling: self.high.map(Vec::into_boxed_slice) }
    }
}

impl Zone {
    /// Where it should be cut, if it had so much room.
    fn goals(&self, room: u128) -> impl Iterator<Item = u128> {
        let pieces = self.wanted as u128 + 1;
        (1..pieces).map(move |number| room / pieces * number)
    }
}

/// Texts at equal distances between two others.
fn evens(from: &[u8], to: &[u8], number: usize, alphabet: Alphabet) -> Vec<Vec<u8>> {
    let scale = Scale::between(from, to, alphabet);
    let (low, high) = (scale.number(from), scale.number(to));
    let step = high.saturating_sub(low) / (number as u128 + 1);
    let texts = (1..=number as u128).map(|index| scale.text(from, low + step * index));
    texts.filter(|text| from < text.as_slice() && text.as_slice() < to).collect()
}

/// For several lengths, the last text that begins as `from` does.
fn rungs(from: &[u8], to: &[u8], number: usize) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(from) else { return Vec::new() };
    let shared = common(from, to);
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]).filter(|end| *end >= shared);
    let last = |end: usize| [&from[..end], char::MAX.encode_utf8(&mut [0; 4]).as_bytes()].concat();
    let all: Vec<_> = ends.map(last).filter(|rung| from < rung.as_slice() && rung.as_slice() < to).collect();
    let number = number.min(all.len());
    (0..number).map(|index| all[(index * 2 + 1) * all.len() / (number * 2)].clone()).collect()
}

/// How many bytes two texts begin with in common.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Keys between two others as numbers: what they begin with in common left away, the rest read as digits in an alphabet.
/// Characters outside it count as their neighbours in it; that makes a cut less even, never wrong.
struct Scale {
    common: usize,
    symbols: Vec<u8>,
    digits: usize,
}

/// Numbers stay below this power of two, so that a sum of a few does not overflow.
const NUMBER_BITS: f64 = 112.0;

impl Scale {
    fn between(low: &[u8], high: &[u8], mut alphabet: Alphabet) -> Scale {
        let common = common(low, high);
        let common = (0..=common).rev().find(|end| std::str::from_utf8(&low[..*end]).is_ok()).unwrap_or(0);
        alphabet.add(&low[common..]);
        alphabet.add(&high[common..]);
        let mut symbols = alphabet.symbols();
        if symbols.len() < 2 {
            symbols = (b' '..=b'~').collect();
        }
        let digits = (NUMBER_BITS / (symbols.len() as f64).log2()) as usize;
        Scale { common, symbols, digits }
    }

    /// Rises with the key, though not strictly.
    fn number(&self, key: &[u8]) -> u128 {
        let (mut number, mut exact) = (0u128, true);
        for index in 0..self.digits {
            let digit = match key.get(self.common + index).filter(|_| exact) {
                None => 0,
                Some(byte) => self.symbols.binary_search(byte).unwrap_or_else(|above| {
                    exact = false;
                    above
                }),
            };
            number = number * self.symbols.len() as u128 + digit as u128;
        }
        number
    }

    fn text(&self, low: &[u8], mut number: u128) -> Vec<u8> {
        let base = self.symbols.len() as u128;
        let mut digits = vec![0; self.digits];
        for digit in digits.iter_mut().rev() {
            *digit = self.symbols[(number % base) as usize];
            number /= base;
        }
        // The lowest symbols at the end say nothing.
        let kept = digits.iter().rposition(|digit| *digit != self.symbols[0]).map_or(0, |last| last + 1);
        [&low[..self.common], &digits[..kept]].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::ops::Bound;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    type Keys = BTreeSet<Vec<u8>>;

    /// What a lister knows after a page of so many rows behind `position`, which is not the last one.
    fn known(keys: &Keys, page: &[&Vec<u8>], through: Option<&[u8]>) -> Known {
        let mut alphabet = Alphabet::default();
        let (first, last) = (page[0], page[page.len() - 1]);
        page.iter().for_each(|key| alphabet.add(&key[common(first, last).min(key.len())..]));
        assert!(keys.contains(last));
        Known {
            position: last.as_slice().into(),
            through: through.map(Box::from),
            ceiling: None,
            page_first: first.as_slice().into(),
            page_rows: page.len() as u64,
            alphabet,
            near: false,
            text_bytes_max: 1024,
        }
    }

    /// Cuts, and the rounds and questions it took.
    fn ask(keys: &Keys, known: &Known, wanted: usize) -> (Cuts, usize) {
        let asked = Cell::new(0);
        let first_behind = async |text: &[u8]| {
            assert!(std::str::from_utf8(text).is_ok());
            asked.set(asked.get() + 1);
            let mut behind = keys.range::<[u8], _>((Bound::Excluded(text), Bound::Unbounded));
            Ok::<_, Infallible>(behind.next().map(|key| key.clone().into_boxed_slice()))
        };
        (cuts(known, wanted, &first_behind).now_or_never().expect("nothing to wait for").unwrap(), asked.get())
    }

    proptest! {
        #[test]
        fn cuts_are_keys_ahead_with_keys_behind_them(
            keys in prop::collection::btree_set("[ab0/]{1,6}|[ -~]{1,8}|[é日\u{10348}a]{1,4}", 2..80),
            page in 1usize..20, end in 0usize..80, wanted in 1usize..9,
        ) {
            let keys: Keys = keys.into_iter().map(String::into_bytes).collect();
            let rows: Vec<_> = keys.iter().take(page.min(keys.len() - 1)).collect();
            let through = keys.iter().nth(end).filter(|through| **through > *rows[rows.len() - 1]).cloned();
            let (cuts, _) = ask(&keys, &known(&keys, &rows, through.as_deref()), wanted);
            let last = through.as_ref().unwrap_or_else(|| keys.last().unwrap());
            prop_assert!(cuts.keys.len() <= wanted);
            prop_assert!(cuts.keys.is_sorted_by(|a, b| a < b));
            for cut in &cuts.keys {
                prop_assert!(keys.contains(&**cut) && **cut > **rows[rows.len() - 1] && **cut < **last);
            }
            if let Some(ceiling) = cuts.ceiling {
                prop_assert!(ceiling[..] >= last[..] || through.is_some());
            }
        }

        #[test]
        fn the_scale_rises_and_its_texts_are_where_it_says(low in "[ -~é]{0,12}", high in "[ -~é]{0,12}") {
            prop_assume!(low < high);
            let scale = Scale::between(low.as_bytes(), high.as_bytes(), Alphabet::default());
            prop_assert!(scale.number(low.as_bytes()) <= scale.number(high.as_bytes()));
            for text in evens(low.as_bytes(), high.as_bytes(), 5, Alphabet::default()) {
                prop_assert!(std::str::from_utf8(&text).is_ok());
            }
        }

        #[test]
        fn no_bytes_panic(keys in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..6), 2..20)) {
            let rows: Vec<_> = keys.iter().take(1).collect();
            let known = known(&keys, &rows, None);
            for zone in (Search { known: &known, high: None, found: BTreeMap::new(), alphabet: known.alphabet }).zones(3) {
                evens(&zone.from, &zone.to, 3, known.alphabet);
                rungs(&zone.from, &zone.to, 3);
            }
        }
    }

    /// The share of the keys behind the position that the largest piece holds.
    fn largest_piece(keys: &Keys, wanted: usize) -> f64 {
        let rows: Vec<_> = keys.iter().take(1_000).collect();
        let (cuts, asked) = ask(keys, &known(keys, &rows, None), wanted);
        assert!(asked <= ROUNDS_MAX * 2 * (EVENS_MAX + 2 * RUNGS), "{asked} questions");
        let behind = |key: &[u8]| keys.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).count();
        let left = behind(rows[999]);
        let mut borders: Vec<usize> = cuts.keys.iter().map(|cut| left - behind(cut)).collect();
        borders.insert(0, 0);
        borders.push(left);
        borders.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap() as f64 / left as f64
    }

    #[test]
    fn flat_numbers_hashes_and_trees_are_cut_evenly_at_the_first_try() {
        let of = |name: &dyn Fn(u64) -> String| (0..100_000).map(|index| name(index).into_bytes()).collect::<Keys>();
        let flat = of(&|index| format!("data/set-with-a-long-name/v2/part-{index:012}"));
        let hashes = of(&|index| format!("{:016x}.bin", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let tree = of(&|index| {
            format!("a{}/b{}/c{}/f{:02}", index / 10_000, index / 1_000 % 10, index / 100 % 10, index % 100)
        });
        for (name, keys) in [("flat", flat), ("hashes", hashes), ("tree", tree)] {
            let largest = largest_piece(&keys, 7);
            assert!(largest < 0.35, "{name}: the largest of 8 pieces is {largest:.2} of all");
            let largest = largest_piece(&keys, 1);
            assert!(largest < 0.75, "{name}: the larger half is {largest:.2} of all");
        }
    }

    #[test]
    fn a_hot_prefix_is_cut_inside() {
        let cold = (0..2_000).map(|index| format!("p{:03}/{:012}", 51 + index / 10, index % 10));
        let hot = (0..100_000).map(|index| format!("p050/{index:012}"));
        let keys: Keys = cold.chain(hot).map(String::into_bytes).collect();
        let largest = largest_piece(&keys, 7);
        assert!(largest < 0.4, "the largest of 8 pieces is {largest:.2} of all");
    }

    #[test]
    fn who_does_not_start_where_asked_is_not_cut() {
        let keys: Keys = (0..10).map(|index| vec![b'a' + index]).collect();
        let rows: Vec<_> = keys.iter().take(3).collect();
        let first_behind = async |_: &[u8]| Ok::<_, Infallible>(Some(Box::from(&b"a"[..])));
        let found = cuts(&known(&keys, &rows, None), 3, &first_behind).now_or_never().unwrap().unwrap();
        assert_eq!(found, Cuts::default());
    }
}
