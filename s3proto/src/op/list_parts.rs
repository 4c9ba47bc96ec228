//! ListParts: the parts of an upload that the service already has, which a resumed run need not send again.

use http::{Method, StatusCode};

use super::draft::{self, flag, number};
use crate::{
    checksum::{Algorithm, Checksum},
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, PartNumber, UploadId},
    xml::{Document, XmlError},
};

/// Which parts to list.
#[derive(Debug, Clone, Copy)]
pub struct ListParts<'a> {
    /// The object to be.
    pub key: &'a Key,
    /// The upload.
    pub upload_id: &'a UploadId,
    /// Only parts after this one, as [`ListPartsOutput::next`] said.
    pub part_number_marker: Option<PartNumber>,
    /// At most so many; the service has its own limit, usually 1,000.
    pub max_parts: Option<u32>,
}

/// One page of parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPartsOutput {
    /// The parts, in the order of their numbers, with holes where none was sent.
    pub parts: Vec<ListedPart>,
    /// Where the next page begins; present exactly when there is one.
    pub next: Option<PartNumber>,
}

/// A part as the service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// Its place.
    pub number: PartNumber,
    /// Its size in bytes.
    pub size: u64,
    /// Its tag.
    pub etag: ETag,
    /// Its checksum, if it was sent with one.
    pub checksum: Option<Checksum>,
    /// When it arrived, in Unix nanoseconds.
    pub last_modified_ns: Option<i64>,
}

/// S3's name for the document, and moto's.
const ROOTS: [&str; 2] = ["ListPartsResult", "ListPartsResponse"];

impl ListParts<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let max_parts = self.max_parts.map(|count| count.to_string());
        let marker = self.part_number_marker.map(|number| number.to_string());
        let pairs = [
            ("max-parts", max_parts.as_deref()),
            ("part-number-marker", marker.as_deref()),
            ("uploadId", Some(self.upload_id.as_str())),
        ];
        let query: Vec<_> = pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        draft::about_object(head, Method::GET, address, self.key, &query);
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, a part lacks its number, size or tag, or a next page is announced
    /// that begins nowhere.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<ListPartsOutput, ServiceError> {
        draft::expect_document(status, headers, body, &ROOTS, |document| {
            let mut output = ListPartsOutput::default();
            let (mut truncated, mut marker) = (false, None);
            while let Some(element) = document.child()? {
                match element.name() {
                    "Part" => output.parts.push(read_part(document)?),
                    "IsTruncated" => truncated = flag(document)?,
                    // The last page of some servers says 0 here, which is no part.
                    "NextPartNumberMarker" => marker = read_number(document).ok(),
                    _ => document.skip()?,
                }
            }
            if truncated {
                output.next = Some(marker.ok_or(XmlError::Element { element: "NextPartNumberMarker" })?);
            }
            Ok(output)
        })
    }
}

fn read_part(document: &mut Document<'_>) -> Result<ListedPart, XmlError> {
    let (mut place, mut size, mut etag, mut checksum, mut last_modified_ns) = (None, None, None, None, None);
    while let Some(element) = document.child()? {
        match (element.name(), Algorithm::of_element(element.name())) {
            ("PartNumber", _) => place = Some(read_number(document)?),
            ("Size", _) => size = Some(number(document, "Size")?),
            ("ETag", _) => etag = ETag::parse(document.text()?).ok(),
            ("LastModified", _) => last_modified_ns = date::iso_to_unix_ns(document.text()?.trim()),
            (_, Some(algorithm)) => checksum = Checksum::parse_base64(algorithm, document.text()?.trim()),
            (_, None) => document.skip()?,
        }
    }
    Ok(ListedPart {
        number: place.ok_or(XmlError::Element { element: "PartNumber" })?,
        size: size.ok_or(XmlError::Element { element: "Size" })?,
        etag: etag.ok_or(XmlError::Element { element: "ETag" })?,
        checksum,
        last_modified_ns,
    })
}

fn read_number(document: &mut Document<'_>) -> Result<PartNumber, XmlError> {
    PartNumber::new(number(document, "PartNumber")?).map_err(|_| XmlError::Element { element: "PartNumber" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::draft::tests::{address, key, shown},
        *,
    };
    use crate::{checksum::Crc64Nvme, error::Kind};

    fn parse(body: &str) -> Result<ListPartsOutput, ServiceError> {
        ListParts::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let (key, upload_id) = (key("k"), UploadId::parse("u").unwrap());
        let first = ListParts { key: &key, upload_id: &upload_id, part_number_marker: None, max_parts: None };
        assert_eq!(shown(|text| first.request(&address(), text)), "GET /b/k?uploadId=u\nhost: h:9");
        let second = ListParts { part_number_marker: PartNumber::new(7).ok(), max_parts: Some(2), ..first };
        let expected = "GET /b/k?max-parts=2&part-number-marker=7&uploadId=u\nhost: h:9";
        assert_eq!(shown(|text| second.request(&address(), text)), expected);
    }

    #[test]
    fn pages_with_holes() {
        let part = |number: u32| {
            format!(
                "<Part><PartNumber>{number}</PartNumber><LastModified>2009-10-12T17:50:30Z</LastModified>\
                 <ETag>&quot;x&quot;</ETag><Size>5</Size><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></Part>"
            )
        };
        let page = format!(
            "<ListPartsResult><UploadId>u</UploadId><PartNumberMarker>0</PartNumberMarker>\
             <NextPartNumberMarker>5</NextPartNumberMarker><MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>{}{}\
             </ListPartsResult>",
            part(2),
            part(5)
        );
        let output = parse(&page).unwrap();
        assert_eq!(output.parts.iter().map(|part| part.number.number()).collect::<Vec<_>>(), [2, 5]);
        assert_eq!((output.parts[0].size, output.parts[0].checksum), (5, Some(Crc64Nvme(0).into())));
        assert_eq!(output.next.map(PartNumber::number), Some(5));
        let last = parse("<ListPartsResult><NextPartNumberMarker>0</NextPartNumberMarker></ListPartsResult>").unwrap();
        assert_eq!(parse("<ListPartsResponse></ListPartsResponse>").unwrap(), last, "moto's");
        assert_eq!(last, ListPartsOutput::default());
        for broken in [
            page.replace("<NextPartNumberMarker>5</NextPartNumberMarker>", ""),
            page.replace("<Size>5</Size>", ""),
            page.replace("<PartNumber>2</PartNumber>", "<PartNumber>10001</PartNumber>"),
        ] {
            assert_eq!(parse(&broken).unwrap_err().kind, Kind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ListParts::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
