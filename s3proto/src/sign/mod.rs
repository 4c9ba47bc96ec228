//! AWS Signature Version 4 for S3, with the day's key kept and every buffer reused: a signature costs a few hashes.
//!
//! What is signed is what is sent. The path and the query are taken from the request line as they stand, since
//! [`crate::endpoint`] and [`crate::op`] already encode them by S3's rules; all headers are covered but those that
//! proxies and HTTP libraries are free to change.

mod canonical;
mod key;

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{date, head::HeadText, text};
use key::SigningKey;

const AUTHORIZATION: &str = "authorization";
const X_AMZ_DATE: &str = "x-amz-date";
const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
const X_AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";
const X_AMZ_S3SESSION_TOKEN: &str = "x-amz-s3session-token";

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

/// What a signature is for, and how a token travels with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// S3.
    #[default]
    S3,
    /// A directory bucket, asked for a session with it.
    Express,
    /// A directory bucket, within a session: its token has a header of its own.
    ExpressSession,
}

impl Scheme {
    /// The service's name in a signature.
    fn service(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Express | Self::ExpressSession => "s3express",
        }
    }

    /// How the scope of a signature ends.
    fn scope_end(self) -> &'static str {
        match self {
            Self::S3 => "/s3/aws4_request",
            Self::Express | Self::ExpressSession => "/s3express/aws4_request",
        }
    }

    fn token_header(self) -> &'static str {
        match self {
            Self::S3 | Self::Express => X_AMZ_SECURITY_TOKEN,
            Self::ExpressSession => X_AMZ_S3SESSION_TOKEN,
        }
    }
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
    scheme: Scheme,
    canonical: String,
    to_sign: String,
    authorization: String,
}

struct Identity {
    credentials: Credentials,
    key: Option<SigningKey>,
    /// The second whose day and stamp were last written; requests come many to a second.
    stamp: Option<(i64, [u8; 8], [u8; 16])>,
}

impl Signer {
    /// Without credentials requests go out as they are, which is how public buckets are read.
    ///
    /// Bytes that no header can carry make a token or an access key useless; such credentials sign what they can and
    /// the service refuses them.
    #[must_use]
    pub fn new(credentials: Option<Credentials>, region: String) -> Self {
        let identity = credentials.map(|credentials| Identity { credentials, key: None, stamp: None });
        let (canonical, to_sign, authorization) = (String::new(), String::new(), String::new());
        Self { identity, region, scheme: Scheme::S3, canonical, to_sign, authorization }
    }

    /// The same, for what is not S3 itself.
    #[must_use]
    pub fn with_scheme(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    /// The region in force.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Signs with other credentials from now on.
    pub fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.identity = credentials.map(|credentials| Identity { credentials, key: None, stamp: None });
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
    /// `Host` must be present, for the signature to cover it.
    pub fn sign(&mut self, head: &mut HeadText, payload: Payload, now_unix_seconds: i64) {
        let Some(identity) = &mut self.identity else { return };
        debug_assert!(head.value("host").is_some(), "a request is signed with its Host");
        let (day, stamp) = identity.stamp(now_unix_seconds);
        let stamp = std::str::from_utf8(&stamp).expect("a stamp is digits and two letters");
        let mut hex = [0; 64];
        let payload = payload.header_value(&mut hex);
        head.begin_signature();
        head.header(X_AMZ_DATE, stamp);
        head.header(X_AMZ_CONTENT_SHA256, payload);
        if let Some(token) = &identity.credentials.session_token {
            // Unfit for a header, it is of no use, and the service says so.
            let _ = head.try_header("", self.scheme.token_header(), token.expose());
        }

        // The authorization is written around the list of signed names, which the canonical request yields on the way.
        let day_text = std::str::from_utf8(&day).expect("a day is eight digits");
        let out = &mut self.authorization;
        out.clear();
        out.push_str("AWS4-HMAC-SHA256 Credential=");
        out.push_str(&identity.credentials.access_key_id);
        out.push('/');
        let scope_start = out.len();
        for piece in [day_text, "/", &self.region, self.scheme.scope_end()] {
            out.push_str(piece);
        }
        let scope_end = out.len();
        out.push_str(", SignedHeaders=");
        self.canonical.clear();
        canonical::write(&mut self.canonical, out, head, payload);

        self.to_sign.clear();
        self.to_sign.push_str("AWS4-HMAC-SHA256\n");
        self.to_sign.push_str(stamp);
        self.to_sign.push('\n');
        self.to_sign.push_str(&out[scope_start..scope_end]);
        self.to_sign.push('\n');
        text::push_hex(&mut self.to_sign, &Sha256::digest(self.canonical.as_bytes()));

        let key = match identity.key.take() {
            Some(key) if key.day() == day => key,
            Some(_) | None => {
                SigningKey::derive(&identity.credentials.secret_access_key, day, &self.region, self.scheme.service())
            }
        };
        out.push_str(", Signature=");
        text::push_hex(out, &key.mac(self.to_sign.as_bytes()));
        identity.key = Some(key);

        // Unfit only by the access key's fault.
        let _ = head.try_header("", AUTHORIZATION, out);
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access_key_id = self.identity.as_ref().map(|identity| &identity.credentials.access_key_id);
        f.debug_struct("Signer").field("access_key_id", &access_key_id).field("region", &self.region).finish()
    }
}

impl Identity {
    /// The day and the second that a signature names.
    fn stamp(&mut self, now_unix_seconds: i64) -> ([u8; 8], [u8; 16]) {
        match self.stamp {
            Some((second, day, stamp)) if second == now_unix_seconds => (day, stamp),
            Some(_) | None => {
                let (day, stamp) = date::sigv4_stamp(now_unix_seconds);
                self.stamp = Some((now_unix_seconds, day, stamp));
                (day, stamp)
            }
        }
    }
}

impl Payload {
    /// What `x-amz-content-sha256` says; `hex` is room for a digest.
    fn header_value(self, hex: &mut [u8; 64]) -> &str {
        match self {
            Self::Unsigned => UNSIGNED,
            Self::Empty => EMPTY_SHA256,
            Self::Sha256(digest) => text::hex(&digest, hex),
        }
    }
}

#[cfg(test)]
mod tests;
