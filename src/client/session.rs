//! Sessions with directory buckets: keys that the bucket itself hands out for some minutes, renewed like any others.

use std::sync::Arc;

use ropeway_s3proto::head::HeadText;
use ropeway_s3proto::op::{CreateSession, CreateSessionOutput};
use ropeway_s3proto::sign::{Payload, Scheme};

use super::keyring::{Issued, Keyring, KeyringError, Keys, Source};
use super::send::Outgoing;
use super::{Client, ClientSettings, Error, RequestBody};

/// A bucket as the source of keys to itself.
struct Sessions(Client);

impl ClientSettings {
    /// The same, within a session with the bucket, which is a directory bucket.
    ///
    /// # Errors
    /// What the bucket answers.
    pub async fn in_session(self) -> Result<ClientSettings, KeyringError<Error>> {
        let outside = ClientSettings { scheme: Scheme::Express, ..self.clone() };
        let keyring: Arc<Keyring> = Keyring::start(move || Sessions(Client::new(outside))).await?;
        Ok(ClientSettings { keys: Keys::Renewed(keyring), scheme: Scheme::ExpressSession, ..self })
    }
}

impl Client {
    async fn create_session(&self) -> Result<CreateSessionOutput, Error> {
        let make = |text: &mut HeadText| {
            CreateSession.request(&self.settings.address, text);
            Ok(Outgoing { payload: Payload::Empty, body: RequestBody::Empty })
        };
        self.perform("CreateSession", None, make, async |client, answer| {
            answer.whole(client, CreateSession::parse).await
        })
        .await
    }
}

impl Source for Sessions {
    type Error = Error;

    async fn issue(&mut self) -> Result<Issued, Error> {
        let CreateSessionOutput { credentials, expires_at_s } = self.0.create_session().await?;
        Ok(Issued { credentials, expires_at_s })
    }
}
