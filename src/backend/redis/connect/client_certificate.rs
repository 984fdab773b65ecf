//! Owns the certificate by which a store shows a server who it is, and its private key: two files that may be replaced
//! at any time. Knows nothing of sockets, nor of which servers are trusted.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::backend::redis::connect::credential_file::CredentialFile;
use crate::error::{Error, Result};

/// Makes the settings of TLS with a client certificate.
pub(crate) type MakeConfig = Box<
    dyn Fn(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) -> Result<Arc<ClientConfig>, rustls::Error>
        + Send
        + Sync,
>;

pub(crate) struct ClientCertificate {
    certificate: CredentialFile,
    key: CredentialFile,
    make: MakeConfig,
    /// What the files held when they were read last. A connection that resumes a session of TLS shows no certificate, so
    /// sessions end with the certificate under which they began.
    current: Mutex<Option<LoadedPair>>,
}

struct LoadedPair {
    certificate: Vec<u8>,
    key: Vec<u8>,
    config: Arc<ClientConfig>,
}

impl ClientCertificate {
    /// Fails if the files cannot be used.
    pub(crate) fn new(certificate: &Path, key: &Path, make: MakeConfig) -> Result<Self> {
        let files = Self {
            certificate: CredentialFile::new("client certificate", certificate),
            key: CredentialFile::new("private key", key),
            make,
            current: Mutex::default(),
        };
        files.read().map_err(|(field, reason)| Error::invalid_config(field, reason))?;
        Ok(files)
    }

    /// The file of the certificate, as errors name it.
    pub(crate) fn path(&self) -> &Path {
        self.certificate.path()
    }

    /// Returns the settings for the next connection: with the files as they are now.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.read().map_err(|(_, reason)| reason)
    }

    /// An error is the option and the reason.
    fn read(&self) -> Result<Arc<ClientConfig>, (&'static str, String)> {
        let of_certificate = |reason| ("redis.tls_cert_file", reason);
        let of_key = |reason| ("redis.tls_key_file", reason);
        let certificate = self.certificate.read().map_err(of_certificate)?;
        let key = self.key.read().map_err(of_key)?;
        let is_known = |pair: &&LoadedPair| pair.certificate == certificate && pair.key == key;
        if let Some(pair) = self.current.lock().as_ref().filter(is_known) {
            return Ok(Arc::clone(&pair.config));
        }
        let chain =
            certificates(&certificate).map_err(|reason| of_certificate(self.certificate.error(&reason)))?;
        let private_key = private_key(&key).map_err(|reason| of_key(self.key.error(&reason)))?;
        let config = (self.make)(chain, private_key).map_err(|error| {
            let certificate = self.certificate.path().display();
            of_key(
                self.key.error(&format!("it cannot be used with the certificate in {certificate}: {error}")),
            )
        })?;
        *self.current.lock() = Some(LoadedPair { certificate, key, config: Arc::clone(&config) });
        Ok(config)
    }
}

/// No reason quotes the file.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let read: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if chain.is_empty() => Err("it contains no certificate in PEM format"),
        Ok(chain) => Ok(chain),
        Err(_) => Err("it is not in PEM format"),
    }
}

/// No reason quotes the file.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if matches!(error, PemError::NoItemsFound) {
            "it contains no private key in PEM format, or an encrypted one, which must be decrypted first"
        } else {
            "it is not in PEM format"
        }
    })
}
