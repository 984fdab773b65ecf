//! Owns TLS: which certificates a store trusts, what a refusal by the server means, and the encrypted stream over a socket. Knows nothing of the protocol
//! of the server.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, ConfigBuilder, RootCertStore};

use crate::backend::redis::connect::client_certificate::{ClientCertificate, MakeConfig};
use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::timed_socket::{Arrived, TimedSocket, Until, WriteError};
use crate::config::RedisOptions;
use crate::error::{Error, Result};

/// At most this many bytes are encrypted before they are sent.
const PIECE: usize = 64 << 10;

/// The certificates that a store trusts, the one that it shows, and the name that the server's certificate must have.
pub(crate) struct TlsClient {
    settings: Settings,
    name: ServerName<'static>,
}

/// The settings of TLS.
enum Settings {
    /// Those of a store that shows no certificate.
    Anonymous(Arc<ClientConfig>),
    Certified(ClientCertificate),
}

impl TlsClient {
    /// Trusts the certificates of a PEM file; without a file, those of the system.
    pub(crate) fn new(host: &str, options: &RedisOptions) -> Result<Self> {
        let roots = Arc::new(match &options.tls_ca_file {
            Some(path) => roots_of_file(path)?,
            None => roots_of_system()?,
        });
        let settings = if let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file)
        {
            let make: MakeConfig = Box::new(move |chain, key| {
                trusting(Arc::clone(&roots))?.with_client_auth_cert(chain, key).map(Arc::new)
            });
            Settings::Certified(ClientCertificate::new(certificate, key, make)?)
        } else {
            let trusting = trusting(roots).map_err(|error| {
                Error::invalid_config("redis.url", format!("TLS cannot be used: {error}"))
            })?;
            Settings::Anonymous(Arc::new(trusting.with_no_client_auth()))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let reason = "with rediss://, its host must be a name or an address that a certificate can hold";
            Error::invalid_config("redis.url", reason.to_owned())
        })?;
        Ok(Self { settings, name })
    }

    /// Returns the settings for the next connection.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        match &self.settings {
            Settings::Anonymous(config) => Ok(Arc::clone(config)),
            Settings::Certified(certificate) => certificate.config(),
        }
    }

    /// Makes the handshake over a socket until `end`.
    pub(crate) fn connect(
        &self,
        config: Arc<ClientConfig>,
        socket: TimedSocket,
        end: Instant,
    ) -> io::Result<TlsStream> {
        let session = ClientConnection::new(config, self.name.clone());
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let certificate = match &self.settings {
            Settings::Anonymous(_) => None,
            Settings::Certified(certificate) => Some(certificate.path().into()),
        };
        let mut stream = TlsStream { session, socket, certificate };
        while stream.session.is_handshaking() {
            if stream.session.wants_write() {
                stream.flush_or_explain(end)?;
            } else {
                stream.read_records(end)?;
            }
        }
        stream.flush_or_explain(end)?;
        Ok(stream)
    }
}

/// Begins the settings of a store that trusts these certificates.
fn trusting(
    roots: Arc<RootCertStore>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore> {
    let invalid = |cause: &dyn std::fmt::Display| {
        Error::invalid_config("redis.tls_ca_file", format!("reading {}: {cause}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| invalid(&error))? {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    if roots.is_empty() {
        return Err(invalid(&"it contains no certificate in PEM format"));
    }
    Ok(roots)
}

/// A certificate that cannot be used is passed over: systems ship some.
fn roots_of_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let cause = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let reason = format!("the system trusts no certificates; name a file of certificates{cause}");
        return Err(Error::invalid_config("redis.tls_ca_file", reason));
    }
    Ok(roots)
}

/// Returns what to change if the server refuses this store for its certificate, or for having none.
fn refusal_of_certificate(error: &rustls::Error, certificate: Option<&Path>) -> Option<String> {
    use AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = error else { return None };
    match (alert, certificate) {
        (Alert::CertificateRequired | Alert::NoCertificate, None) => {
            Some("the server wants a client certificate (set tls_cert_file and tls_key_file)".to_owned())
        }
        // Before TLS 1.3 there was no alert of its own for this.
        (Alert::HandshakeFailure, None) => {
            Some("the server may want a client certificate (set tls_cert_file and tls_key_file)".to_owned())
        }
        (
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
            Some(path),
        ) => Some(format!("the server refuses the client certificate in {}", path.display())),
        _ => None,
    }
}

/// An encrypted stream.
pub(crate) struct TlsStream {
    session: ClientConnection,
    socket: TimedSocket,
    /// The file of the certificate that the store shows.
    certificate: Option<Box<Path>>,
}

impl TlsStream {
    /// From now on, waits end at the cutoff too.
    pub(crate) fn obey(&mut self, cutoff: Arc<Cutoff>) {
        self.socket.obey(cutoff);
    }

    /// Reads at least one byte until `end`; 0 bytes are the end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8], end: Instant) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            // A received record may call for a reply, such as new keys.
            self.flush_or_explain(end)?;
            self.read_records(end)?;
        }
    }

    /// Writes all bytes until `end`. If it fails, the last record is incomplete, so the peer cannot read its bytes.
    pub(crate) fn write_all(&mut self, bytes: &[u8], end: Instant) -> Result<(), WriteError> {
        let mut took_some = false;
        for piece in bytes.chunks(PIECE) {
            let buffered = self.session.writer().write_all(piece);
            let sent = buffered.map_err(|error| WriteError { error, took_some: false });
            let sent = sent.and_then(|()| self.flush(end));
            sent.map_err(|failed| WriteError { took_some: failed.took_some || took_some, ..failed })?;
            took_some = true;
        }
        Ok(())
    }

    /// Sends all records that are encrypted.
    fn flush(&mut self, end: Instant) -> Result<(), WriteError> {
        let mut written = 0;
        while self.session.wants_write() {
            let mut socket = Until { socket: &mut self.socket, end, written: &mut written };
            if let Err(error) = self.session.write_tls(&mut socket) {
                return Err(WriteError { error, took_some: written > 0 });
            }
        }
        Ok(())
    }

    /// As [`TlsStream::flush`]. If the server has closed the connection, the error is the reason that it sent before, if
    /// any.
    fn flush_or_explain(&mut self, end: Instant) -> io::Result<()> {
        let Err(WriteError { error, .. }) = self.flush(end) else { return Ok(()) };
        let is_closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
        while is_closed.contains(&error.kind()) {
            match self.read_records(end) {
                Ok(()) => {}
                Err(reason) if reason.kind() == ErrorKind::InvalidData => return Err(reason),
                Err(_) => break,
            }
        }
        Err(error)
    }

    /// Receives records and decrypts them.
    fn read_records(&mut self, end: Instant) -> io::Result<()> {
        let mut socket = Until { socket: &mut self.socket, end, written: &mut 0 };
        if self.session.read_tls(&mut socket)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.decrypt()
    }

    fn decrypt(&mut self) -> io::Result<()> {
        let outcome = self.session.process_new_packets();
        outcome.map(drop).map_err(|error| match refusal_of_certificate(&error, self.certificate.as_deref()) {
            Some(refusal) => io::Error::new(ErrorKind::InvalidData, format!("{refusal}: {error}")),
            None => io::Error::new(ErrorKind::InvalidData, error),
        })
    }

    /// Returns what has arrived, without waiting. Records of TLS itself, such as new keys, may come at any time and do
    /// not count.
    pub(crate) fn arrived(&mut self) -> Arrived {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.take_arrived(&mut buffer) {
                Arrived::Nothing => break,
                Arrived::End => return Arrived::End,
                Arrived::Bytes(count) => {
                    let mut records = buffer.get(..count).unwrap_or_default();
                    while !records.is_empty() {
                        if self.session.read_tls(&mut records).is_err() || self.decrypt().is_err() {
                            return Arrived::End;
                        }
                    }
                }
            }
        }
        match self.session.reader().read(&mut [0]) {
            Ok(0) => Arrived::End,
            Ok(count) => Arrived::Bytes(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Arrived::Nothing,
            Err(_) => Arrived::End,
        }
    }
}
