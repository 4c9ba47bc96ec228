//! AWS Signature Version 4 for S3, with the day's key kept and every buffer reused: a signature costs a few hashes.
//!
//! What is signed is what is sent. The path and the query are taken from the request line as they stand, since
//! [`crate::endpoint`] and [`crate::op`] already encode them by S3's rules; all headers are covered but those that
//! proxies and HTTP libraries are free to change.

mod canonical;
mod key;

use std::fmt;

use http::{HeaderName, HeaderValue, header::AUTHORIZATION, request::Parts};
use sha2::{Digest, Sha256};

use crate::{date, text};
use key::SigningKey;

static X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
static X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
static X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The SHA-256 of no bytes.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A text that must not be shown. It has no `Display`, and `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text out of sight.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the key; it travels in the clear.
    pub access_key_id: String,
    /// The key itself; it never travels.
    pub secret_access_key: Secret,
    /// What makes temporary credentials valid; it travels with every request.
    pub session_token: Option<Secret>,
}

/// What the signature says about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a checksum header, which is signed, or TLS guards the bytes.
    Unsigned,
    /// There is no body.
    Empty,
    /// The SHA-256 of the body.
    Sha256([u8; 32]),
}

/// Signs request heads for one set of credentials in one region.
pub struct Signer {
    identity: Option<Identity>,
    region: String,
    canonical: String,
    to_sign: String,
    authorization: String,
}

struct Identity {
    credentials: Credentials,
    token: Option<HeaderValue>,
    key: Option<SigningKey>,
    /// The second whose stamp was last written; requests come many to a second.
    stamp: Option<(i64, [u8; 8], HeaderValue)>,
}

impl Signer {
    /// Without credentials requests go out as they are, which is how public buckets are read.
    ///
    /// Bytes that no header can carry make a token or an access key useless; such credentials sign what they can and
    /// the service refuses them.
    #[must_use]
    pub fn new(credentials: Option<Credentials>, region: String) -> Self {
        let identity = credentials.map(|credentials| {
            let token = credentials.session_token.as_ref().and_then(|token| {
                let mut value = HeaderValue::try_from(token.expose()).ok()?;
                value.set_sensitive(true);
                Some(value)
            });
            Identity { credentials, token, key: None, stamp: None }
        });
        Self { identity, region, canonical: String::new(), to_sign: String::new(), authorization: String::new() }
    }

    /// The region in force.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Signs for another region from now on, once a service has said where the bucket is.
    pub fn set_region(&mut self, region: String) {
        self.region = region;
        if let Some(identity) = &mut self.identity {
            identity.key = None;
        }
    }

    /// Adds the signature and the headers it needs. Signing again, for another attempt, replaces them.
    ///
    /// `Host` must be present: hyper would add it too late for the signature to cover it.
    pub fn sign(&mut self, parts: &mut Parts, payload: Payload, now_unix_seconds: i64) {
        let Some(identity) = &mut self.identity else { return };
        debug_assert!(parts.headers.contains_key(http::header::HOST), "a request is signed with its Host");
        let (day, stamp) = identity.stamp(now_unix_seconds);
        parts.headers.remove(AUTHORIZATION);
        parts.headers.insert(&X_AMZ_DATE, stamp.clone());
        parts.headers.insert(&X_AMZ_CONTENT_SHA256, payload.header_value());
        if let Some(token) = &identity.token {
            parts.headers.insert(&X_AMZ_SECURITY_TOKEN, token.clone());
        }

        // The authorization is written around the list of signed names, which the canonical request yields on the way.
        let day_text = std::str::from_utf8(&day).expect("a day is eight digits");
        let out = &mut self.authorization;
        out.clear();
        out.push_str("AWS4-HMAC-SHA256 Credential=");
        out.push_str(&identity.credentials.access_key_id);
        out.push('/');
        let scope_start = out.len();
        for piece in [day_text, "/", &self.region, "/s3/aws4_request"] {
            out.push_str(piece);
        }
        let scope_end = out.len();
        out.push_str(", SignedHeaders=");
        self.canonical.clear();
        canonical::write(&mut self.canonical, out, parts);

        self.to_sign.clear();
        self.to_sign.push_str("AWS4-HMAC-SHA256\n");
        self.to_sign.push_str(stamp.to_str().expect("a stamp is digits and two letters"));
        self.to_sign.push('\n');
        self.to_sign.push_str(&out[scope_start..scope_end]);
        self.to_sign.push('\n');
        text::push_hex(&mut self.to_sign, &Sha256::digest(self.canonical.as_bytes()));

        let key = match identity.key.take() {
            Some(key) if key.day() == day => key,
            Some(_) | None => SigningKey::derive(&identity.credentials.secret_access_key, day, &self.region),
        };
        out.push_str(", Signature=");
        text::push_hex(out, &key.mac(self.to_sign.as_bytes()));
        identity.key = Some(key);

        if let Ok(mut value) = HeaderValue::from_str(out) {
            value.set_sensitive(true);
            parts.headers.insert(AUTHORIZATION, value);
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access_key_id = self.identity.as_ref().map(|identity| &identity.credentials.access_key_id);
        f.debug_struct("Signer").field("access_key_id", &access_key_id).field("region", &self.region).finish()
    }
}

impl Identity {
    fn stamp(&mut self, now_unix_seconds: i64) -> ([u8; 8], HeaderValue) {
        match &self.stamp {
            Some((second, day, value)) if *second == now_unix_seconds => (*day, value.clone()),
            Some(_) | None => {
                let (day, stamp) = date::sigv4_stamp(now_unix_seconds);
                let value = HeaderValue::from_bytes(&stamp).expect("a stamp is digits and two letters");
                self.stamp = Some((now_unix_seconds, day, value.clone()));
                (day, value)
            }
        }
    }
}

impl Payload {
    fn header_value(self) -> HeaderValue {
        match self {
            Self::Unsigned => HeaderValue::from_static(UNSIGNED),
            Self::Empty => HeaderValue::from_static(EMPTY_SHA256),
            Self::Sha256(digest) => {
                let mut hex = String::with_capacity(64);
                text::push_hex(&mut hex, &digest);
                HeaderValue::try_from(hex).expect("hexadecimal digits are valid in a header")
            }
        }
    }
}

#[cfg(test)]
mod tests;
