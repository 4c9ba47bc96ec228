//! What guards an object at the service: who may read it, and how it is encrypted where it lies.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::metadata::InputError;
use crate::{
    head::{HeadText, is_value},
    sign::Secret,
};

const X_AMZ_ACL: &str = "x-amz-acl";
const X_AMZ_SSE: &str = "x-amz-server-side-encryption";
const X_AMZ_SSE_KMS_KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
/// Algorithm, key and the key's MD5 of what a request reads or writes.
const CUSTOMER: [&str; 3] = [
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
];
/// The same of what a request copies from.
const COPY_SOURCE_CUSTOMER: [&str; 3] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// Bytes of a key of the customer's own: that of AES-256, which is all that S3 knows.
pub const CUSTOMER_KEY_BYTES: usize = 32;

/// A key of the customer's own (SSE-C), without which the service can read nothing that was written with it. It travels with
/// every request, and is shown nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerKey {
    key: Secret,
    md5: String,
}

impl CustomerKey {
    /// Takes the key's bytes and their MD5.
    #[must_use]
    pub fn new(key: &[u8; CUSTOMER_KEY_BYTES], md5: [u8; 16]) -> Self {
        Self { key: Secret::new(STANDARD.encode(key)), md5: STANDARD.encode(md5) }
    }

    /// Reads the bytes of a key from base64; None if it is anything else.
    #[must_use]
    pub fn decode(text: &str) -> Option<[u8; CUSTOMER_KEY_BYTES]> {
        STANDARD.decode(text).ok()?.try_into().ok()
    }

    /// The key's MD5 in base64, by which a service tells whether it is the same one.
    #[must_use]
    pub fn md5(&self) -> &str {
        &self.md5
    }

    fn write(&self, head: &mut HeadText, [algorithm, key, md5]: [&str; 3]) {
        head.header(algorithm, "AES256");
        head.header(key, self.key.expose());
        head.header(md5, &self.md5);
    }
}

/// How the service is to encrypt with keys of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With a key that it keeps itself (SSE-S3).
    Managed,
    /// With a key of its key management (SSE-KMS).
    Kms {
        /// Twice, by two independent layers (DSSE-KMS).
        dual_layer: bool,
        /// Which key; without one, the account's own for S3.
        key_id: Option<String>,
    },
}

/// What guards the objects of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protection {
    /// The canned ACL of what is written; without one, the bucket's default.
    pub acl: Option<&'static str>,
    /// How what is written is encrypted; without it, as the bucket's default says.
    pub encryption: Option<Encryption>,
    /// With what key everything is written and read.
    pub customer_key: Option<CustomerKey>,
}

impl Protection {
    /// Adds what a request says that makes an object: PutObject, CreateMultipartUpload, CopyObject.
    ///
    /// # Errors
    /// [`InputError`] when the id of the KMS key fits no header.
    pub fn write_new(&self, head: &mut HeadText) -> Result<(), InputError> {
        if let Some(acl) = self.acl {
            head.header(X_AMZ_ACL, acl);
        }
        match &self.encryption {
            None => {}
            Some(Encryption::Managed) => head.header(X_AMZ_SSE, "AES256"),
            Some(Encryption::Kms { dual_layer, key_id }) => {
                head.header(X_AMZ_SSE, if *dual_layer { "aws:kms:dsse" } else { "aws:kms" });
                if let Some(id) = key_id {
                    if !is_value(id) {
                        return Err(InputError::MetadataValue { name: X_AMZ_SSE_KMS_KEY_ID.to_owned() });
                    }
                    head.header(X_AMZ_SSE_KMS_KEY_ID, id);
                }
            }
        }
        self.write_key(head);
        Ok(())
    }

    /// Adds the customer's key, if there is one, to a request that reads content or adds to it: GetObject, HeadObject,
    /// UploadPart, UploadPartCopy, ListParts, CompleteMultipartUpload.
    pub fn write_key(&self, head: &mut HeadText) {
        if let Some(key) = &self.customer_key {
            key.write(head, CUSTOMER);
        }
    }

    /// Adds the key of what is copied from, if there is one, to a CopyObject or UploadPartCopy. This is the source's
    /// protection; the target's own is added beside it.
    pub fn write_copy_source_key(&self, head: &mut HeadText) {
        if let Some(key) = &self.customer_key {
            key.write(head, COPY_SOURCE_CUSTOMER);
        }
    }

    /// Whether objects written so have ETags that are no MD5s.
    #[must_use]
    pub fn hides_md5s(&self) -> bool {
        self.customer_key.is_some() || matches!(self.encryption, Some(Encryption::Kms { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::written;

    fn lines(write: impl FnOnce(&mut HeadText)) -> Vec<String> {
        let mut head = written(http::Method::PUT, "/", &[]);
        write(&mut head);
        head.lines().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn nothing_asked_for_adds_nothing() {
        let none = Protection::default();
        assert!(lines(|head| none.write_new(head).unwrap()).is_empty());
        assert!(lines(|head| none.write_copy_source_key(head)).is_empty());
        assert!(!none.hides_md5s());
    }

    #[test]
    fn the_services_own_keys() {
        let with = |encryption| Protection { encryption: Some(encryption), ..Protection::default() };
        let managed = with(Encryption::Managed);
        assert_eq!(lines(|head| managed.write_new(head).unwrap()), ["x-amz-server-side-encryption: AES256"]);
        assert!(!managed.hides_md5s());
        let kms = with(Encryption::Kms { dual_layer: false, key_id: Some("arn:aws:kms:k".into()) });
        let kms = Protection { acl: Some("public-read"), ..kms };
        assert_eq!(
            lines(|head| kms.write_new(head).unwrap()),
            [
                "x-amz-acl: public-read",
                "x-amz-server-side-encryption: aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:k"
            ]
        );
        let dsse = with(Encryption::Kms { dual_layer: true, key_id: None });
        assert_eq!(lines(|head| dsse.write_new(head).unwrap()), ["x-amz-server-side-encryption: aws:kms:dsse"]);
        assert!(kms.hides_md5s() && dsse.hides_md5s());
        let evil = with(Encryption::Kms { dual_layer: false, key_id: Some("a\r\nb: c".into()) });
        assert!(evil.write_new(&mut written(http::Method::PUT, "/", &[])).is_err());
    }

    #[test]
    fn the_customers_own_key_and_who_sees_it() {
        let key = CustomerKey::new(&[7; CUSTOMER_KEY_BYTES], [1; 16]);
        let secret = STANDARD.encode([7; CUSTOMER_KEY_BYTES]);
        let side = Protection { customer_key: Some(key), ..Protection::default() };
        let expected = [
            "x-amz-server-side-encryption-customer-algorithm: AES256".to_owned(),
            format!("x-amz-server-side-encryption-customer-key: {secret}"),
            "x-amz-server-side-encryption-customer-key-md5: AQEBAQEBAQEBAQEBAQEBAQ==".to_owned(),
        ];
        assert_eq!(lines(|head| side.write_new(head).unwrap()), expected);
        assert_eq!(lines(|head| side.write_key(head)), expected);
        let of_source = lines(|head| side.write_copy_source_key(head));
        assert_eq!(of_source.len(), 3);
        assert!(of_source.iter().all(|line| line.starts_with("x-amz-copy-source-server-side-encryption-customer-")));
        assert!(!format!("{side:?}").contains(&secret), "no secret is ever shown");
        assert!(side.hides_md5s());
    }
}
