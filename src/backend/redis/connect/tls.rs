//! Owns the certificates that TLS trusts, and the library's provider of cryptography. Knows nothing of sockets.

use std::path::Path;

use redis::{ConnectionAddr, IntoConnectionInfo, TlsCertificates};

use crate::backend::redis::failure::{Failure, Stage};
use crate::error::{Error, Result};

/// The PEM text of the certificates to trust; `None` means those of the system.
pub(crate) struct Trust(Option<Vec<u8>>);

impl Trust {
    pub(crate) fn load(tls: bool, file: Option<&Path>) -> Result<Self> {
        if !tls {
            return Ok(Self(None));
        }
        // Without an installed provider the library panics at the first connection, and also if two are linked in.
        // Another part of the program may install one at the same moment: either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = file.map(|path| {
            std::fs::read(path).map_err(|error| {
                Error::invalid_config("redis.tls_ca_file", format!("reading {}: {error}", path.display()))
            })
        });
        let trust = Self(text.transpose()?);
        match trust.target("localhost", 1) {
            Ok(_) => Ok(trust),
            Err(failure) => Err(Error::invalid_config("redis.tls_ca_file", failure.cause.to_string())),
        }
    }

    /// Returns the address of a server that must show a certificate for `host`.
    pub(crate) fn target(&self, host: &str, port: u16) -> Result<ConnectionAddr, Failure> {
        let fail = |error| Failure::from_connection(error, Stage::NotSent, true);
        let plain = ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None };
        let trusted = TlsCertificates { client_tls: None, root_cert: self.0.clone() };
        if trusted.root_cert.is_none() {
            return Ok(plain);
        }
        let info = plain.into_connection_info().map_err(fail)?;
        let client = redis::Client::build_with_tls(info, trusted).map_err(fail)?;
        Ok(client.get_connection_info().addr().clone())
    }
}
