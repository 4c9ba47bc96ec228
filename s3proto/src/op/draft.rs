//! What all operations share: the request line, the headers that most of them carry, and the two ways to read an
//! answer.

use http::{Method, StatusCode};

use crate::{
    checksum::{Algorithm, CONTENT_MD5, Checksum, ChecksumType, Md5Digest, StoredChecksum, X_AMZ_CHECKSUM_TYPE},
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    name::{ETag, Key},
    text,
    xml::{Document, XmlError},
};

pub(super) const X_AMZ_VERSION_ID: &str = "x-amz-version-id";
const X_AMZ_REQUEST_PAYER: &str = "x-amz-request-payer";

/// One pair of a query.
pub(super) type Pair<'a> = (&'static str, &'a str);

/// Those of the pairs that there are, gathered in `room`: the hot operations allocate nothing.
pub(super) fn given<'a, 'b>(pairs: &[Option<Pair<'a>>], room: &'b mut [Pair<'a>]) -> &'b [Pair<'a>] {
    let mut count = 0;
    for pair in pairs.iter().flatten() {
        room[count] = *pair;
        count += 1;
    }
    &room[..count]
}

/// A request about one object; the query's pairs come in the order of their names, as they are signed.
pub(super) fn about_object(head: &mut HeadText, method: Method, address: &Address, key: &Key, query: &[Pair<'_>]) {
    draft(head, method, address, |target| address.push_path_for(target, key), query);
}

/// A request about the bucket; the query's pairs come in the order of their names, as they are signed.
pub(super) fn about_bucket(head: &mut HeadText, method: Method, address: &Address, query: &[Pair<'_>]) {
    draft(head, method, address, |target| target.push_str(address.bucket_path()), query);
}

fn draft(
    head: &mut HeadText,
    method: Method,
    address: &Address,
    write_path: impl FnOnce(&mut String),
    query: &[Pair<'_>],
) {
    debug_assert!(query.is_sorted(), "{query:?} is not in the order in which it is signed");
    // Every byte is percent-encoded here or was checked when the endpoint was parsed.
    head.begin(&method, |target| {
        write_path(target);
        for (index, (name, value)) in query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            text::push_query(target, value.as_bytes());
        }
    });
    head.header("host", address.host_header());
    if address.requester_pays() {
        head.header(X_AMZ_REQUEST_PAYER, "requester");
    }
}

/// Says in a request that copies that whoever makes it pays, if only the bucket that is copied from wants it said.
pub(super) fn copy_source_payer(head: &mut HeadText, address: &Address) {
    if address.copy_source_requester_pays() && !address.requester_pays() {
        head.header(X_AMZ_REQUEST_PAYER, "requester");
    }
}

pub(super) fn content_length(head: &mut HeadText, bytes: u64) {
    head.number("content-length", bytes);
}

/// Adds the checksums by which the service refuses a body that changed on its way.
pub(super) fn checksums(head: &mut HeadText, md5: Option<Md5Digest>, checksum: Option<Checksum>) {
    if let Some(md5) = md5 {
        head.header(CONTENT_MD5, &md5.to_base64());
    }
    if let Some(checksum) = checksum {
        head.header(checksum.algorithm().header(), &checksum.to_base64());
    }
}

pub(super) fn etag(headers: &Headers) -> Option<ETag> {
    ETag::parse(headers.text("etag")?).ok()
}

/// The checksum that the service keeps, whichever it is.
pub(super) fn stored_checksum(headers: &Headers) -> Option<StoredChecksum> {
    let (algorithm, text) =
        Algorithm::ALL.into_iter().find_map(|algorithm| Some((algorithm, headers.text(algorithm.header())?)))?;
    StoredChecksum::parse(algorithm, text, headers.text(X_AMZ_CHECKSUM_TYPE).and_then(ChecksumType::parse))
}

/// The checksum of what was sent, as the service computed it.
pub(super) fn echoed_checksum(headers: &Headers) -> Option<Checksum> {
    stored_checksum(headers).map(|stored| stored.checksum)
}

/// The answer of an operation whose success is told by the status. Such an answer has no body, but some services say 200
/// and put an `Error` document under it, which is that error.
pub(super) fn expect_success(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<(), ServiceError> {
    if status.is_success() && (body.is_empty() || !is_error_document(body)) {
        return Ok(());
    }
    Err(ServiceError::parse(status, headers, body))
}

fn is_error_document(body: &[u8]) -> bool {
    Document::open(body).and_then(|mut document| document.root("Error")).is_ok()
}

/// The answer of an operation whose success is told by a document with one of the given roots. A status of 200 was sent
/// before the work began, so an `Error` document under it is that error, and anything else tells nothing.
pub(super) fn expect_document<T>(
    status: StatusCode,
    headers: &Headers,
    body: &[u8],
    roots: &[&'static str],
    read: impl FnOnce(&mut Document<'_>) -> Result<T, XmlError>,
) -> Result<T, ServiceError> {
    if !status.is_success() {
        return Err(ServiceError::parse(status, headers, body));
    }
    let outcome = Document::open(body).and_then(|mut document| {
        document.root_among(roots)?;
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

    pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> Headers {
        let mut headers = Headers::new();
        pairs.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        headers
    }

    /// A request as a person reads it: its line, then its headers in the order of their names.
    pub(crate) fn shown(write: impl FnOnce(&mut HeadText)) -> String {
        let mut head = HeadText::new();
        write(&mut head);
        let mut lines: Vec<_> = head.lines().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.sort();
        format!("{} {}\n{}", head.method(), head.target(), lines.join("\n"))
    }
}
