//! The signing key: four keyed hashes deep from the secret, and good for one day, one region and one service.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Secret;

/// A derived key, kept with its two padded blocks already hashed.
pub(super) struct SigningKey {
    day: [u8; 8],
    keyed: Hmac<Sha256>,
}

impl SigningKey {
    pub(super) fn derive(secret: &Secret, day: [u8; 8], region: &str, service: &str) -> Self {
        let root = format!("AWS4{}", secret.expose());
        let mut key = hash(root.as_bytes(), &day);
        for step in [region.as_bytes(), service.as_bytes(), b"aws4_request"] {
            key = hash(&key, step);
        }
        Self { day, keyed: keyed(&key) }
    }

    /// The day for which the key is good, as `YYYYMMDD`.
    pub(super) fn day(&self) -> [u8; 8] {
        self.day
    }

    pub(super) fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.keyed.clone().chain_update(message).finalize().into_bytes().into()
    }
}

fn hash(key: &[u8], message: &[u8]) -> [u8; 32] {
    keyed(key).chain_update(message).finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("this hash takes a key of any length")
}
