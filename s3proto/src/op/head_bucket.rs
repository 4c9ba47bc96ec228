//! HeadBucket: whether a bucket is there, may be used, and where it is.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    endpoint::Address,
    error::{ServiceError, bucket_region},
    head::{HeadText, Headers},
};

/// The bucket of the address.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadBucket;

/// A bucket that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadBucketOutput {
    /// Where it is, if the service says so.
    pub region: Option<String>,
}

impl HeadBucket {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_bucket(head, Method::HEAD, address, &[]);
    }

    /// # Errors
    /// [`ServiceError`] when the service refused; it has no code, and may have a region.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<HeadBucketOutput, ServiceError> {
        draft::expect_success(status, headers, body)?;
        Ok(HeadBucketOutput { region: bucket_region(headers) })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, headers, shown},
        *,
    };
    use crate::error::Class;

    #[test]
    fn request_and_answer() {
        assert_eq!(shown(|text| HeadBucket.request(&address(), text)), "HEAD /b\nhost: h:9");
        let there = headers(&[("x-amz-bucket-region", "eu-west-1")]);
        assert_eq!(HeadBucket::parse(StatusCode::OK, &there, b"").unwrap().region.as_deref(), Some("eu-west-1"));
        let elsewhere = HeadBucket::parse(StatusCode::MOVED_PERMANENTLY, &there, b"").unwrap_err();
        assert_eq!((elsewhere.class(), elsewhere.region.as_deref()), (Class::WrongRegion, Some("eu-west-1")));
        let absent = HeadBucket::parse(StatusCode::NOT_FOUND, &Headers::new(), b"").unwrap_err();
        assert_eq!(absent.class(), Class::Absent);
    }
}
