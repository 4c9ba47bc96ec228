//! GetObjectAttributes: the parts of which an object was made, page by page, with their real sizes.
//!
//! AWS lists the parts only of an object that has a checksum; of any other it tells their number alone, and some servers
//! know nothing of the operation.

use http::{Method, StatusCode};

use super::draft::{self, flag, number};
use crate::{
    checksum::{Algorithm, Checksum},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key, PartNumber, VersionId},
    xml::{Document, XmlError},
};

/// Which object's parts to list.
#[derive(Debug, Clone, Copy)]
pub struct GetObjectAttributes<'a> {
    /// The object.
    pub key: &'a Key,
    /// This version of it, and not the latest.
    pub version: Option<&'a VersionId>,
    /// Only parts after this one, as [`GetObjectAttributesOutput::next`] said.
    pub part_number_marker: Option<PartNumber>,
    /// At most so many; the service has its own limit, usually 1,000.
    pub max_parts: Option<u32>,
}

/// One page of an object's parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetObjectAttributesOutput {
    /// The object's tag.
    pub etag: Option<ETag>,
    /// Bytes of the whole object.
    pub object_size: Option<u64>,
    /// How many parts there are, if it was made of parts.
    pub parts_count: Option<u32>,
    /// The parts, in the order of their numbers. None where the service does not tell them.
    pub parts: Vec<ObjectPart>,
    /// Where the next page begins; present exactly when there is one.
    pub next: Option<PartNumber>,
}

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its place.
    pub number: PartNumber,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum, if the object has one that is kept of parts too.
    pub checksum: Option<Checksum>,
}

/// The documentation's name for the document, and the one that services send.
const ROOTS: [&str; 2] = ["GetObjectAttributesOutput", "GetObjectAttributesResponse"];

impl GetObjectAttributes<'_> {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        let pairs = [Some(("attributes", "")), self.version.map(|version| ("versionId", version.as_str()))];
        draft::about_object(head, Method::GET, address, self.key, draft::given(&pairs, &mut [("", ""); 2]));
        head.header("x-amz-object-attributes", "ETag,ObjectParts,ObjectSize");
        if let Some(count) = self.max_parts {
            head.number("x-amz-max-parts", u64::from(count));
        }
        if let Some(marker) = self.part_number_marker {
            head.number("x-amz-part-number-marker", u64::from(marker.number()));
        }
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, a part lacks its number or size, or a next page is announced that begins
    /// nowhere.
    pub fn parse(
        status: StatusCode,
        headers: &Headers,
        body: &[u8],
    ) -> Result<GetObjectAttributesOutput, ServiceError> {
        draft::expect_document(status, headers, body, &ROOTS, |document| {
            let mut output = GetObjectAttributesOutput::default();
            while let Some(element) = document.child()? {
                match element.name() {
                    "ETag" => output.etag = ETag::parse(document.text()?).ok(),
                    "ObjectSize" => output.object_size = Some(number(document, "ObjectSize")?),
                    "ObjectParts" => read_parts(document, &mut output)?,
                    _ => document.skip()?,
                }
            }
            Ok(output)
        })
    }
}

fn read_parts(document: &mut Document<'_>, output: &mut GetObjectAttributesOutput) -> Result<(), XmlError> {
    let (mut truncated, mut marker) = (false, None);
    while let Some(element) = document.child()? {
        match element.name() {
            "Part" => output.parts.push(read_part(document)?),
            // The latter is what moto calls it.
            "PartsCount" | "TotalPartsCount" => output.parts_count = Some(number(document, "PartsCount")?),
            "IsTruncated" => truncated = flag(document)?,
            "NextPartNumberMarker" => marker = read_number(document).ok(),
            _ => document.skip()?,
        }
    }
    if truncated {
        output.next = Some(marker.ok_or(XmlError::Element { element: "NextPartNumberMarker" })?);
    }
    Ok(())
}

fn read_part(document: &mut Document<'_>) -> Result<ObjectPart, XmlError> {
    let (mut place, mut size, mut checksum) = (None, None, None);
    while let Some(element) = document.child()? {
        match (element.name(), Algorithm::of_element(element.name())) {
            ("PartNumber", _) => place = Some(read_number(document)?),
            ("Size", _) => size = Some(number(document, "Size")?),
            (_, Some(algorithm)) => checksum = Checksum::parse_base64(algorithm, document.text()?.trim()),
            (_, None) => document.skip()?,
        }
    }
    Ok(ObjectPart {
        number: place.ok_or(XmlError::Element { element: "PartNumber" })?,
        size: size.ok_or(XmlError::Element { element: "Size" })?,
        checksum,
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
    use crate::error::{Class, Kind};

    fn parse(body: &str) -> Result<GetObjectAttributesOutput, ServiceError> {
        GetObjectAttributes::parse(StatusCode::OK, &Headers::new(), body.as_bytes())
    }

    #[test]
    fn the_request() {
        let key = key("k");
        let first = GetObjectAttributes { key: &key, version: None, part_number_marker: None, max_parts: None };
        let expected = "GET /b/k?attributes=\nhost: h:9\nx-amz-object-attributes: ETag,ObjectParts,ObjectSize";
        assert_eq!(shown(|text| first.request(&address(), text)), expected);
        let second = GetObjectAttributes { part_number_marker: PartNumber::new(7).ok(), max_parts: Some(2), ..first };
        let expected = "GET /b/k?attributes=\nhost: h:9\nx-amz-max-parts: 2\n\
            x-amz-object-attributes: ETag,ObjectParts,ObjectSize\nx-amz-part-number-marker: 7";
        assert_eq!(shown(|text| second.request(&address(), text)), expected);
    }

    #[test]
    fn a_page_of_parts() {
        let page = "<?xml version=\"1.0\"?><GetObjectAttributesResponse xmlns=\"x\"><ETag>x-3</ETag><ObjectParts>\
            <PartsCount>3</PartsCount><PartNumberMarker>0</PartNumberMarker>\
            <NextPartNumberMarker>2</NextPartNumberMarker><MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>\
            <Part><PartNumber>1</PartNumber><Size>6</Size><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>\
            <Part><PartNumber>2</PartNumber><Size>5</Size></Part></ObjectParts><ObjectSize>12</ObjectSize>\
            </GetObjectAttributesResponse>";
        let output = parse(page).unwrap();
        let sizes: Vec<_> = output.parts.iter().map(|part| (part.number.number(), part.size)).collect();
        assert_eq!((sizes.as_slice(), output.parts_count), ([(1, 6), (2, 5)].as_slice(), Some(3)));
        assert_eq!((output.object_size, output.next.map(PartNumber::number)), (Some(12), Some(2)));
        assert_eq!(output.parts[0].checksum, Checksum::parse_base64(Algorithm::Crc32, "y/Q5Jg=="));
        for broken in [
            page.replace("<NextPartNumberMarker>2</NextPartNumberMarker>", ""),
            page.replace("<Size>5</Size>", ""),
            page.replace("<PartNumber>2</PartNumber>", "<PartNumber>10001</PartNumber>"),
        ] {
            assert_eq!(parse(&broken).unwrap_err().kind, Kind::Malformed);
        }
    }

    #[test]
    fn of_an_object_without_parts_none_are_told() {
        let output =
            parse("<GetObjectAttributesOutput><ObjectSize>9</ObjectSize></GetObjectAttributesOutput>").unwrap();
        assert_eq!((output.object_size, output.parts_count, output.parts.len()), (Some(9), None, 0));
        let error = parse("<Error><Code>AccessDenied</Code></Error>").unwrap_err();
        assert_eq!(error.class(), Class::Denied);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = GetObjectAttributes::parse(StatusCode::OK, &Headers::new(), &body);
        }
    }
}
