//! What the service said when it did not do what was asked, and the one word, [`Class`], by which everything above
//! decides what to do next.
//!
//! The class follows from the error's code, else from the status. Codes are compared whole, never searched for in a
//! body: a key may well contain `SlowDown`.

use std::fmt;

use http::StatusCode;

use crate::{
    date,
    endpoint::is_region,
    head::Headers,
    text::shown,
    xml::{Document, XmlError},
};

const X_AMZ_BUCKET_REGION: &str = "x-amz-bucket-region";
const X_AMZ_REQUEST_ID: &str = "x-amz-request-id";

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The service or the way to it failed for a moment: the same request may succeed.
    Retry,
    /// The service asks for fewer requests: wait, and keep fewer under way.
    Throttle,
    /// The credentials are bad for the whole run: fresh ones or none; no other object will fare better.
    Auth,
    /// This request is forbidden, which says nothing about the next object.
    Denied,
    /// There is no such object, upload or bucket.
    Absent,
    /// The object or upload is not in the state that the request assumed.
    Conflict,
    /// The bucket is elsewhere: sign again for [`ServiceError::region`], once. Where the region named is the one
    /// already in use, it is not the answer and the error is final.
    WrongRegion,
    /// Our clock and the service's disagree: sign again by [`ServiceError::date_unix_seconds`], once.
    ClockSkew,
    /// The service does not offer this operation or one of its options, and will not later.
    Unsupported,
    /// The request itself is wrong, or the answer leaves nothing to try.
    Fatal,
}

/// Whether the service said no or could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The service refused.
    Refused,
    /// The answer is not what the operation promises: empty, cut short, a proxy's page, a missing field.
    Malformed,
}

/// An answer that is not the one hoped for. Nothing in it came from the request, so it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// Refused, or not understood.
    pub kind: Kind,
    /// The HTTP status, which may be 200.
    pub status: u16,
    /// The service's code, empty if it gave none (answers to HEAD have no body).
    pub code: String,
    /// The service's words, or ours about a malformed answer: one line, at most 200 characters, fit for a terminal.
    pub message: Box<str>,
    /// What the operator of the service wants to hear.
    pub request_id: Option<Box<str>>,
    /// Where the bucket is, if the service said so in the alphabet of regions.
    pub region: Option<String>,
    /// How long the service asks to be left alone.
    pub retry_after_seconds: Option<u32>,
    /// The service's clock when it answered, from `Date`.
    pub date_unix_seconds: Option<i64>,
}

impl ServiceError {
    /// Reads an answer that reports an error, whatever its body is: S3's XML, nothing, or a proxy's page.
    #[must_use]
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Self {
        let mut error = Self::from_head(status, headers);
        if read_body(&mut error, body).is_err() {
            error.code.clear();
            error.message = shown(&String::from_utf8_lossy(&body[..body.len().min(1024)])).into();
        }
        if error.message.is_empty() {
            error.message = status.canonical_reason().unwrap_or("no reason given").into();
        }
        error
    }

    /// An answer that should have been a success and cannot be understood.
    #[must_use]
    pub fn malformed(status: StatusCode, headers: &Headers, what: impl fmt::Display) -> Self {
        let mut error = Self::from_head(status, headers);
        error.kind = Kind::Malformed;
        error.message = shown(&what.to_string()).into();
        error
    }

    fn from_head(status: StatusCode, headers: &Headers) -> Self {
        Self {
            kind: Kind::Refused,
            status: status.as_u16(),
            code: String::new(),
            message: "".into(),
            request_id: headers
                .text(X_AMZ_REQUEST_ID)
                .map(shown)
                .filter(|id| !id.is_empty())
                .map(String::into_boxed_str),
            region: bucket_region(headers),
            retry_after_seconds: headers.text("retry-after").and_then(|seconds| seconds.trim().parse().ok()),
            date_unix_seconds: headers.text("date").and_then(date::http_to_unix_seconds),
        }
    }

    /// Whether the request may have been carried out although no success was seen, so that the caller has to look.
    /// A clear refusal and a request to slow down both mean that nothing happened.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.class() == Class::Retry && (self.status >= 500 || (200..300).contains(&self.status))
    }

    /// Whether fresh credentials of the same identity would help, as opposed to others.
    #[must_use]
    pub fn is_expired_credentials(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired"
        )
    }

    /// Whether it is the bucket that is missing, which ends the work on its side.
    #[must_use]
    pub fn is_bucket_absent(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    /// Whether the keys are refused as such, as expired or unknown ones are: others may be taken.
    #[must_use]
    pub fn refuses_keys(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken"
                | "ExpiredTokenException"
                | "InvalidToken"
                | "InvalidTokenId"
                | "TokenRefreshRequired"
                | "InvalidAccessKeyId"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException"
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.kind == Kind::Malformed {
            return Class::Retry;
        }
        // A 400 about the signature's region names the right one; without a name there is nothing to correct.
        if self.code == "AuthorizationHeaderMalformed" && self.region.is_some() {
            return Class::WrongRegion;
        }
        // HEAD has no body, so a wrong region shows only as a 400 with the right one in a header.
        if self.code.is_empty() && self.status == 400 && self.region.is_some() {
            return Class::WrongRegion;
        }
        class_of_code(&self.code).unwrap_or_else(|| class_of_status(self.status))
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Refused => write!(f, "the service answered {}", self.status)?,
            Kind::Malformed => write!(f, "the service's answer ({}) makes no sense", self.status)?,
        }
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.request_id {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServiceError {}

/// Where the bucket is, as every answer about it may say.
pub(crate) fn bucket_region(headers: &Headers) -> Option<String> {
    let region = headers.text(X_AMZ_BUCKET_REGION)?;
    is_region(region).then(|| region.to_owned())
}

fn read_body(error: &mut ServiceError, body: &[u8]) -> Result<(), XmlError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let mut document = Document::open(body)?;
    document.root("Error")?;
    while let Some(element) = document.child()? {
        match element.name() {
            "Code" => error.code = shown(document.text()?),
            "Message" => error.message = shown(document.text()?).into(),
            "RequestId" => {
                let id = shown(document.text()?);
                if error.request_id.is_none() && !id.is_empty() {
                    error.request_id = Some(id.into());
                }
            }
            "Region" => {
                let region = document.text()?;
                if error.region.is_none() && is_region(region) {
                    error.region = Some(region.to_owned());
                }
            }
            _ => document.skip()?,
        }
    }
    Ok(())
}

/// The codes whose meaning is sharper than their status, or differs between servers' statuses.
pub(crate) fn class_of_code(code: &str) -> Option<Class> {
    Some(match code {
        // `BadDigest` and its kin mean that the bytes changed on the way; another sending may arrive whole.
        "InternalError"
        | "RequestTimeout"
        | "OperationAborted"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "ConnectionClosedByRequester" => Class::Retry,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "XMinioServerNotInitialized" => Class::Throttle,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthorizationHeaderMalformed"
        | "InvalidSecurity"
        | "MissingSecurityHeader"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "RequestExpired"
        | "NotSignedUp"
        | "AccountProblem"
        | "InvalidTokenId" => Class::Auth,
        "AccessDenied"
        | "AllAccessDisabled"
        | "InvalidObjectState"
        | "ObjectNotInActiveTierError"
        | "UnauthorizedAccess" => Class::Denied,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchBucket" | "NoSuchVersion" | "NotFound" => Class::Absent,
        "PreconditionFailed" | "ConditionalRequestConflict" | "InvalidPart" | "InvalidPartOrder" | "InvalidRange" => {
            Class::Conflict
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "IncorrectEndpoint"
        | "IllegalLocationConstraintException" => Class::WrongRegion,
        "RequestTimeTooSkewed" | "RequestInTheFuture" => Class::ClockSkew,
        "NotImplemented" | "XNotImplemented" | "MethodNotAllowed" | "UnsupportedOperation" | "NotSupported" => {
            Class::Unsupported
        }
        _ => return None,
    })
}

fn class_of_status(status: u16) -> Class {
    match status {
        408 | 425 => Class::Retry,
        429 | 503 => Class::Throttle,
        401 => Class::Auth,
        403 => Class::Denied,
        404 | 410 => Class::Absent,
        409 | 412 | 416 => Class::Conflict,
        301 | 302 | 307 | 308 => Class::WrongRegion,
        405 | 501 => Class::Unsupported,
        // A version of HTTP or a disk that the service does not have will not come by waiting.
        505 | 507 => Class::Fatal,
        500..=599 => Class::Retry,
        _ => Class::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId></Error>"
        )
    }

    fn parsed(status: u16, headers: &[(&'static str, &str)], body: &str) -> ServiceError {
        let mut map = Headers::new();
        for (name, value) in headers {
            map.push(name, value.as_bytes());
        }
        ServiceError::parse(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
    }

    #[test]
    fn every_code_has_its_class() {
        for (status, code, class) in [
            (200, "InternalError", Class::Retry),
            (200, "SlowDown", Class::Throttle),
            (200, "AccessDenied", Class::Denied),
            (200, "Whatever", Class::Fatal),
            (500, "InternalError", Class::Retry),
            (400, "RequestTimeout", Class::Retry),
            (409, "OperationAborted", Class::Retry),
            (400, "IncompleteBody", Class::Retry),
            (400, "BadDigest", Class::Retry),
            (400, "XAmzContentSHA256Mismatch", Class::Retry),
            (503, "SlowDown", Class::Throttle),
            (503, "ServiceUnavailable", Class::Throttle),
            (400, "Throttling", Class::Throttle),
            (403, "RequestTimeTooSkewed", Class::ClockSkew),
            (400, "ExpiredToken", Class::Auth),
            (400, "InvalidToken", Class::Auth),
            (403, "InvalidAccessKeyId", Class::Auth),
            (403, "SignatureDoesNotMatch", Class::Auth),
            (400, "AuthorizationHeaderMalformed", Class::Auth),
            (403, "AccessDenied", Class::Denied),
            (403, "InvalidObjectState", Class::Denied),
            (404, "NoSuchKey", Class::Absent),
            (404, "NoSuchBucket", Class::Absent),
            (404, "NoSuchUpload", Class::Absent),
            (409, "ConditionalRequestConflict", Class::Conflict),
            (412, "PreconditionFailed", Class::Conflict),
            (416, "InvalidRange", Class::Conflict),
            (400, "InvalidPart", Class::Conflict),
            (301, "PermanentRedirect", Class::WrongRegion),
            (307, "TemporaryRedirect", Class::WrongRegion),
            (405, "MethodNotAllowed", Class::Unsupported),
            (501, "NotImplemented", Class::Unsupported),
            (400, "EntityTooSmall", Class::Fatal),
            (400, "InvalidArgument", Class::Fatal),
            (400, "KeyTooLongError", Class::Fatal),
        ] {
            let error = parsed(status, &[], &document(code));
            assert_eq!((error.class(), error.code.as_str()), (class, code), "{status} {code}");
        }
    }

    #[test]
    fn without_a_code_the_status_decides() {
        for (status, class) in [
            (301, Class::WrongRegion),
            (307, Class::WrongRegion),
            (400, Class::Fatal),
            (401, Class::Auth),
            (403, Class::Denied),
            (404, Class::Absent),
            (405, Class::Unsupported),
            (408, Class::Retry),
            (409, Class::Conflict),
            (412, Class::Conflict),
            (416, Class::Conflict),
            (425, Class::Retry),
            (429, Class::Throttle),
            (500, Class::Retry),
            (501, Class::Unsupported),
            (502, Class::Retry),
            (503, Class::Throttle),
            (504, Class::Retry),
            (507, Class::Fatal),
        ] {
            for body in ["", "<html><body>SlowDown InternalError</body></html>"] {
                assert_eq!(parsed(status, &[], body).class(), class, "{status} {body}");
            }
        }
    }

    #[test]
    fn the_right_region_is_learnt_and_an_evil_one_is_not() {
        let body =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-west-1</Region></Error>";
        let error = parsed(400, &[], body);
        assert_eq!((error.class(), error.region.as_deref()), (Class::WrongRegion, Some("eu-west-1")));
        let error = parsed(400, &[("x-amz-bucket-region", "eu-west-2")], "");
        assert_eq!((error.class(), error.region.as_deref()), (Class::WrongRegion, Some("eu-west-2")));
        for evil in ["evil.com/#", "EU", "a b", "x@y"] {
            assert_eq!(parsed(301, &[("x-amz-bucket-region", evil)], "").region, None);
            assert_eq!(parsed(400, &[], &body.replace("eu-west-1", evil)).class(), Class::Auth);
        }
    }

    #[test]
    fn what_else_an_answer_says() {
        let headers = [("retry-after", "7"), ("date", "Mon, 12 Oct 2009 17:50:30 GMT"), ("x-amz-request-id", "HEADER")];
        let error = parsed(503, &headers, &document("SlowDown"));
        assert_eq!(error.retry_after_seconds, Some(7));
        assert_eq!(error.date_unix_seconds, Some(1_255_369_830));
        assert_eq!(error.to_string(), "the service answered 503 SlowDown: m (request id HEADER)");
        assert_eq!(parsed(503, &[], &document("SlowDown")).request_id.as_deref(), Some("R"));
        assert_eq!(parsed(503, &[("retry-after", "Mon, 12 Oct 2009 17:50:30 GMT")], "").retry_after_seconds, None);
    }

    #[test]
    fn a_proxys_page_is_clipped_and_harmless() {
        let page = format!("<html>\x1b[2J{}</html>", "x".repeat(100_000));
        let error = parsed(502, &[], &page);
        assert_eq!(error.class(), Class::Retry);
        assert!(error.message.chars().count() <= 200 && !error.message.contains('\x1b'));
        assert_eq!(&*parsed(404, &[], "").message, "Not Found");
    }

    #[test]
    fn a_malformed_success_may_have_happened() {
        let error = ServiceError::malformed(StatusCode::OK, &Headers::new(), "empty");
        assert_eq!((error.class(), error.is_ambiguous()), (Class::Retry, true));
        for (status, code) in [(403, "AccessDenied"), (200, "InvalidPart"), (503, "SlowDown"), (400, "RequestTimeout")]
        {
            assert!(!parsed(status, &[], &document(code)).is_ambiguous(), "{code}");
        }
        assert!(parsed(200, &[], &document("InternalError")).is_ambiguous());
        assert!(parsed(500, &[], "").is_ambiguous());
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(
            status in 100_u16..1000,
            body in proptest::collection::vec(any::<u8>(), 0..300),
            inner in any::<String>(),
        ) {
            let _ = parsed(status, &[], &String::from_utf8_lossy(&body)).class();
            let error = parsed(status, &[], &format!("<Error><Code>{inner}</Code></Error>"));
            prop_assert!(error.to_string().chars().count() < 800);
        }
    }
}
