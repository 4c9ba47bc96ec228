//! The chain of places where AWS keys can come from, asked in the order of the AWS SDKs: the profile (roles, web identity,
//! SSO, a process, static keys), a web identity in the environment, the container's credentials service, the instance's.
//!
//! `aws-config` knows how each of them speaks; here is only who is asked, in which order, and what is said when nobody has
//! keys. Keys that are found in the environment or in a file are found before, by [`crate::client::login`], without any
//! of this.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{Region, imds};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use ropeway_s3proto::sign::{Credentials, Secret};

use super::{Carrier, Issued, Source};
use crate::client::proxy::Proxies;

/// Where to begin, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `source` or `target`, for messages.
    pub side: String,
    /// Who is asked.
    pub start: Start,
    /// The profile's name.
    pub profile: String,
    /// Its keys come from a login in a browser, whose end is the usual reason why there are none.
    pub by_sso: bool,
    /// The AWS config file, where it is not the usual one.
    pub config_file: Option<PathBuf>,
    /// The AWS credentials file, where it is not the usual one.
    pub credentials_file: Option<PathBuf>,
    /// The region whose services are asked.
    pub region: String,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// What stands between us and services elsewhere.
    pub proxies: Proxies,
    /// Where the instance's metadata service is, if a profile says so.
    pub instance_endpoint: Option<String>,
    /// How often the instance's metadata service is asked, and how long it may take. Where there is none, every run
    /// without keys waits for it.
    pub instance_patience: (u32, Duration),
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The profile, which was named outright, and nobody else.
    Profile,
    /// Everybody.
    Anywhere,
}

/// Why nobody has keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Everybody was asked.
    #[error(
        "no credentials were found: {}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with \
         --{side}-profile or AWS_PROFILE, or ask for unsigned requests with --{side}-no-sign-request",
        .looked.join("; ")
    )]
    NotFound {
        /// The side.
        side: String,
        /// Where was looked, and what was there.
        looked: Vec<String>,
    },
    /// Somebody is to have keys, and does not give them.
    #[error("{place} gives no credentials: {reason}{remedy}")]
    Refused {
        /// Who.
        place: String,
        /// What it, or its library, says.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// The chain with its providers, which remember tokens between two questions.
pub(super) struct Providers {
    chain: Chain,
    profile: ProfileFileCredentialsProvider,
    web_identity: WebIdentityTokenCredentialsProvider,
    container: EcsCredentialsProvider,
    instance: ImdsCredentialsProvider,
    /// Who had keys, and is asked alone from then on: keys of somebody else in the middle of a run would be a surprise.
    found: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Profile,
    WebIdentity,
    Container,
    Instance,
}

const PLACES: [Place; 4] = [Place::Profile, Place::WebIdentity, Place::Container, Place::Instance];

impl Chain {
    /// What a [`super::Keyring`] is started with.
    pub fn providers(self) -> impl Source<Error = ChainError> {
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(self.region.clone())))
            .with_http_client(Carrier::new(self.ca_bundle.clone(), self.proxies.clone()));
        let mut files = EnvConfigFiles::builder();
        files = match &self.config_file {
            Some(path) => files.with_file(EnvConfigFileKind::Config, path),
            None => files.include_default_config_file(true),
        };
        files = match &self.credentials_file {
            Some(path) => files.with_file(EnvConfigFileKind::Credentials, path),
            None => files.include_default_credentials_file(true),
        };
        let (attempts, patience) = self.instance_patience;
        let client = || {
            let client = imds::Client::builder().configure(&config).max_attempts(attempts);
            let client = client.connect_timeout(patience).read_timeout(patience);
            let named = self.instance_endpoint.as_ref().and_then(|endpoint| client.clone().endpoint(endpoint).ok());
            named.unwrap_or(client).build()
        };
        let instance = || ImdsCredentialsProvider::builder().configure(&config).imds_client(client()).build();
        Providers {
            profile: ProfileFileCredentialsProvider::builder()
                .configure(&config)
                .profile_files(files.build())
                .profile_name(&self.profile)
                .with_custom_provider("Ec2InstanceMetadata", instance())
                .build(),
            web_identity: WebIdentityTokenCredentialsProvider::builder().configure(&config).build(),
            container: EcsCredentialsProvider::builder().configure(&config).build(),
            instance: instance(),
            found: None,
            chain: self,
        }
    }
}

impl Source for Providers {
    type Error = ChainError;

    async fn issue(&mut self) -> Result<Issued, ChainError> {
        if let Some(place) = self.found {
            return self.ask(place).await.map_err(|error| self.refused(place, &error));
        }
        let mut looked = vec!["AWS_ACCESS_KEY_ID is not set".to_owned()];
        for place in PLACES {
            match self.ask(place).await {
                Ok(issued) => {
                    self.found = Some(place);
                    return Ok(issued);
                }
                // It has none, which is no fault of its own; unless it was named. Nobody names the instance's service, and
                // what answers in its place off EC2 says whatever it likes.
                Err(error)
                    if self.chain.start == Start::Anywhere
                        && (place == Place::Instance || matches!(error, CredentialsError::CredentialsNotLoaded(_))) =>
                {
                    looked.push(self.has_none(place, &error));
                }
                Err(error) => return Err(self.refused(place, &error)),
            }
        }
        Err(ChainError::NotFound { side: self.chain.side.clone(), looked })
    }
}

impl Providers {
    async fn ask(&self, place: Place) -> Result<Issued, CredentialsError> {
        let found = match place {
            Place::Profile => self.profile.provide_credentials().await,
            Place::WebIdentity => self.web_identity.provide_credentials().await,
            Place::Container => self.container.provide_credentials().await,
            Place::Instance => self.instance.provide_credentials().await,
        }?;
        let expires_at = found.expiry().and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok());
        Ok(Issued {
            credentials: Credentials {
                access_key_id: found.access_key_id().to_owned(),
                secret_access_key: Secret::new(found.secret_access_key()),
                session_token: found.session_token().filter(|token| !token.is_empty()).map(Secret::new),
            },
            expires_at_s: expires_at.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        })
    }

    /// What was at a place that has no keys.
    fn has_none(&self, place: Place, error: &CredentialsError) -> String {
        match place {
            Place::Profile => format!("the profile `{}` has none", self.chain.profile),
            Place::WebIdentity => "AWS_WEB_IDENTITY_TOKEN_FILE is not set".to_owned(),
            Place::Container => {
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set".to_owned()
            }
            Place::Instance => format!("the instance metadata service has none ({})", words(error)),
        }
    }

    fn refused(&self, place: Place, error: &CredentialsError) -> ChainError {
        let reason = words(error);
        let (place, remedy) = match place {
            Place::Profile if self.chain.by_sso => (
                format!("the profile `{}`", self.chain.profile),
                "; log in again with `aws sso login` if that login has expired",
            ),
            Place::Profile => {
                (format!("the profile `{}`", self.chain.profile), "; check what it refers to in the AWS config file")
            }
            Place::WebIdentity => (
                "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(),
                "; check the token's file and AWS_ROLE_ARN",
            ),
            Place::Container => (
                "the container's credentials service".to_owned(),
                "; check AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI",
            ),
            Place::Instance => (
                "the instance metadata service".to_owned(),
                "; check the instance's role, or set AWS_EC2_METADATA_DISABLED=true",
            ),
        };
        ChainError::Refused { place, reason, remedy }
    }
}

/// An error and what is behind it, each once: the outer ones often say only that there is an inner one.
fn words(error: &CredentialsError) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(inner) = next {
        let text = inner.to_string();
        if !said.iter().any(|known| known.contains(&text)) {
            said.push(text);
        }
        next = inner.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}
