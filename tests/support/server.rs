//! A server to sync with: the embedded one, or the real one that the environment names.

use std::io::Write;

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

    /// A server that somebody else has started.
    pub fn known(endpoint: String, access_key: String, secret_key: String, region: String, name: String) -> Server {
        Server { endpoint, access_key, secret_key, region, name, embedded: None }
    }

    /// The same server, reached at another address.
    pub fn at(&self, endpoint: String) -> Server {
        let (access_key, secret_key) = (self.access_key.clone(), self.secret_key.clone());
        Server::known(endpoint, access_key, secret_key, self.region.clone(), self.name.clone())
    }

    /// Whether the test should be skipped since this server `lacks` what it is about; says so.
    pub fn skip(&self, servers: &[&str], lacks: &str) -> bool {
        let skip = servers.contains(&self.name.as_str());
        if skip {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let line = format!("SKIPPED {test} on {}: {lacks}\n", self.name);
            let _ = std::io::stderr().write_all(line.as_bytes());
            // Whoever runs many suites counts them; a runner that hides the output of tests that pass hides this as well.
            if let Some(path) = std::env::var_os("ROPEWAY_TEST_SKIPS") {
                let mut file =
                    std::fs::File::options().append(true).create(true).open(path).expect("the list of skips");
                file.write_all(line.as_bytes()).expect("the list of skips");
            }
        }
        skip
    }
}
