//! Whom we trust: the system's certificates, or the file that `AWS_CA_BUNDLE` names and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The TLS side of a client. Plain HTTP needs none and reads no certificates.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings(pub(super) Option<Arc<ClientConfig>>);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates is of no use.
    #[error("the CA bundle `{path}` (AWS_CA_BUNDLE) cannot be used: {reason}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no certificates.
    #[error(
        "no trusted certificates were found on this system: {0}; install them (Debian: ca-certificates) or name a file \
         with AWS_CA_BUNDLE"
    )]
    NoneInSystem(String),
}

impl TlsSettings {
    /// Reads the certificates: those of `bundle` if given, else the system's.
    pub fn load(bundle: Option<&Path>) -> Result<TlsSettings, TlsError> {
        let mut roots = RootCertStore::empty();
        match bundle {
            Some(path) => {
                let refuse =
                    |reason: String| TlsError::Bundle { path: path.to_owned(), reason: reason.trim_end().to_owned() };
                let certificates = CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
                    roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(refuse("it holds no certificate".into()));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                    return Err(TlsError::NoneInSystem(reasons.join("; ")));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsSettings(Some(Arc::new(config))))
    }
}
