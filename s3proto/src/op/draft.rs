//! What all operations share: the request line, the headers that most of them carry, and the two ways to read an
//! answer.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts, uri::PathAndQuery,
};

use crate::{
    checksum::{CONTENT_MD5, Crc64Nvme, Md5Digest, X_AMZ_CHECKSUM_CRC64NVME},
    endpoint::Address,
    error::ServiceError,
    name::{ETag, Key},
    text,
    xml::{Document, XmlError},
};

pub(super) static X_AMZ_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// One pair of a query.
pub(super) type Pair<'a> = (&'static str, &'a str);

/// A request about one object; the query's pairs come in the order of their names, as they are signed.
pub(super) fn about_object(method: Method, address: &Address, key: &Key, query: &[Pair<'_>]) -> Parts {
    let mut target = String::with_capacity(128 + key.as_bytes().len());
    address.push_path_for(&mut target, key);
    draft(method, address, target, query)
}

/// A request about the bucket; the query's pairs come in the order of their names, as they are signed.
pub(super) fn about_bucket(method: Method, address: &Address, query: &[Pair<'_>]) -> Parts {
    draft(method, address, address.bucket_path().to_owned(), query)
}

fn draft(method: Method, address: &Address, mut target: String, query: &[Pair<'_>]) -> Parts {
    debug_assert!(query.is_sorted(), "{query:?} is not in the order in which it is signed");
    for (index, (name, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        text::push_query(&mut target, value.as_bytes());
    }
    // Every byte was percent-encoded or checked when the endpoint was parsed, and every name is bounded.
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target)).expect("an encoded target is a valid one");
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = Uri::from(target);
    parts.headers = HeaderMap::with_capacity(12);
    parts.headers.insert(header::HOST, address.host_header());
    parts
}

pub(super) fn content_length(parts: &mut Parts, bytes: u64) {
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
}

/// Adds the checksums by which the service refuses a body that changed on its way.
pub(super) fn checksums(parts: &mut Parts, md5: Option<Md5Digest>, crc64nvme: Option<Crc64Nvme>) {
    if let Some(md5) = md5 {
        insert(parts, &CONTENT_MD5, md5.to_base64());
    }
    if let Some(crc) = crc64nvme {
        insert(parts, &X_AMZ_CHECKSUM_CRC64NVME, crc.to_base64());
    }
}

/// Inserts a value that this crate composed itself.
pub(super) fn insert(parts: &mut Parts, name: &HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("names and encoded values hold only visible ASCII");
    parts.headers.insert(name, value);
}

pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn etag(headers: &HeaderMap) -> Option<ETag> {
    ETag::parse(header_text(headers, &header::ETAG)?).ok()
}

pub(super) fn crc64nvme(headers: &HeaderMap) -> Option<Crc64Nvme> {
    Crc64Nvme::parse_base64(header_text(headers, &X_AMZ_CHECKSUM_CRC64NVME)?)
}

/// The answer of an operation whose success is told by the status. Such an answer has no body, but some services say 200
/// and put an `Error` document under it, which is that error.
pub(super) fn expect_success(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), ServiceError> {
    if status.is_success() && (body.is_empty() || !is_error_document(body)) {
        return Ok(());
    }
    Err(ServiceError::parse(status, headers, body))
}

fn is_error_document(body: &[u8]) -> bool {
    Document::open(body).and_then(|mut document| document.root("Error")).is_ok()
}

/// The answer of an operation whose success is told by a document with the given root. A status of 200 was sent
/// before the work began, so an `Error` document under it is that error, and anything else tells nothing.
pub(super) fn expect_document<T>(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    root: &'static str,
    read: impl FnOnce(&mut Document<'_>) -> Result<T, XmlError>,
) -> Result<T, ServiceError> {
    if !status.is_success() {
        return Err(ServiceError::parse(status, headers, body));
    }
    let outcome = Document::open(body).and_then(|mut document| {
        document.root(root)?;
        read(&mut document)
    });
    outcome.map_err(|error| match &error {
        XmlError::Root { found, .. } if found == "Error" => {
            let refused = ServiceError::parse(status, headers, body);
            if refused.code.is_empty() { ServiceError::malformed(status, headers, error) } else { refused }
        }
        _ => ServiceError::malformed(status, headers, error),
    })
}

/// Reads a number that has to be there.
pub(super) fn number<T: std::str::FromStr>(document: &mut Document<'_>, element: &'static str) -> Result<T, XmlError> {
    parsed(document.text()?, element)
}

/// The number that an element's text says.
pub(super) fn parsed<T: std::str::FromStr>(text: &str, element: &'static str) -> Result<T, XmlError> {
    text.trim().parse().map_err(|_| XmlError::Element { element })
}

/// Reads `true` or `false`.
pub(super) fn flag(document: &mut Document<'_>) -> Result<bool, XmlError> {
    Ok(document.text()?.trim().eq_ignore_ascii_case("true"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        endpoint::{Endpoint, choose_addressing},
        name::Bucket,
    };

    /// The bucket `b` at `http://h:9`, addressed by path.
    pub(crate) fn address() -> Address {
        let (endpoint, bucket) = (Endpoint::parse("http://h:9").unwrap(), Bucket::parse("b").unwrap());
        Address::new(&endpoint, &bucket, choose_addressing(&endpoint, &bucket, false))
    }

    pub(crate) fn key(text: &str) -> Key {
        Key::parse(text.as_bytes()).unwrap()
    }

    pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// A request as a person reads it: its line, then its headers in the order of their names.
    pub(crate) fn shown(parts: &Parts) -> String {
        let mut lines: Vec<_> =
            parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        format!("{} {}\n{}", parts.method, parts.uri, lines.join("\n"))
    }
}
