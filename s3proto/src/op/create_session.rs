//! CreateSession: keys for one directory bucket (S3 Express One Zone), good for minutes, with which its other requests are
//! signed.

use http::{Method, StatusCode};

use super::draft;
use crate::{
    date,
    endpoint::Address,
    error::ServiceError,
    head::{HeadText, Headers},
    sign::{Credentials, Secret},
    xml::{Document, XmlError},
};

/// A session with the bucket of the address, for whatever the caller may do there.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateSession;

/// The session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSessionOutput {
    /// What its requests are signed with.
    pub credentials: Credentials,
    /// When it ends, in Unix seconds, if the service says so.
    pub expires_at_s: Option<i64>,
}

impl CreateSession {
    /// The head of the request.
    pub fn request(&self, address: &Address, head: &mut HeadText) {
        draft::about_bucket(head, Method::GET, address, &[("session", "")]);
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`ServiceError`] when the service refused, or the keys lack a piece.
    pub fn parse(status: StatusCode, headers: &Headers, body: &[u8]) -> Result<CreateSessionOutput, ServiceError> {
        draft::expect_document(status, headers, body, &["CreateSessionResult"], |document| {
            let mut session = None;
            while let Some(element) = document.child()? {
                match element.name() {
                    "Credentials" => session = Some(read_credentials(document)?),
                    _ => document.skip()?,
                }
            }
            session.ok_or(XmlError::Element { element: "Credentials" })
        })
    }
}

fn read_credentials(document: &mut Document<'_>) -> Result<CreateSessionOutput, XmlError> {
    let (mut id, mut secret, mut token, mut expires_at_s) = (None, None, None, None);
    while let Some(element) = document.child()? {
        match element.name() {
            "AccessKeyId" => id = Some(document.text()?.trim().to_owned()),
            "SecretAccessKey" => secret = Some(Secret::new(document.text()?.trim())),
            "SessionToken" => token = Some(Secret::new(document.text()?.trim())),
            "Expiration" => {
                expires_at_s = date::iso_to_unix_ns(document.text()?.trim()).map(|ns| ns.div_euclid(1_000_000_000));
            }
            _ => document.skip()?,
        }
    }
    Ok(CreateSessionOutput {
        credentials: Credentials {
            access_key_id: id.ok_or(XmlError::Element { element: "AccessKeyId" })?,
            secret_access_key: secret.ok_or(XmlError::Element { element: "SecretAccessKey" })?,
            session_token: Some(token.ok_or(XmlError::Element { element: "SessionToken" })?),
        },
        expires_at_s,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::draft::tests::{address, shown},
        *,
    };

    #[test]
    fn the_request() {
        assert_eq!(shown(|head| CreateSession.request(&address(), head)), "GET /b?session=\nhost: h:9");
    }

    #[test]
    fn the_answer() {
        let parse = |body: &str| CreateSession::parse(StatusCode::OK, &Headers::new(), body.as_bytes());
        let whole = "<CreateSessionResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Credentials><SessionToken>T\
             </SessionToken><SecretAccessKey>S</SecretAccessKey><AccessKeyId>A</AccessKeyId><Expiration>\
             2026-01-02T03:04:05Z</Expiration></Credentials></CreateSessionResult>";
        let session = parse(whole).unwrap();
        assert_eq!((session.credentials.access_key_id.as_str(), session.expires_at_s), ("A", Some(1_767_323_045)));
        assert_eq!(session.credentials.session_token.map(|token| token.expose().to_owned()).as_deref(), Some("T"));
        assert_eq!(session.credentials.secret_access_key.expose(), "S");
        for lost in ["<AccessKeyId>A</AccessKeyId>", "<SessionToken>T</SessionToken>"] {
            assert!(parse(&whole.replace(lost, "")).is_err(), "{lost}");
        }
        assert!(parse("<CreateSessionResult/>").is_err());
    }
}
