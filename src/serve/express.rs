//! What is different about directory buckets (S3 Express One Zone), which end in `--x-s3`: a model of AWS's, since no other
//! server has them.
//!
//! A request has to be signed for the service `s3express` with the keys of a session, whose token has a header of its own;
//! the session is opened with CreateSession, signed for `s3express` with the caller's own keys. The protocol below knows
//! neither, so the signature is verified here, by AWS's own signer, and the request signed again as the protocol knows it.
//! Listings come in no order, start nowhere but at the beginning, and know only prefixes that end with a slash; ETags are no
//! MD5s, whatever they look like; and there is no Content-MD5.

use super::checksums::encode_hex;
use super::listing::{Keyed, Page};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use md5::{Digest, Md5};
use s3s::Body;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Who may open sessions, and those that are open.
#[derive(Debug)]
pub(super) struct Express {
    keys: HashMap<String, String>,
    /// The keys that requests are signed with anew.
    own: (String, String),
    lasts: Duration,
    sessions: Mutex<HashMap<String, Session>>,
}

#[derive(Debug, Clone)]
struct Session {
    bucket: String,
    secret: String,
    token: String,
    expires_at: SystemTime,
}

/// An answer that ends the request here.
type Refused = Box<Response<Body>>;

/// Whether this is the name of a directory bucket.
pub(super) fn is_directory_bucket(bucket: &str) -> bool {
    bucket.ends_with("--x-s3")
}

/// An ETag that looks like the MD5 it is made from, and is another.
pub(super) fn opaque(etag: &str) -> String {
    encode_hex(&Md5::digest(etag.as_bytes()))
}

/// A page of a listing in the order of the bucket, which is no order of its keys. `all` is the listing as one page.
pub(super) fn unordered<T: Keyed>(all: Page<T>, after: &str, count_max: usize) -> Page<T> {
    let place = |text: &str| encode_hex(&Md5::digest(text.as_bytes()));
    let mut entries: Vec<_> = all.entries.into_iter().map(|entry| (place(entry.key()), entry)).collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    entries.retain(|(place, _)| place.as_str() > after);
    let more = entries.len() > count_max;
    entries.truncate(count_max);
    let next = entries.last().filter(|_| more).map(|(place, _)| place.clone());
    // Common prefixes come on the first page, whatever their number: nothing here asks for many.
    let prefixes = if after.is_empty() { all.prefixes } else { Vec::new() };
    Page { entries: entries.into_iter().map(|(_, entry)| entry).collect(), prefixes, next }
}

impl Express {
    /// Sessions for who has one of the keys, each for so long.
    pub(super) fn new(credentials: &[(String, String)], lasts: Duration) -> Express {
        let own = credentials.first().cloned().unwrap_or_default();
        Express { keys: credentials.iter().cloned().collect(), own, lasts, sessions: Mutex::default() }
    }

    /// Lets a request to a directory bucket in, signed anew for the protocol, or answers it. Others pass as they are.
    pub(super) fn admit(&self, mut request: Request<Incoming>) -> Result<Request<Incoming>, Refused> {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if !is_directory_bucket(bucket) {
            return Ok(request);
        }
        let bucket = bucket.to_owned();
        let queries: Vec<_> = request.uri().query().unwrap_or_default().split('&').collect();
        let asks =
            |name: &str| queries.iter().find_map(|pair| pair.split('=').next().filter(|it| *it == name)).is_some();
        let value = |name: &str| queries.iter().find_map(|pair| pair.split_once('=').filter(|(it, _)| *it == name));
        if request.method() == Method::GET && key.is_empty() && asks("session") {
            return Err(Box::new(self.open_session(&request, &bucket)));
        }
        if request.method() == Method::GET && key.is_empty() {
            if asks("start-after") {
                return refuse(StatusCode::BAD_REQUEST, "InvalidArgument", "start-after is not supported here");
            }
            let prefix = value("prefix").map_or("", |(_, prefix)| prefix);
            if !prefix.is_empty() && !prefix.ends_with('/') && !prefix.ends_with("%2F") {
                return refuse(StatusCode::BAD_REQUEST, "InvalidRequest", "a prefix here ends with a slash");
            }
        }
        if request.method() == Method::PUT && request.headers().contains_key("content-md5") {
            return refuse(StatusCode::BAD_REQUEST, "InvalidRequest", "Content-MD5 is not supported here");
        }
        let signature = Signature::of(&request)?;
        let session = self.sessions.lock().expect("no panic while it is locked").get(&signature.key).cloned();
        let Some(session) = session.filter(|session| session.bucket == bucket) else {
            return refuse(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "these are not the keys of a session with this bucket",
            );
        };
        if request.headers().get("x-amz-s3session-token").map(|token| token.as_bytes())
            != Some(session.token.as_bytes())
        {
            return refuse(StatusCode::BAD_REQUEST, "InvalidToken", "x-amz-s3session-token is not the session's");
        }
        if SystemTime::now() >= session.expires_at {
            return refuse(StatusCode::BAD_REQUEST, "ExpiredToken", "the session has ended");
        }
        signature.verify(&request, &session.secret)?;
        let (key, secret) = &self.own;
        let signed_anew = signature.sign(&request, key, secret, "s3")?;
        let value = signed_anew.parse().expect("a signature is a header");
        request.headers_mut().insert("authorization", value);
        Ok(request)
    }

    fn open_session(&self, request: &Request<Incoming>, bucket: &str) -> Response<Body> {
        let checked = Signature::of(request).and_then(|signature| match self.keys.get(&signature.key) {
            Some(secret) => signature.verify(request, secret),
            None => refuse(StatusCode::FORBIDDEN, "InvalidAccessKeyId", "there is no such key"),
        });
        if let Err(refused) = checked {
            return *refused;
        }
        let word = || format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let expires_at = SystemTime::now() + self.lasts;
        let (key, session) =
            (word(), Session { bucket: bucket.to_owned(), secret: word(), token: word() + &word(), expires_at });
        let expiration = OffsetDateTime::from(expires_at).format(&Rfc3339).expect("a time has a spelling");
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CreateSessionResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Credentials><SessionToken>{}</SessionToken>\
             <SecretAccessKey>{}</SecretAccessKey><AccessKeyId>{key}</AccessKeyId><Expiration>{expiration}</Expiration>\
             </Credentials></CreateSessionResult>",
            session.token, session.secret
        );
        self.sessions.lock().expect("no panic while it is locked").insert(key, session);
        answer(StatusCode::OK, document)
    }
}

/// What an `Authorization` says.
struct Signature {
    key: String,
    region: String,
    at: SystemTime,
    signed_headers: String,
    signature: String,
}

impl Signature {
    fn of(request: &Request<Incoming>) -> Result<Signature, Refused> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(rest) = header("authorization").and_then(|text| text.strip_prefix("AWS4-HMAC-SHA256 ")) else {
            return refuse(StatusCode::FORBIDDEN, "AccessDenied", "requests here are signed");
        };
        let field = |name: &str| {
            let fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
            fields.filter(|(it, _)| *it == name).map(|(_, value)| value).next().unwrap_or_default()
        };
        let credential: Vec<_> = field("Credential").split('/').collect();
        let [key, _day, region, service, _] = credential[..] else {
            return refuse(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", "the credential is none");
        };
        if service != "s3express" {
            return refuse(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", "sign for s3express");
        }
        let stamp = format_description!("[year][month][day]T[hour][minute][second]Z");
        let at = header("x-amz-date").and_then(|text| time::PrimitiveDateTime::parse(text, stamp).ok());
        let Some(at) = at.and_then(|at| u64::try_from(at.assume_utc().unix_timestamp()).ok()) else {
            return refuse(StatusCode::FORBIDDEN, "AccessDenied", "x-amz-date is no time");
        };
        let (signed_headers, signature) = (field("SignedHeaders").to_owned(), field("Signature").to_owned());
        let at = UNIX_EPOCH + Duration::from_secs(at);
        Ok(Signature { key: key.to_owned(), region: region.to_owned(), at, signed_headers, signature })
    }

    fn verify(&self, request: &Request<Incoming>, secret: &str) -> Result<(), Refused> {
        let expected = self.sign(request, &self.key, secret, "s3express")?;
        match expected.ends_with(&format!("Signature={}", self.signature)) && !self.signature.is_empty() {
            true => Ok(()),
            false => refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "the signature is another"),
        }
    }

    /// The `Authorization` of the same request, of the same time, for this key and service.
    fn sign(&self, request: &Request<Incoming>, key: &str, secret: &str, service: &str) -> Result<String, Refused> {
        let identity = Credentials::new(key, secret, None, None, "express").into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(self.at)
            .settings(settings)
            .build()
            .expect("nothing is missing")
            .into();
        let malformed = || refuse(StatusCode::BAD_REQUEST, "InvalidRequest", "what is signed cannot be signed");
        // The signer adds these two itself.
        let names = self.signed_headers.split(';').filter(|it| !["x-amz-date", "x-amz-content-sha256"].contains(it));
        let pairs = names.map(|name| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            (name, value.unwrap_or_default())
        });
        let digest = request.headers().get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
        let body = match digest {
            None | Some("UNSIGNED-PAYLOAD") => SignableBody::UnsignedPayload,
            Some(digest) => SignableBody::Precomputed(digest.to_owned()),
        };
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let url = format!("http://{host}{}", request.uri().path_and_query().map_or("/", |target| target.as_str()));
        let Ok(signable) = SignableRequest::new(request.method().as_str(), url, pairs, body) else {
            return malformed();
        };
        let Ok(signed) = sign(signable, &params) else { return malformed() };
        let (instructions, _) = signed.into_parts();
        let authorization = instructions.headers().find(|(name, _)| *name == "authorization");
        Ok(authorization.map(|(_, value)| value.to_owned()).unwrap_or_default())
    }
}

fn refuse<T>(status: StatusCode, code: &str, message: &str) -> Result<T, Refused> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Err(Box::new(answer(status, document)))
}

fn answer(status: StatusCode, document: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(document));
    *answer.status_mut() = status;
    let xml = http::HeaderValue::from_static("application/xml");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, xml);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn pages_in_no_order_are_together_the_whole(
            keys in prop::collection::btree_set("[a-c/]{1,6}", 0..60),
            count_max in 1_usize..20,
        ) {
            let all = || Page { entries: keys.iter().cloned().collect::<Vec<String>>(), prefixes: Vec::new(), next: None };
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let page = unordered(all(), &after, count_max);
                prop_assert!(page.entries.len() <= count_max);
                seen.extend(page.entries);
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            prop_assert_eq!(seen.len(), keys.len());
            prop_assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), keys);
        }
    }

    #[test]
    fn an_etag_looks_like_what_it_is_not() {
        let md5 = encode_hex(&Md5::digest(b"content"));
        assert_eq!(opaque(&md5).len(), md5.len());
        assert_ne!(opaque(&md5), md5);
        assert!(is_directory_bucket("base--usw2-az1--x-s3") && !is_directory_bucket("plain"));
    }
}
