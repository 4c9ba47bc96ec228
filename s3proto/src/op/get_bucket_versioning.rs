//! GetBucketVersioning: whether a bucket keeps what is replaced and deleted.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
};

/// S3's name for the document, and moto's.
const ROOTS: [&str; 2] = ["VersioningConfiguration", "GetBucketVersioningResponse"];

/// A question about the bucket.
#[derive(Debug, Clone, Copy)]
pub struct GetBucketVersioning;

/// What a bucket keeps of what is replaced and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketVersioning {
    /// Nothing, and it never has.
    Never,
    /// Everything.
    Enabled,
    /// What it kept before, and no more.
    Suspended,
}

impl GetBucketVersioning {
    /// The head of the request.
    pub fn request(self, address: &Address, head: &mut HeadText) {
        draft::about_bucket(head, Method::GET, address, &[("versioning", "")]);
    }

    /// Reads the answer. A status that nobody has heard of counts as none.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<BucketVersioning, ServiceError> {
        draft::expect_document(status, headers, body, &ROOTS, |document| {
            let mut versioning = BucketVersioning::Never;
            while let Some(element) = document.child()? {
                match element.name() {
                    "Status" => {
                        versioning = match document.text()?.trim() {
                            "Enabled" => BucketVersioning::Enabled,
                            "Suspended" => BucketVersioning::Suspended,
                            _ => BucketVersioning::Never,
                        }
                    }
                    _ => document.skip()?,
                }
            }
            Ok(versioning)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, shown},
        *,
    };

    #[test]
    fn request_and_answers() {
        let request = shown(|text| GetBucketVersioning.request(&address(), text));
        assert_eq!(request, "GET /b?versioning=\nhost: h:9");
        let parse = |body: &str| GetBucketVersioning::parse(StatusCode::OK, &Headers::new(), body.as_bytes());
        let table = [
            ("<VersioningConfiguration/>", BucketVersioning::Never),
            (
                "<GetBucketVersioningResponse><Status>Enabled</Status></GetBucketVersioningResponse>",
                BucketVersioning::Enabled,
            ),
            ("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>", BucketVersioning::Enabled),
            (
                "<VersioningConfiguration><MfaDelete>Disabled</MfaDelete><Status>Suspended</Status></VersioningConfiguration>",
                BucketVersioning::Suspended,
            ),
            ("<VersioningConfiguration><Status></Status></VersioningConfiguration>", BucketVersioning::Never),
        ];
        for (body, versioning) in table {
            assert_eq!(parse(body).unwrap(), versioning, "{body}");
        }
        assert!(parse("<html/>").is_err());
    }
}
