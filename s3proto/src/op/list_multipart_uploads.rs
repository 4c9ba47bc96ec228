//! ListMultipartUploads: uploads that were opened and neither completed nor aborted.

use http::{Method, StatusCode};

use super::draft::{self, flag};
use crate::{
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{Prefix, UploadId},
    text::decode_form,
    xml::{Document, XmlError},
};

/// The longest marker that is taken from an answer; it is repeated in the next request's line.
const MARKER_BYTES_MAX: usize = 8192;

/// Which uploads to list.
#[derive(Debug, Clone, Copy)]
pub struct ListMultipartUploads<'a> {
    /// Only uploads of keys that begin so.
    pub prefix: &'a Prefix,
    /// Where the page before ended, as [`ListMultipartUploadsOutput::next`] said.
    pub after: Option<&'a (String, String)>,
    /// At most so many; the service has its own limit, usually 1,000.
    pub max_uploads: Option<u32>,
}

/// One page of uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMultipartUploadsOutput {
    /// The uploads, in the order of their keys.
    pub uploads: Vec<ListedUpload>,
    /// The key and the upload after which the next page begins; present exactly when there is one.
    pub next: Option<(String, String)>,
}

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUpload {
    /// The bytes of the key of the object to be.
    pub key: Vec<u8>,
    /// The upload.
    pub upload_id: UploadId,
    /// When it was opened, in Unix nanoseconds.
    pub initiated_ns: Option<i64>,
}

impl ListMultipartUploads<'_> {
    /// The head of the request. It always asks for percent-encoded keys.
    ///
    /// # Panics
    /// If a marker is longer than any that [`Self::parse`] lets through.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let max_uploads = self.max_uploads.map(|count| count.to_string());
        let pairs = [
            ("encoding-type", Some("url")),
            ("key-marker", self.after.map(|(key, _)| key.as_str())),
            ("max-uploads", max_uploads.as_deref()),
            ("prefix", Some(self.prefix.as_str()).filter(|prefix| !prefix.is_empty())),
            ("upload-id-marker", self.after.map(|(_, upload_id)| upload_id.as_str())),
            ("uploads", Some("")),
        ];
        let query: Vec<_> = pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        draft::about_bucket(head, Method::GET, address, &query);
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, an upload lacks its key or name, or a next page is announced that
    /// begins nowhere.
    pub fn parse(
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
    ) -> Result<ListMultipartUploadsOutput, ServiceError> {
        draft::expect_document(status, headers, body, &["ListMultipartUploadsResult"], read)
    }
}

fn read(document: &mut Document<'_>) -> Result<ListMultipartUploadsOutput, XmlError> {
    let mut uploads = Vec::new();
    let (mut truncated, mut encoded, mut key_marker, mut upload_marker) = (false, false, Vec::new(), String::new());
    while let Some(element) = document.child()? {
        match element.name() {
            "Upload" => uploads.push(read_upload(document)?),
            "IsTruncated" => truncated = flag(document)?,
            "NextKeyMarker" => key_marker = document.text()?.as_bytes().to_vec(),
            "NextUploadIdMarker" => document.text()?.clone_into(&mut upload_marker),
            "EncodingType" => encoded = document.text()?.trim().eq_ignore_ascii_case("url"),
            _ => document.skip()?,
        }
    }
    if encoded {
        for key in uploads.iter_mut().map(|upload| &mut upload.key).chain([&mut key_marker]) {
            decode_form(key);
        }
    }
    if !truncated {
        return Ok(ListMultipartUploadsOutput { uploads, next: None });
    }
    let usable = |marker: &String| !marker.is_empty() && marker.len() + upload_marker.len() <= MARKER_BYTES_MAX;
    let key_marker = String::from_utf8(key_marker).ok().filter(usable);
    let key_marker = key_marker.ok_or(XmlError::Element { element: "NextKeyMarker" })?;
    Ok(ListMultipartUploadsOutput { uploads, next: Some((key_marker, upload_marker)) })
}

fn read_upload(document: &mut Document<'_>) -> Result<ListedUpload, XmlError> {
    let (mut key, mut upload_id, mut initiated_ns) = (None, None, None);
    while let Some(element) = document.child()? {
        match element.name() {
            "Key" => key = Some(document.text()?.as_bytes().to_vec()),
            "UploadId" => upload_id = UploadId::parse(document.text()?.trim()).ok(),
            "Initiated" => initiated_ns = date::iso_to_unix_ns(document.text()?.trim()),
            _ => document.skip()?,
        }
    }
    Ok(ListedUpload {
        key: key.ok_or(XmlError::Element { element: "Key" })?,
        upload_id: upload_id.ok_or(XmlError::Element { element: "UploadId" })?,
        initiated_ns,
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

    fn parse(body: &str) -> Result<ListMultipartUploadsOutput, ServiceError> {
        ListMultipartUploads::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let (empty, prefix) = (Prefix::default(), Prefix::parse("p/").unwrap());
        let first = ListMultipartUploads { prefix: &empty, after: None, max_uploads: None };
        assert_eq!(shown(|text| first.request(&address(), text)), "GET /b?encoding-type=url&uploads=\nhost: h:9");
        let after = ("k".to_owned(), "u".to_owned());
        let second = ListMultipartUploads { prefix: &prefix, after: Some(&after), max_uploads: Some(1) };
        let expected = "GET /b?encoding-type=url&key-marker=k&max-uploads=1&prefix=p%2F&upload-id-marker=u&uploads=\n\
            host: h:9";
        assert_eq!(shown(|text| second.request(&address(), text)), expected);
    }

    #[test]
    fn the_answer() {
        let page = "<ListMultipartUploadsResult><EncodingType>url</EncodingType><NextKeyMarker>a%2Fb</NextKeyMarker>\
            <NextUploadIdMarker>u1</NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>a+%2B</Key>\
            <UploadId>u1</UploadId><Initiator><ID>i</ID></Initiator><Initiated>2009-10-12T17:50:30Z</Initiated></Upload>\
            </ListMultipartUploadsResult>";
        let output = parse(page).unwrap();
        assert_eq!(output.uploads[0].key, b"a +");
        assert_eq!(output.uploads[0].upload_id.as_str(), "u1");
        assert_eq!(output.uploads[0].initiated_ns, Some(1_255_369_830_000_000_000));
        assert_eq!(output.next, Some(("a/b".to_owned(), "u1".to_owned())));
        for broken in
            [page.replace("<NextKeyMarker>a%2Fb</NextKeyMarker>", ""), page.replace("<UploadId>u1</UploadId>", "")]
        {
            assert_eq!(parse(&broken).unwrap_err().kind, Kind::Malformed);
        }
        assert_eq!(parse(&page.replace("true", "false")).unwrap().next, None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ListMultipartUploads::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
