//! Buckets that are made up: millions of keys of a given shape, of which none is kept anywhere. A key is computed from its
//! place in the listing, so a page costs what it shows. For measuring clients; there are no objects behind the keys.
//!
//! Listings are written here and not by s3s, unsigned and without its types, so that a client is measured and not the
//! server. A bucket whose name begins with `empty` holds nothing.

use super::spelling::percent_decode;
use hyper::{Method, Uri};
use std::fmt::Write as _;
use std::str::FromStr;
use time::{Date, Month};

/// How many keys every bucket seems to hold, and what they look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthetic {
    shape: Shape,
    count: u64,
}

/// What keys look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Numbers with leading zeros behind one long start.
    Flat,
    /// Five directories deep.
    Tree,
    /// Random hexadecimal names.
    Hash,
    /// By year, month, day and hour.
    Date,
    /// One of 500 prefixes holds 99 keys of 100.
    Hot,
}

const SHAPES: [(&str, Shape); 5] =
    [("flat", Shape::Flat), ("tree", Shape::Tree), ("hash", Shape::Hash), ("date", Shape::Date), ("hot", Shape::Hot)];

/// The most that a page shows, as on S3.
const PAGE_KEYS_MAX: u64 = 1_000;

/// Prefixes of [`Shape::Hot`]; the one in the middle is the hot one.
const TENANTS: u64 = 500;

impl FromStr for Synthetic {
    type Err = String;

    /// `SHAPE:COUNT`, as in `flat:1000000`.
    fn from_str(text: &str) -> Result<Synthetic, String> {
        let (name, count) = text.split_once(':').ok_or("write SHAPE:COUNT, as in flat:1000000")?;
        let shape = SHAPES.iter().find(|(known, _)| *known == name);
        let (_, shape) = shape.ok_or_else(|| format!("no shape is called `{name}`: flat, tree, hash, date or hot"))?;
        let count = count.parse().map_err(|_| format!("`{count}` is not a number of keys"))?;
        Ok(Synthetic { shape: *shape, count })
    }
}

impl Synthetic {
    /// The page that a ListObjectsV2 asks for; None for any other request.
    pub(super) fn answer(&self, method: &Method, uri: &Uri) -> Option<String> {
        let query: Vec<_> = uri.query()?.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let value = |name: &str| {
            let found = query.iter().find(|(found, _)| *found == name);
            found.and_then(|(_, value)| percent_decode(value)).unwrap_or_default()
        };
        if method != Method::GET || value("list-type") != "2" {
            return None;
        }
        let count = if uri.path().starts_with("/empty") { 0 } else { self.count };
        let prefix = value("prefix");
        let start = match value("continuation-token").parse() {
            Ok(index) => index,
            Err(_) => {
                let after = value("start-after");
                self.first_where(count, |key| key > after.as_str() && key >= prefix.as_str())
            }
        };
        let keys_max = value("max-keys").parse().unwrap_or(PAGE_KEYS_MAX).min(PAGE_KEYS_MAX);
        Some(self.page(count, start, keys_max, &prefix))
    }

    fn page(&self, count: u64, start: u64, keys_max: u64, prefix: &str) -> String {
        let mut page = String::with_capacity(512 + 256 * keys_max as usize);
        page.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
        page.push_str("<EncodingType>url</EncodingType>");
        let mut key = String::new();
        let mut index = start;
        let more = loop {
            if index == count {
                break false;
            }
            self.key(index, &mut key);
            if !key.starts_with(prefix) || index == start + keys_max {
                break key.starts_with(prefix);
            }
            // No shape has a character that would have to be encoded.
            page.push_str("<Contents><Key>");
            page.push_str(&key);
            page.push_str(
                "</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>0</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
            );
            index += 1;
        };
        let _ = write!(page, "<IsTruncated>{more}</IsTruncated>");
        if more {
            let _ = write!(page, "<NextContinuationToken>{index}</NextContinuationToken>");
        }
        page.push_str("</ListBucketResult>");
        page
    }

    /// The place of the first key that satisfies what all that follow do too.
    fn first_where(&self, count: u64, is_behind: impl Fn(&str) -> bool) -> u64 {
        let (mut low, mut high, mut key) = (0, count, String::new());
        while low < high {
            let middle = low.midpoint(high);
            self.key(middle, &mut key);
            if is_behind(&key) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The key at a place of the listing; they rise with it.
    fn key(&self, index: u64, key: &mut String) {
        key.clear();
        // Place and count may be multiplied by something before they are divided.
        let share = |parts: u64| (u128::from(index) * u128::from(parts) / u128::from(self.count)) as u64;
        let written = match self.shape {
            Shape::Flat => write!(key, "dataset/v2/images/train/part-{index:012}"),
            Shape::Tree => {
                let [a, b, c] = [24, 24 * 24, 24 * 24 * 24].map(|parts| share(parts) % 24);
                write!(key, "d{a:02}/d{b:02}/d{c:02}/{:08}/file-{index:09}.json", index / 50)
            }
            Shape::Hash => {
                let step = u64::MAX / self.count;
                write!(key, "{:016x}.bin", index * step + mixed(index) % step)
            }
            Shape::Date => {
                // Ten years.
                let hour = share(3_652 * 24);
                let first = Date::from_calendar_date(2015, Month::January, 1).expect("a date").to_julian_day();
                let date = Date::from_julian_day(first + (hour / 24) as i32).expect("a date");
                let (year, month, day) = date.to_calendar_date();
                write!(key, "logs/{year}/{:02}/{day:02}/{:02}/part-{index:010}.gz", u8::from(month), hour % 24)
            }
            Shape::Hot => {
                let half = (self.count / 200).max(1);
                let (before, after) = (TENANTS / 2, TENANTS / 2 - 1);
                let tenant = match index {
                    _ if index < half => index * before / half,
                    _ if index >= self.count - half => before + 1 + (index - (self.count - half)) * after / half,
                    _ => before,
                };
                write!(key, "tenant-{tenant:04}/objects/{index:012}")
            }
        };
        written.expect("a String takes all");
    }
}

/// A number that looks random.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number ^ (number >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_in(page: &str) -> Vec<&str> {
        page.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect()
    }

    #[test]
    fn keys_rise_in_every_shape_and_pages_join() {
        for (name, _) in SHAPES {
            let synthetic: Synthetic = format!("{name}:20000").parse().unwrap();
            let (mut listed, mut key): (Vec<String>, _) = (Vec::new(), String::new());
            for index in 0..20_000 {
                synthetic.key(index, &mut key);
                assert!(listed.last().is_none_or(|last| *last < key), "{name}: {key}");
                listed.push(key.clone());
            }
            let ask = |query: &str| {
                let uri: Uri = format!("/bucket?list-type=2&{query}").parse().unwrap();
                synthetic.answer(&Method::GET, &uri).unwrap()
            };
            assert_eq!(keys_in(&ask("max-keys=9999")), listed[..1_000]);
            assert_eq!(keys_in(&ask("continuation-token=1000")), listed[1_000..2_000]);
            let behind = listed[4_321].replace('/', "%2F");
            assert_eq!(keys_in(&ask(&format!("start-after={behind}&max-keys=1"))), listed[4_322..4_323]);
            let last = ask("continuation-token=19999");
            assert!(last.contains("<IsTruncated>false<") && keys_in(&last) == listed[19_999..]);
            assert_eq!(keys_in(&ask("prefix=nothing")), [""; 0]);
        }
    }

    #[test]
    fn other_requests_are_not_its_business() {
        let synthetic: Synthetic = "flat:10".parse().unwrap();
        for (method, uri) in [(Method::GET, "/b/key"), (Method::PUT, "/b?list-type=2"), (Method::GET, "/b?uploads")] {
            assert!(synthetic.answer(&method, &uri.parse().unwrap()).is_none());
        }
        let empty = synthetic.answer(&Method::GET, &"/empty-one?list-type=2".parse().unwrap()).unwrap();
        assert!(keys_in(&empty).is_empty());
        for bad in ["flat", "round:10", "flat:many"] {
            assert!(bad.parse::<Synthetic>().is_err(), "{bad}");
        }
    }
}
