//! GetObjectTagging, PutObjectTagging and DeleteObjectTagging: the labels of an object, which change without it.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{draft, metadata::InputError};
use crate::{
    checksum::{Crc64Nvme, Md5Digest},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Key, VersionId},
    text,
    xml::{Document, XmlError, is_writable, push_element},
};

/// The tags of an object, in the order of their names: two sets are equal if they are equal so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Takes names and values as they are meant.
    #[must_use]
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort();
        Self(pairs)
    }

    /// Reads `name=value&name=value`, both percent-encoded, as `x-amz-tagging` has it. None if it is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = |text: &str| {
            let well_formed = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
            if !text.split('%').skip(1).all(well_formed) {
                return None;
            }
            let mut bytes = text.as_bytes().to_vec();
            let end = text::decode_form_in_place(&mut bytes, 0, text.len(), 0);
            bytes.truncate(end);
            String::from_utf8(bytes).ok()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((word(name).filter(|name| !name.is_empty())?, word(value)?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Self::new)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The form of `x-amz-tagging`.
    #[must_use]
    pub fn to_header(&self) -> String {
        let mut out = String::new();
        for (name, value) in self.iter() {
            if !out.is_empty() {
                out.push('&');
            }
            text::push_query(&mut out, name.as_bytes());
            out.push('=');
            text::push_query(&mut out, value.as_bytes());
        }
        out
    }
}

/// Whose tags are asked for.
#[derive(Debug, Clone, Copy)]
pub struct GetObjectTagging<'a> {
    /// The object.
    pub key: &'a Key,
    /// This version of it, and not the latest.
    pub version: Option<&'a VersionId>,
}

impl GetObjectTagging<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let pairs = [Some(("tagging", "")), self.version.map(|version| ("versionId", version.as_str()))];
        draft::about_object(head, Method::GET, address, self.key, draft::given(&pairs, &mut [("", ""); 2]));
    }

    /// Reads the tags. Of an object that never had any, Ceph says nothing at all, under 200.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, or a tag has no name.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<Tags, ServiceError> {
        if status.is_success() && body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Tags::default());
        }
        draft::expect_document(status, headers, body, &["Tagging"], |document| {
            let mut tags = Vec::new();
            while let Some(element) = document.child()? {
                if element.name() != "TagSet" {
                    document.skip()?;
                    continue;
                }
                while let Some(element) = document.child()? {
                    match element.name() {
                        "Tag" => tags.push(read_tag(document)?),
                        _ => document.skip()?,
                    }
                }
            }
            Ok(Tags::new(tags))
        })
    }
}

fn read_tag(document: &mut Document<'_>) -> Result<(String, String), XmlError> {
    let (mut key, mut value) = (None, String::new());
    while let Some(element) = document.child()? {
        match element.name() {
            "Key" => key = Some(document.text()?.to_owned()),
            "Value" => document.text()?.clone_into(&mut value),
            _ => document.skip()?,
        }
    }
    Ok((key.ok_or(XmlError::Element { element: "Key" })?, value))
}

/// Tags that take the place of all that an object has. Its body comes first, from [`Self::document`], because the request
/// carries the body's checksums.
#[derive(Debug, Clone)]
pub struct PutObjectTagging<'a> {
    /// The object.
    pub key: &'a Key,
    /// What [`Self::document`] wrote.
    pub document: Bytes,
    /// The document's MD5.
    pub content_md5: Option<Md5Digest>,
    /// The document's CRC.
    pub checksum_crc64nvme: Option<Crc64Nvme>,
}

impl PutObjectTagging<'_> {
    /// Writes the tags down.
    ///
    /// # Errors
    /// [`InputError::TagInDocument`] for a tag that XML cannot carry.
    pub fn document(tags: &Tags) -> Result<Bytes, InputError> {
        let mut out = String::from("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>");
        for (name, value) in tags.iter() {
            if !is_writable(name) || !is_writable(value) {
                return Err(InputError::TagInDocument { name: text::shown(name) });
            }
            out.push_str("<Tag>");
            push_element(&mut out, "Key", name);
            push_element(&mut out, "Value", value);
            out.push_str("</Tag>");
        }
        out.push_str("</TagSet></Tagging>");
        Ok(Bytes::from(out))
    }

    /// The head of the request; the document goes with it.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_object(head, Method::PUT, address, self.key, &[("tagging", "")]);
        draft::content_length(head, self.document.len() as u64);
        head.header("content-type", "application/xml");
        draft::checksums(head, self.content_md5, self.checksum_crc64nvme.map(Into::into));
    }

    /// # Errors
    /// [`ServiceError`] when the service refused.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<(), ServiceError> {
        draft::expect_success(status, headers, body)
    }
}

/// An object that is to have no tags.
#[derive(Debug, Clone, Copy)]
pub struct DeleteObjectTagging<'a> {
    /// The object.
    pub key: &'a Key,
}

impl DeleteObjectTagging<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_object(head, Method::DELETE, address, self.key, &[("tagging", "")]);
    }

    /// # Errors
    /// [`ServiceError`] when the service refused.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<(), ServiceError> {
        draft::expect_success(status, headers, body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        Tags::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_header() {
        assert_eq!(tags(&[("b", "2"), ("a &", "=ü")]).to_header(), "a%20%26=%3D%C3%BC&b=2");
        assert_eq!(Tags::parse("a%20%26=%3D%C3%BC&b=2"), Some(tags(&[("a &", "=ü"), ("b", "2")])));
        assert_eq!(Tags::parse("a+b="), Some(tags(&[("a b", "")])));
        assert_eq!(Tags::parse(""), Some(Tags::default()));
        for bad in ["a", "=v", "a=%", "a=%zz", "a=%ff"] {
            assert_eq!(Tags::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_requests() {
        let key = key("k");
        let get = GetObjectTagging { key: &key, version: None };
        assert_eq!(shown(|text| get.request(&address(), text)), "GET /b/k?tagging=\nhost: h:9");
        let delete = DeleteObjectTagging { key: &key };
        assert_eq!(shown(|text| delete.request(&address(), text)), "DELETE /b/k?tagging=\nhost: h:9");
        let document = PutObjectTagging::document(&tags(&[("a", "<1>")])).unwrap();
        let expected = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>a</Key>\
            <Value>&lt;1&gt;</Value></Tag></TagSet></Tagging>";
        assert_eq!(document, expected);
        let put = PutObjectTagging { key: &key, document, content_md5: None, checksum_crc64nvme: None };
        let expected = "PUT /b/k?tagging=\ncontent-length: 131\ncontent-type: application/xml\nhost: h:9";
        assert_eq!(shown(|text| put.request(&address(), text)), expected);
        assert!(PutObjectTagging::document(&tags(&[("a", "\u{1}")])).is_err());
    }

    #[test]
    fn the_answer() {
        let parse = |body: &str| GetObjectTagging::parse(StatusCode::OK, &Headers::new(), body.as_bytes());
        let body = "<Tagging xmlns=\"x\"><TagSet><Tag><Key>b</Key><Value>2</Value></Tag><Tag><Value/><Key>a</Key></Tag>\
            </TagSet></Tagging>";
        assert_eq!(parse(body).unwrap(), tags(&[("a", ""), ("b", "2")]));
        assert_eq!(parse("<Tagging><TagSet/></Tagging>").unwrap(), Tags::default());
        assert!(parse("<Tagging><TagSet><Tag><Value>1</Value></Tag></TagSet></Tagging>").is_err());
        assert_eq!(parse("").unwrap(), Tags::default());
        assert!(parse("<Tagging>").is_err());
        let refused = GetObjectTagging::parse(StatusCode::FORBIDDEN, &Headers::new(), b"");
        assert!(refused.is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(pairs in proptest::collection::btree_map("\\PC{1,8}", "\\PC{0,8}", 0..5)) {
            let tags = Tags::new(pairs.into_iter().collect());
            prop_assert_eq!(Tags::parse(&tags.to_header()), Some(tags));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            let _ = GetObjectTagging::parse(StatusCode::OK, &Headers::new(), &body);
            let _ = Tags::parse(&text);
        }
    }
}
