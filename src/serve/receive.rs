//! Receiving a body: its bytes into the storage, its length, MD5 and checksum against what the client stated.

use super::checksums::{Algorithm, Checksum, Coverage, Hasher, encode, encode_hex};
use super::store::{Body, Sink};
use futures_util::StreamExt as _;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};

/// What a client states about the body it sends.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) length_bytes: Option<i64>,
    /// Base64.
    pub(super) content_md5: Option<String>,
    /// Values in base64 from the headers.
    pub(super) checksums: Vec<(Algorithm, String)>,
    /// What a trailer will bring, or what the object should be kept with.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) trailers: Option<TrailingHeaders>,
    /// What the checksum to be kept is computed with, if not with what the client stated.
    pub(super) kept: Option<Algorithm>,
}

/// A body that is what its client said it is.
pub(super) struct Received {
    pub(super) body: Body,
    /// The MD5 in hexadecimal digits, without quotes.
    pub(super) etag: String,
    pub(super) checksum: Checksum,
    /// The value that the client stated, or that it announced only the algorithm of.
    pub(super) stated: Option<(Algorithm, String)>,
}

impl Claims {
    fn algorithm(&self) -> S3Result<Option<Algorithm>> {
        match (self.checksums.as_slice(), self.algorithm) {
            ([], announced) => Ok(announced),
            ([(stated, _)], announced) if announced.is_none_or(|announced| announced == *stated) => Ok(Some(*stated)),
            ([_], _) => Err(s3_error!(InvalidRequest, "x-amz-checksum-algorithm and the checksum header differ.")),
            (_, _) => Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header.")),
        }
    }
}

/// Streams the body into the sink and judges it at its end. What is refused leaves nothing behind.
pub(super) async fn receive(blob: Option<StreamingBlob>, claims: Claims, mut sink: Sink) -> S3Result<Received> {
    let stated = claims.algorithm()?;
    let kept = claims.kept.or(stated).unwrap_or(Algorithm::Crc64Nvme);
    let mut algorithms = vec![kept];
    algorithms.extend(stated.filter(|stated| *stated != kept));
    let mut hasher = Hasher::new(&algorithms);
    if let Some(mut blob) = blob {
        while let Some(chunk) = blob.next().await {
            let chunk = chunk.map_err(broken_body)?;
            hasher.update(&chunk);
            sink.write(chunk).map_err(S3Error::internal_error)?;
        }
    }
    let (md5, sums) = hasher.finish();
    let body = sink.finish().map_err(S3Error::internal_error)?;
    if claims.length_bytes.is_some_and(|length_bytes| u64::try_from(length_bytes) != Ok(body.size_bytes())) {
        return Err(s3_error!(IncompleteBody));
    }
    check_md5(claims.content_md5.as_deref(), &md5)?;
    let sum_of = |wanted: Algorithm| sums.iter().find(|(algorithm, _)| *algorithm == wanted).cloned();
    let stated = stated.and_then(sum_of);
    if let Some((algorithm, value)) = &stated {
        let trailer = claims.trailers.and_then(|trailers| trailers.take());
        let trailer = trailer.as_ref().and_then(|trailers| trailers.get(algorithm.header())?.to_str().ok());
        let header = claims.checksums.first().map(|(_, value)| value.as_str());
        if header.into_iter().chain(trailer).any(|claimed| claimed != value) {
            return Err(s3_error!(BadDigest, "The {} you specified did not match.", algorithm.name()));
        }
    }
    let (algorithm, value) = sum_of(kept).expect("it was asked for above");
    let checksum = Checksum { algorithm, coverage: Coverage::FullObject, value };
    Ok(Received { body, etag: encode_hex(&md5), checksum, stated })
}

/// Bytes that are already stored, hashed again because they become the body of something new.
pub(super) async fn rehash(body: Body, algorithm: Algorithm) -> S3Result<Received> {
    let mut hasher = Hasher::new(&[algorithm]);
    let mut reader = body.clone().reader();
    while let Some(chunk) = reader.next().await {
        hasher.update(&chunk.map_err(|source| S3Error::with_source(s3s::S3ErrorCode::InternalError, source))?);
        // A stored body never makes its reader wait, and other requests share this thread.
        tokio::task::yield_now().await;
    }
    let (md5, mut sums) = hasher.finish();
    let checksum = Checksum { algorithm, coverage: Coverage::FullObject, value: sums.remove(0).1 };
    Ok(Received { body, etag: encode_hex(&md5), checksum, stated: None })
}

fn check_md5(claimed: Option<&str>, md5: &[u8; 16]) -> S3Result<()> {
    /// Sixteen bytes in base64.
    const MD5_BASE64_BYTES: usize = 24;
    match claimed {
        None => Ok(()),
        Some(claimed) if claimed.len() != MD5_BASE64_BYTES => Err(s3_error!(InvalidDigest)),
        Some(claimed) if claimed != encode(md5) => {
            Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."))
        }
        Some(_) => Ok(()),
    }
}

/// Why a body ended early. s3s keeps the types of these errors to itself; their text is all there is to go by.
fn broken_body(source: StdError) -> S3Error {
    let text = source.to_string();
    let code = if text.contains("Sha256Mismatch") {
        s3s::S3ErrorCode::from_bytes(b"XAmzContentSHA256Mismatch").expect("a code is ASCII")
    } else if text.contains("SignatureMismatch") {
        s3s::S3ErrorCode::SignatureDoesNotMatch
    } else {
        s3s::S3ErrorCode::IncompleteBody
    };
    let mut error = S3Error::with_source(code, source);
    error.set_status_code(http::StatusCode::BAD_REQUEST);
    error
}
