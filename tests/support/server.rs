//! A server to sync with: the embedded one, or the real one that the environment names.

use ropeway::serve::{self, ServeSettings, Storage};

/// An S3 endpoint and the keys to it.
pub struct Server {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub region: String,
    /// `embedded`, or the name of the real one (`ceph`, `moto`).
    pub name: String,
    embedded: Option<serve::Server>,
}

impl Server {
    /// The server that this run of the suite is about.
    pub fn any() -> Server {
        match std::env::var("ROPEWAY_TEST_ENDPOINT") {
            Ok(endpoint) => {
                let variable = |name: &str| std::env::var(format!("ROPEWAY_TEST_{name}")).expect(name);
                Server {
                    endpoint,
                    access_key: variable("ACCESS_KEY"),
                    secret_key: variable("SECRET_KEY"),
                    region: variable("REGION"),
                    name: variable("SERVER"),
                    embedded: None,
                }
            }
            Err(_) => Server::embedded(Storage::Memory),
        }
    }

    /// The embedded server, whatever the environment says.
    pub fn embedded(storage: Storage) -> Server {
        Server::with(ServeSettings::new(storage))
    }

    /// A server that runs elsewhere and takes any keys.
    pub fn elsewhere(name: &str, endpoint: String) -> Server {
        let (access_key, secret_key) = ("test-key".to_owned(), "test-secret-of-some-length".to_owned());
        Server {
            endpoint,
            access_key,
            secret_key,
            region: "us-east-1".to_owned(),
            name: name.to_owned(),
            embedded: None,
        }
    }

    /// The embedded server with other settings.
    pub fn with(mut settings: ServeSettings) -> Server {
        let (access_key, secret_key) = ("test-key".to_owned(), "test-secret-of-some-length".to_owned());
        settings.credentials.push((access_key.clone(), secret_key.clone()));
        let server = serve::Server::start(settings).expect("the embedded server starts");
        Server {
            endpoint: format!("http://{}", server.address()),
            access_key,
            secret_key,
            region: "us-east-1".to_owned(),
            name: "embedded".to_owned(),
            embedded: Some(server),
        }
    }
}
