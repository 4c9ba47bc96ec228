//! Encryption as a client sees it: what it asked for is kept and said again, and what was written with a key of its own is
//! given to nobody who does not show that key. The bytes themselves lie as they came: this server keeps what one process
//! makes for itself, and whoever can read its memory or its files needs no key.

use super::checksums::encode;
use super::store::Encryption;
use md5::{Digest as _, Md5};
use s3s::{S3Result, s3_error};

/// The algorithm, key and MD5 of a key of the client's own, as its headers have them.
#[derive(Default)]
pub(super) struct CustomerHeaders {
    pub(super) algorithm: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_md5: Option<String>,
}

/// Takes the headers about the client's own key out of an input: s3s repeats the three fields in every structure.
macro_rules! customer_headers {
    ($input:expr) => {
        $crate::serve::encryption::CustomerHeaders {
            algorithm: $input.sse_customer_algorithm.take(),
            key: $input.sse_customer_key.take(),
            key_md5: $input.sse_customer_key_md5.take(),
        }
    };
}

/// The same of what is copied from.
macro_rules! copy_source_customer_headers {
    ($input:expr) => {
        $crate::serve::encryption::CustomerHeaders {
            algorithm: $input.copy_source_sse_customer_algorithm.take(),
            key: $input.copy_source_sse_customer_key.take(),
            key_md5: $input.copy_source_sse_customer_key_md5.take(),
        }
    };
}

/// Says in an output how an object is encrypted, as far as the structure has fields for it.
macro_rules! state_encryption {
    ($output:expr, $encryption:expr) => {
        if let Some(encryption) = $encryption {
            let encryption: &$crate::serve::store::Encryption = encryption;
            $output.server_side_encryption = encryption.kind.clone().map(ServerSideEncryption::from);
            $output.ssekms_key_id = encryption.kms_key_id.clone();
            $output.sse_customer_algorithm = encryption.customer_key_md5.as_ref().map(|_| "AES256".to_owned());
            $output.sse_customer_key_md5 = encryption.customer_key_md5.clone();
        }
    };
}

pub(super) use {copy_source_customer_headers, customer_headers, state_encryption};

/// AES-256 is all that S3 knows, and this is the length of its keys.
const KEY_BYTES: usize = 32;

impl CustomerHeaders {
    /// The MD5 by which the key is known again, if there is one and its three headers fit together.
    pub(super) fn key_md5(self) -> S3Result<Option<String>> {
        let (algorithm, key, key_md5) = match (self.algorithm, self.key, self.key_md5) {
            (None, None, None) => return Ok(None),
            (Some(algorithm), Some(key), Some(key_md5)) => (algorithm, key, key_md5),
            (None, ..) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm."
                ));
            }
            (_, None, _) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key."
                ));
            }
            (_, _, None) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key."
                ));
            }
        };
        if algorithm != "AES256" {
            return Err(s3_error!(
                InvalidEncryptionAlgorithmError,
                "The encryption request that you specified is not valid."
            ));
        }
        let key = base64_simd::STANDARD.decode_to_vec(&key).ok().filter(|key| key.len() == KEY_BYTES);
        let key =
            key.ok_or_else(|| s3_error!(InvalidArgument, "The secret key was invalid for the specified algorithm."))?;
        if encode(&Md5::digest(&key)) != key_md5 {
            return Err(s3_error!(
                InvalidArgument,
                "The calculated MD5 hash of the key did not match the hash that was provided."
            ));
        }
        Ok(Some(key_md5))
    }
}

/// What a request that makes an object asks for. None if nothing.
pub(super) fn asked(
    kind: Option<String>,
    kms_key_id: Option<String>,
    customer: CustomerHeaders,
) -> S3Result<Option<Encryption>> {
    let customer_key_md5 = customer.key_md5()?;
    if customer_key_md5.is_some() && kind.is_some() {
        return Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
        ));
    }
    let is_kms = match kind.as_deref() {
        None | Some("AES256") => false,
        Some("aws:kms" | "aws:kms:dsse") => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "The encryption method specified is not supported")),
    };
    if kms_key_id.is_some() && !is_kms {
        return Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"
        ));
    }
    let encryption = Encryption { kind, kms_key_id, customer_key_md5 };
    Ok((encryption != Encryption::default()).then_some(encryption))
}

/// Whether whoever shows this key, or none, may read or copy the object.
pub(super) fn check_key(encryption: Option<&Encryption>, shown: CustomerHeaders) -> S3Result<()> {
    let kept = encryption.and_then(|encryption| encryption.customer_key_md5.as_ref());
    match (kept, shown.key_md5()?) {
        (None, None) => Ok(()),
        (Some(kept), Some(shown)) if *kept == shown => Ok(()),
        (Some(_), Some(_)) => Err(s3_error!(AccessDenied, "Access Denied")),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
        )),
        (None, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
    }
}

/// Whether a part with this key, or none, belongs to the upload.
pub(super) fn check_part_key(encryption: Option<&Encryption>, shown: CustomerHeaders) -> S3Result<()> {
    let kept = encryption.and_then(|encryption| encryption.customer_key_md5.as_ref());
    match (kept, shown.key_md5()?) {
        (None, None) => Ok(()),
        (Some(kept), Some(shown)) if *kept == shown => Ok(()),
        (Some(_), None) => Err(s3_error!(
            InvalidRequest,
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
        )),
        (Some(_) | None, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The provided encryption parameters did not match the ones used originally."))
        }
    }
}

impl Encryption {
    /// Whether the ETag of what is written so is no MD5; as at AWS, where it is not one of anything that a client could know.
    fn hides_md5(&self) -> bool {
        self.customer_key_md5.is_some() || self.kind.as_deref().is_some_and(|kind| kind.starts_with("aws:kms"))
    }
}

/// The ETag of content with this MD5.
pub(super) fn etag_of(md5: String, encryption: Option<&Encryption>) -> String {
    match encryption.is_some_and(Encryption::hides_md5) {
        true => format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
        false => md5,
    }
}

/// Whether objects written so have ETags that tell nothing of their content.
pub(super) fn hides_md5(encryption: Option<&Encryption>) -> bool {
    encryption.is_some_and(Encryption::hides_md5)
}
