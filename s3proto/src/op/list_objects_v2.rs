//! ListObjectsV2: one page of a bucket's keys, in the order of their bytes.
//!
//! A run reads millions of rows, so a page is a few large allocations and none per row: the keys stand back to back in
//! one text, timestamps and sizes are numbers, and the usual entity tags are their sixteen bytes.

use std::ops::Range;

use http::{Method, StatusCode};

use super::draft::{self, flag};
use crate::{
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, Prefix},
    text::{decode_form, decode_form_in_place},
    xml::{Document, XmlError},
};

/// Longer continuation tokens are refused: they would not fit a request line, and no server's come near.
const TOKEN_BYTES_MAX: usize = 8192;

/// Which keys to list.
#[derive(Debug, Clone, Copy)]
pub struct ListObjectsV2<'a> {
    /// Only keys that begin so.
    pub prefix: &'a Prefix,
    /// Only keys after this one, which need not exist. Used on the first page of a range.
    pub start_after: Option<&'a Key>,
    /// Where the page before ended, as [`ListPage::next`] said.
    pub continuation_token: Option<&'a str>,
    /// At most so many rows; the service has its own limit, usually 1,000.
    pub max_keys: Option<u32>,
    /// Gather keys that go on past this character into one common prefix.
    pub delimiter: Option<char>,
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The keys of all rows, decoded, back to back. Keys are bytes here: a server may hold some that are not UTF-8.
    pub text: Vec<u8>,
    /// The rows, in the order in which the service sent them.
    pub rows: Vec<ListRow>,
    /// The common prefixes, decoded.
    pub common_prefixes: Vec<Box<[u8]>>,
    /// Where the next page begins; present exactly when there is one.
    pub next: Option<String>,
    /// Whether there is a next page. An empty page may well have one.
    pub truncated: bool,
}

/// One object of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    /// Where its key stands in [`ListPage::text`].
    pub key: Range<u32>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in Unix nanoseconds.
    pub last_modified_ns: i64,
    /// Its tag; some servers list none.
    pub etag: Option<ETag>,
}

impl ListPage {
    /// The key of a row of this page.
    ///
    /// # Panics
    /// If the row belongs to another page and lies outside this one.
    #[must_use]
    pub fn key(&self, row: &ListRow) -> &[u8] {
        &self.text[row.key.start as usize..row.key.end as usize]
    }
}

impl ListObjectsV2<'_> {
    /// The head of the request. It always asks for percent-encoded keys: XML cannot carry all that a key may hold.
    ///
    /// # Panics
    /// If the continuation token is longer than any that [`Self::parse`] lets through.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let max_keys = self.max_keys.map(|count| count.to_string());
        let delimiter = self.delimiter.map(String::from);
        let pairs = [
            ("continuation-token", self.continuation_token),
            ("delimiter", delimiter.as_deref()),
            ("encoding-type", Some("url")),
            ("list-type", Some("2")),
            ("max-keys", max_keys.as_deref()),
            ("prefix", Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty())),
            ("start-after", self.start_after.map(Key::as_str)),
        ];
        let query: Vec<_> = pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        draft::about_bucket(head, Method::GET, address, &query);
    }

    /// Reads a page. Counts that the service states are ignored: some lie.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, or the page lacks what a sync needs: a row's key, size or time, or
    /// the token of a next page that is announced.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<ListPage, ServiceError> {
        draft::expect_document(status, headers, body, &["ListBucketResult"], |document| {
            // Keys, and the markup around them, take well over a hundred bytes a row.
            let mut page = ListPage { rows: Vec::with_capacity(body.len() / 256), ..ListPage::default() };
            read(document, &mut page)?;
            Ok(page)
        })
    }
}

fn read(document: &mut Document<'_>, page: &mut ListPage) -> Result<(), XmlError> {
    let mut encoded = false;
    let mut token = None;
    while let Some(element) = document.child()? {
        match element.name() {
            "Contents" => {
                let row = read_row(document, &mut page.text)?;
                page.rows.push(row);
            }
            "CommonPrefixes" => {
                while let Some(inner) = document.child()? {
                    match inner.name() {
                        "Prefix" => page.common_prefixes.push(document.text()?.as_bytes().into()),
                        _ => document.skip()?,
                    }
                }
            }
            "IsTruncated" => page.truncated = flag(document)?,
            "NextContinuationToken" => token = Some(document.text()?.to_owned()),
            "EncodingType" => encoded = document.text()?.trim().eq_ignore_ascii_case("url"),
            _ => document.skip()?,
        }
    }
    // Servers put `EncodingType` before the rows or after them, so decoding waits for the end.
    if encoded {
        decode(page);
    }
    if page.truncated {
        // Without a token the next page would be this one again, for ever.
        let usable = |token: &String| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        page.next = Some(token.filter(usable).ok_or(XmlError::Element { element: "NextContinuationToken" })?);
    }
    Ok(())
}

/// A row, as far as it has been read.
#[derive(Default)]
struct Draft {
    key: Option<Range<u32>>,
    size: Option<u64>,
    last_modified_ns: Option<i64>,
    etag: Option<ETag>,
}

fn read_row(document: &mut Document<'_>, text: &mut Vec<u8>) -> Result<ListRow, XmlError> {
    let mut row = Draft::default();
    loop {
        while let Some((name, value)) = document.plain_leaf() {
            row.take(name, value, text)?;
        }
        let Some(element) = document.child()? else { break };
        match Draft::known(element.name()) {
            Some(name) => row.take(name, document.text()?, text)?,
            None => document.skip()?,
        }
    }
    Ok(ListRow {
        key: row.key.filter(|key| !key.is_empty()).ok_or(XmlError::Element { element: "Key" })?,
        size: row.size.ok_or(XmlError::Element { element: "Size" })?,
        last_modified_ns: row.last_modified_ns.ok_or(XmlError::Element { element: "LastModified" })?,
        etag: row.etag,
    })
}

impl Draft {
    /// The elements that a row is made of; all others are passed over.
    fn known(name: &str) -> Option<&'static str> {
        ["Key", "Size", "LastModified", "ETag"].into_iter().find(|known| *known == name)
    }

    fn take(&mut self, name: &str, value: &str, text: &mut Vec<u8>) -> Result<(), XmlError> {
        match name {
            "Key" => {
                let start = text.len();
                text.extend_from_slice(value.as_bytes());
                self.key = Some(offset(start)..offset(text.len()));
            }
            "Size" => self.size = Some(draft::parsed(value, "Size")?),
            "LastModified" => self.last_modified_ns = date::iso_to_unix_ns(value.trim()),
            "ETag" => self.etag = ETag::parse(value).ok(),
            _ => {}
        }
        Ok(())
    }
}

/// An offset into a page's text, which is never longer than its document.
fn offset(bytes: usize) -> u32 {
    const { assert!(crate::xml::DOCUMENT_BYTES_MAX <= u32::MAX as usize) };
    u32::try_from(bytes).expect("a page's text is shorter than its bounded document")
}

/// Decodes all keys where they stand: decoding only shortens, so each moves towards the front.
fn decode(page: &mut ListPage) {
    let mut end = 0;
    for row in &mut page.rows {
        let start = end;
        end = decode_form_in_place(&mut page.text, row.key.start as usize, row.key.end as usize, start);
        row.key = offset(start)..offset(end);
    }
    page.text.truncate(end);
    for prefix in &mut page.common_prefixes {
        let mut bytes = std::mem::take(prefix).into_vec();
        decode_form(&mut bytes);
        *prefix = bytes.into();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };
    use crate::error::{Class, Kind};

    fn parse(body: &str) -> Result<ListPage, ServiceError> {
        ListObjectsV2::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    fn keys(page: &ListPage) -> Vec<&[u8]> {
        page.rows.iter().map(|row| page.key(row)).collect()
    }

    fn contents(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>7</Size>\
             <StorageClass>STANDARD</StorageClass><Owner><ID>1</ID></Owner></Contents>"
        )
    }

    #[test]
    fn the_request() {
        let (empty, prefix, after) = (Prefix::default(), Prefix::parse("p+/ü").unwrap(), key("a&b"));
        let first = ListObjectsV2 {
            prefix: &empty,
            start_after: None,
            continuation_token: None,
            max_keys: None,
            delimiter: None,
        };
        assert_eq!(shown(|text| first.request(&address(), text)), "GET /b?encoding-type=url&list-type=2\nhost: h:9");
        let full = ListObjectsV2 {
            prefix: &prefix,
            start_after: Some(&after),
            continuation_token: Some("t/+="),
            max_keys: Some(1),
            delimiter: Some('/'),
        };
        let expected = "GET /b?continuation-token=t%2F%2B%3D&delimiter=%2F&encoding-type=url&list-type=2&max-keys=1\
            &prefix=p%2B%2F%C3%BC&start-after=a%26b\nhost: h:9";
        assert_eq!(shown(|text| full.request(&address(), text)), expected);
    }

    #[test]
    fn a_page_of_aws() {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>b</Name><Prefix></Prefix><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=\
             </NextContinuationToken><KeyCount>9</KeyCount><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType>\
             <IsTruncated>true</IsTruncated>{}{}<CommonPrefixes><Prefix>d%2B/</Prefix></CommonPrefixes></ListBucketResult>",
            contents("a+b%2Fc"),
            contents("%F0%9F%92%A1%0D%0A")
        );
        let page = parse(&body).unwrap();
        assert_eq!(keys(&page), [b"a b/c".as_slice(), "\u{1F4A1}\r\n".as_bytes()]);
        assert_eq!(page.rows[0].size, 7);
        assert_eq!(page.rows[0].last_modified_ns, 1_255_369_830_000_000_000);
        assert_eq!(page.rows[1].etag.as_ref().unwrap().to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(page.common_prefixes, [b"d+/".to_vec().into_boxed_slice()]);
        assert_eq!(page.next.as_deref(), Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
        assert!(page.truncated);
    }

    #[test]
    fn the_encoding_may_be_named_last_or_not_at_all() {
        let rows = [contents("a%2Bb"), contents("c+d")].concat();
        let last = format!("<ListBucketResult>{rows}<EncodingType>url</EncodingType></ListBucketResult>");
        assert_eq!(keys(&parse(&last).unwrap()), [b"a+b".as_slice(), b"c d"]);
        let raw = format!("<ListBucketResult>{rows}</ListBucketResult>");
        assert_eq!(keys(&parse(&raw).unwrap()), [b"a%2Bb".as_slice(), b"c+d"]);
    }

    #[test]
    fn characters_that_xml_forbids_or_changes() {
        let rows = [contents("a&#x1;b"), contents("c\r\nd\te"), contents("&lt;&amp;&gt;"), contents("e&#13;")].concat();
        let page = parse(&format!("<ListBucketResult>{rows}</ListBucketResult>")).unwrap();
        assert_eq!(keys(&page), [b"a\x01b".as_slice(), b"c\r\nd\te", b"<&>", b"e\r"]);
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let row = contents("%FF%FE");
        let page =
            parse(&format!("<ListBucketResult><EncodingType>url</EncodingType>{row}</ListBucketResult>")).unwrap();
        assert_eq!(keys(&page), [b"\xff\xfe".as_slice()]);
    }

    #[test]
    fn an_announced_page_needs_its_token() {
        for token in [
            "",
            "<NextContinuationToken/>",
            &format!("<NextContinuationToken>{}</NextContinuationToken>", "x".repeat(9000)),
        ] {
            let error = parse(&format!("<ListBucketResult>{token}<IsTruncated>true</IsTruncated></ListBucketResult>"));
            assert_eq!(error.unwrap_err().kind, Kind::Malformed);
        }
        let last =
            parse("<ListBucketResult><NextContinuationToken>x</NextContinuationToken></ListBucketResult>").unwrap();
        assert_eq!((last.truncated, last.next), (false, None));
        let empty = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>\
            </ListBucketResult>";
        assert_eq!(parse(empty).unwrap().next.as_deref(), Some("x"));
    }

    #[test]
    fn rows_that_make_no_sense_are_errors() {
        for (whole, broken) in [
            ("<Key>k</Key>", ""),
            ("<Key>k</Key>", "<Key/>"),
            ("<Size>7</Size>", "<Size>-7</Size>"),
            ("<Size>7</Size>", "<Size>99999999999999999999</Size>"),
            ("<Size>7</Size>", ""),
            ("2009-10-12T17:50:30.000Z", "99999-10-12T17:50:30Z"),
        ] {
            let row = contents("k").replace(whole, broken);
            let error = parse(&format!("<ListBucketResult>{row}</ListBucketResult>")).unwrap_err();
            assert_eq!((error.kind, error.class()), (Kind::Malformed, Class::Retry), "{broken}");
        }
        let bare = contents("k").replace("<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>", "");
        assert_eq!(parse(&format!("<ListBucketResult>{bare}</ListBucketResult>")).unwrap().rows[0].etag, None);
    }

    #[test]
    fn answers_that_are_no_page() {
        let error = parse("<Error><Code>SlowDown</Code><Message>m</Message></Error>").unwrap_err();
        assert_eq!((error.kind, error.class()), (Kind::Refused, Class::Throttle));
        for body in ["", "<html>", "<ListBucketResult><Contents><Key>k"] {
            assert_eq!(parse(body).unwrap_err().kind, Kind::Malformed, "{body}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            pieces in proptest::collection::vec(prop_oneof![
                Just("<Contents>"), Just("</Contents>"), Just("<Key>"), Just("</Key>"), Just("%2"), Just("a+%41"), Just("&#x0;"),
                Just("<Size>7</Size>"), Just("<EncodingType>url</EncodingType>"), Just("<LastModified>2009-10-12T17:50:30Z</LastModified>")
            ], 0..30),
        ) {
            let _ = ListObjectsV2::parse(StatusCode::OK, &Headers::new(), &bytes);
            let _ = parse(&format!("<ListBucketResult>{}</ListBucketResult>", pieces.concat()));
        }

        #[test]
        fn every_key_survives_encoding(
            keys_in in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..10),
        ) {
            let mut body = String::from("<ListBucketResult>");
            for key in &keys_in {
                let mut encoded = String::new();
                crate::text::push_query(&mut encoded, key);
                body.push_str(&contents(&encoded));
            }
            body.push_str("<EncodingType>url</EncodingType></ListBucketResult>");
            let page = parse(&body).unwrap();
            prop_assert_eq!(keys(&page), keys_in.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
