//! Owns TLS: which certificates a store trusts, and the encrypted stream over a socket. Knows nothing of the protocol
//! of the server.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::backend::redis::connect::cutoff::Cutoff;
use crate::backend::redis::connect::timed_socket::{Arrived, TimedSocket, Until, WriteError};
use crate::error::{Error, Result};

/// At most this many bytes are encrypted before they are sent.
const PIECE: usize = 64 << 10;

/// The certificates that a store trusts, and the name that the server's certificate must have.
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// Trusts the certificates of a PEM file; without a file, those of the system.
    pub(crate) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self> {
        let roots = match ca_file {
            Some(path) => roots_of_file(path)?,
            None => roots_of_system()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid_config("redis.url", format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let reason = "with rediss://, its host must be a name or an address that a certificate can hold";
            Error::invalid_config("redis.url", reason.to_owned())
        })?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// Makes the handshake over a socket until `end`.
    pub(crate) fn connect(&self, socket: TimedSocket, end: Instant) -> io::Result<TlsStream> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let mut stream = TlsStream { session, socket };
        while stream.session.is_handshaking() {
            if stream.session.wants_write() {
                stream.flush(end).map_err(|failed| failed.error)?;
            } else {
                stream.read_records(end)?;
            }
        }
        stream.flush(end).map_err(|failed| failed.error)?;
        Ok(stream)
    }
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

/// An encrypted stream.
pub(crate) struct TlsStream {
    session: ClientConnection,
    socket: TimedSocket,
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
            self.flush(end).map_err(|failed| failed.error)?;
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
        outcome.map(drop).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
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
