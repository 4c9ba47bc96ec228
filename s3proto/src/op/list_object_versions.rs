//! ListObjectVersions: every version of every object under a prefix, delete markers among them.

use http::{Method, StatusCode};

use super::draft::{self, flag};
use crate::{
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Prefix, VersionId},
    text::decode_form,
    xml::{Document, XmlError},
};

/// S3's name for the document, and moto's.
const ROOTS: [&str; 2] = ["ListVersionsResult", "ListObjectVersionsResponse"];

/// The longest markers that are taken from an answer; they are repeated in the next request's line.
const MARKER_BYTES_MAX: usize = 8192;

/// Which versions to list.
#[derive(Debug, Clone, Copy)]
pub struct ListObjectVersions<'a> {
    /// Only versions of keys that begin so.
    pub prefix: &'a Prefix,
    /// Only versions of keys behind this one, or with a version, also those of this key that are older than that. As
    /// [`VersionsPage::next`] said, or of one's own choice.
    pub after: Option<(&'a str, Option<&'a str>)>,
    /// At most so many; the service has its own limit, usually 1,000.
    pub max_keys: Option<u32>,
}

/// One page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionsPage {
    /// The versions, in the order in which the document has them. Some services have all delete markers of a page apart.
    pub versions: Vec<ListedVersion>,
    /// The key, and the version of it if it says so, behind which the next page begins; present exactly when there is one.
    pub next: Option<(String, Option<String>)>,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// The object's key: bytes, since a server may hold some that are not UTF-8.
    pub key: Vec<u8>,
    /// Which one it is.
    pub id: VersionId,
    /// Whether it is what the key means now.
    pub is_latest: bool,
    /// When it was written, in Unix nanoseconds.
    pub last_modified_ns: i64,
    /// What was written; none for a delete marker.
    pub content: Option<ListedContent>,
}

/// What a listing says of a version's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContent {
    /// Its size in bytes.
    pub size: u64,
    /// Its tag; some servers list none.
    pub etag: Option<ETag>,
}

impl ListObjectVersions<'_> {
    /// The head of the request. It always asks for percent-encoded keys: XML cannot carry all that a key may hold.
    ///
    /// # Panics
    /// If a marker is longer than any that [`Self::parse`] lets through.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let max_keys = self.max_keys.map(|count| count.to_string());
        let pairs = [
            ("encoding-type", Some("url")),
            ("key-marker", self.after.map(|(key, _)| key)),
            ("max-keys", max_keys.as_deref()),
            ("prefix", Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty())),
            ("version-id-marker", self.after.and_then(|(_, version)| version)),
            ("versions", Some("")),
        ];
        let query: Vec<_> = pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        draft::about_bucket(head, Method::GET, address, &query);
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, a version lacks what a sync needs, or a next page is announced that
    /// begins nowhere.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<VersionsPage, ServiceError> {
        draft::expect_document(status, headers, body, &ROOTS, read)
    }
}

fn read(document: &mut Document<'_>) -> Result<VersionsPage, XmlError> {
    let mut versions = Vec::new();
    let (mut truncated, mut encoded, mut key_marker, mut version_marker) = (false, false, Vec::new(), String::new());
    while let Some(element) = document.child()? {
        match element.name() {
            "Version" => versions.push(read_version(document, true)?),
            "DeleteMarker" => versions.push(read_version(document, false)?),
            "IsTruncated" => truncated = flag(document)?,
            "NextKeyMarker" => key_marker = document.text()?.as_bytes().to_vec(),
            "NextVersionIdMarker" => document.text()?.clone_into(&mut version_marker),
            "EncodingType" => encoded = document.text()?.trim().eq_ignore_ascii_case("url"),
            _ => document.skip()?,
        }
    }
    if encoded {
        for key in versions.iter_mut().map(|version| &mut version.key).chain([&mut key_marker]) {
            decode_form(key);
        }
    }
    if !truncated {
        return Ok(VersionsPage { versions, next: None });
    }
    let usable = |marker: &String| !marker.is_empty() && marker.len() + version_marker.len() <= MARKER_BYTES_MAX;
    let key_marker = String::from_utf8(key_marker).ok().filter(usable);
    let key_marker = key_marker.ok_or(XmlError::Element { element: "NextKeyMarker" })?;
    let version_marker = Some(version_marker).filter(|marker| !marker.is_empty());
    Ok(VersionsPage { versions, next: Some((key_marker, version_marker)) })
}

fn read_version(document: &mut Document<'_>, has_content: bool) -> Result<ListedVersion, XmlError> {
    let (mut key, mut id, mut is_latest, mut last_modified_ns, mut size, mut etag) =
        (None, None, false, None, None, None);
    while let Some(element) = document.child()? {
        match element.name() {
            "Key" => key = Some(document.text()?.as_bytes().to_vec()).filter(|key| !key.is_empty()),
            "VersionId" => id = VersionId::parse(document.text()?.trim()).ok(),
            "IsLatest" => is_latest = flag(document)?,
            "LastModified" => last_modified_ns = date::iso_to_unix_ns(document.text()?.trim()),
            "Size" => size = Some(draft::number(document, "Size")?),
            "ETag" => etag = ETag::parse(document.text()?).ok(),
            _ => document.skip()?,
        }
    }
    let content = match has_content {
        true => Some(ListedContent { size: size.ok_or(XmlError::Element { element: "Size" })?, etag }),
        false => None,
    };
    Ok(ListedVersion {
        key: key.ok_or(XmlError::Element { element: "Key" })?,
        id: id.ok_or(XmlError::Element { element: "VersionId" })?,
        is_latest,
        last_modified_ns: last_modified_ns.ok_or(XmlError::Element { element: "LastModified" })?,
        content,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, shown},
        *,
    };
    use crate::error::Kind;

    fn parse(body: &str) -> Result<VersionsPage, ServiceError> {
        ListObjectVersions::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let (empty, prefix) = (Prefix::default(), Prefix::parse("p/").unwrap());
        let first = ListObjectVersions { prefix: &empty, after: None, max_keys: None };
        assert_eq!(shown(|text| first.request(&address(), text)), "GET /b?encoding-type=url&versions=\nhost: h:9");
        let behind = ListObjectVersions { after: Some(("k", None)), ..first };
        let expected = "GET /b?encoding-type=url&key-marker=k&versions=\nhost: h:9";
        assert_eq!(shown(|text| behind.request(&address(), text)), expected);
        let next = ListObjectVersions { prefix: &prefix, after: Some(("k&", Some("v+"))), max_keys: Some(7) };
        let expected = "GET /b?encoding-type=url&key-marker=k%26&max-keys=7&prefix=p%2F&version-id-marker=v%2B&versions=\n\
            host: h:9";
        assert_eq!(shown(|text| next.request(&address(), text)), expected);
    }

    const PAGE: &str = "<ListVersionsResult><EncodingType>url</EncodingType><KeyMarker/>\
        <NextKeyMarker>a%2Fb</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker><IsTruncated>true</IsTruncated>\
        <DeleteMarker><Key>a%2Fb</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>\
        <LastModified>2009-10-12T17:50:31.000Z</LastModified><Owner><ID>1</ID></Owner></DeleteMarker>\
        <Version><Key>a%2Fb</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>\
        <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>\
        <Size>7</Size><StorageClass>STANDARD</StorageClass></Version></ListVersionsResult>";

    #[test]
    fn a_page_of_aws() {
        let page = parse(PAGE).unwrap();
        let [marker, version] = &page.versions[..] else { panic!("{page:?}") };
        assert_eq!((marker.key.as_slice(), marker.id.as_str(), marker.is_latest), (b"a/b".as_slice(), "v2", true));
        assert_eq!((&marker.content, marker.last_modified_ns), (&None, 1_255_369_831_000_000_000));
        assert_eq!((version.id.as_str(), version.is_latest), ("v1", false));
        let content = version.content.as_ref().unwrap();
        assert_eq!((content.size, content.etag.is_some()), (7, true));
        assert_eq!(page.next, Some(("a/b".to_owned(), Some("v1".to_owned()))));
        let next = parse(&PAGE.replace("<NextVersionIdMarker>v1</NextVersionIdMarker>", "")).unwrap().next;
        assert_eq!(next, Some(("a/b".to_owned(), None)));
        assert_eq!(parse(&PAGE.replace("<IsTruncated>true", "<IsTruncated>false")).unwrap().next, None);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for (whole, broken) in [
            ("<NextKeyMarker>a%2Fb</NextKeyMarker>", ""),
            ("<VersionId>v2</VersionId>", ""),
            ("<VersionId>v1</VersionId>", "<VersionId/>"),
            ("<Size>7</Size>", ""),
            ("<Size>7</Size>", "<Size>-7</Size>"),
            ("<Key>a%2Fb</Key>", "<Key/>"),
            ("<LastModified>2009-10-12T17:50:31.000Z</LastModified>", ""),
        ] {
            assert_eq!(parse(&PAGE.replacen(whole, broken, 1)).unwrap_err().kind, Kind::Malformed, "{whole} {broken}");
        }
        assert!(parse("<ListBucketResult/>").is_err());
        assert!(parse(&PAGE.replace("ListVersionsResult", "ListObjectVersionsResponse")).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ListObjectVersions::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
