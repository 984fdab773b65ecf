//! Mutual TLS: the certificate that a store shows to its server, and how it is replaced while the store is open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millpond::{Error, RedisOptions, Status};

use crate::support::chain;
use crate::support::ports::free_port;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, options, patient, pending, wait_for, wait_until_connected};

/// How a private key is made and written.
#[derive(Clone, Copy, Debug)]
enum KeyForm {
    /// Of any kind of key.
    Pkcs8,
    /// Of RSA, as older tools write it.
    Rsa,
    EllipticCurve,
}

/// A certificate and its private key.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let run = Command::new("openssl").args(arguments).current_dir(dir).stderr(Stdio::null()).status();
    assert!(run.expect("this test needs openssl").success(), "{arguments:?}");
}

/// Makes an authority, which issues certificates.
fn make_authority(dir: &Path, name: &str) -> PathBuf {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let subject = format!("/CN={name}");
    openssl(
        dir,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
    dir.join(certificate)
}

/// Makes a certificate that an authority has signed.
fn issue(dir: &Path, authority: &str, name: &str, form: KeyForm) -> Pair {
    let key = format!("{name}.key");
    match form {
        KeyForm::EllipticCurve => openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-out", &key]),
        KeyForm::Pkcs8 => {
            openssl(dir, &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &key]);
        }
        KeyForm::Rsa => {
            openssl(dir, &["genrsa", "-out", "plain.key", "2048"]);
            openssl(dir, &["rsa", "-traditional", "-in", "plain.key", "-out", &key]);
        }
    }
    fs::write(dir.join("extensions"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let (request, certificate) = (format!("{name}.csr"), format!("{name}.crt"));
    openssl(dir, &["req", "-new", "-key", &key, "-subj", "/CN=localhost", "-out", &request]);
    let (signer, signer_key) = (format!("{authority}.crt"), format!("{authority}.key"));
    openssl(
        dir,
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &signer,
            "-CAkey",
            &signer_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            &certificate,
        ],
    );
    Pair { certificate: dir.join(certificate), key: dir.join(key) }
}

/// A server that accepts only clients with a certificate of the authority `good`.
struct Mutual {
    server: RedisServer,
    url: String,
    authority: PathBuf,
    dir: tempfile::TempDir,
}

impl Mutual {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = make_authority(dir.path(), "good");
        let server = issue(dir.path(), "good", "server", KeyForm::EllipticCurve);
        let port = free_port().to_string();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (certificate, key, trusted) = (text(&server.certificate), text(&server.key), text(&authority));
        let server = RedisServer::start_with(
            &[
                &["--tls-port", &port, "--tls-auth-clients", "yes", "--tls-cert-file", &certificate][..],
                &["--tls-key-file", &key, "--tls-ca-cert-file", &trusted],
                more,
            ]
            .concat(),
        );
        Self { server, url: format!("rediss://127.0.0.1:{port}"), authority, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn trusting(&self, options: RedisOptions) -> RedisOptions {
        options.tls_ca_file(self.authority.clone())
    }

    fn with(&self, options: RedisOptions, pair: &Pair) -> RedisOptions {
        self.trusting(options).tls_cert_file(pair.certificate.clone()).tls_key_file(pair.key.clone())
    }

    /// Closes the connections of all clients.
    fn close_connections(&self) {
        let raw = RawClient::connect(&self.server.url(0));
        raw.run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
}

fn replace(old: &Pair, new: &Pair) {
    fs::copy(&new.certificate, &old.certificate).unwrap();
    fs::copy(&new.key, &old.key).unwrap();
}

#[test]
fn a_store_shows_its_certificate_with_a_key_of_any_form() {
    let mutual = Mutual::start(&[]);
    for (name, form) in [("a", KeyForm::Pkcs8), ("b", KeyForm::Rsa), ("c", KeyForm::EllipticCurve)] {
        let pair = issue(mutual.path(), "good", name, form);
        let store = open(&mutual.url, mutual.with(patient(options()), &pair)).unwrap();
        store.put("a", vec![1; 100_000]).unwrap();
        assert_eq!(store.get::<Vec<i64>>("a").unwrap().unwrap().len(), 100_000, "{form:?}");
    }
    // The URL notation, with its chain in the file.
    let pair = issue(mutual.path(), "good", "d", KeyForm::EllipticCurve);
    let chained = [fs::read(&pair.certificate).unwrap(), fs::read(&mutual.authority).unwrap()].concat();
    fs::write(&pair.certificate, chained).unwrap();
    let url = format!(
        "{}?tls_ca_file={}&tls_cert_file={}&tls_key_file={}&timeout=30s&connect_timeout=30s&at_start=require",
        mutual.url,
        mutual.authority.display(),
        pair.certificate.display(),
        pair.key.display()
    );
    millpond::StateStore::open(url).unwrap().put("b", 1).unwrap();
}

#[test]
fn a_wrong_or_missing_certificate_is_named() {
    for protocols in [&[][..], &["--tls-protocols", "TLSv1.2"]] {
        let mutual = Mutual::start(protocols);
        make_authority(mutual.path(), "other");
        let foreign = issue(mutual.path(), "other", "foreign", KeyForm::EllipticCurve);
        for options in [options(), memory()] {
            let options = patient(options);
            let refused = assert_error!(
                open(&mutual.url, mutual.with(options.clone(), &foreign)),
                Error::Server { .. }
            );
            let shown = chain(&refused).join(": ");
            for word in
                ["TLS handshake", "refuses the client certificate in", foreign.certificate.to_str().unwrap()]
            {
                assert!(shown.contains(word), "{shown}");
            }
            let refused = assert_error!(open(&mutual.url, mutual.trusting(options)), Error::Server { .. });
            let shown = chain(&refused).join(": ");
            assert!(
                shown.contains("want a client certificate") || shown.contains("wants a client"),
                "{shown}"
            );
            assert!(shown.contains("set tls_cert_file and tls_key_file"), "{shown}");
        }
    }
}

#[test]
fn a_certificate_replaced_while_connected_is_shown_from_then_on() {
    let mutual = Mutual::start(&[]);
    make_authority(mutual.path(), "other");
    let pair = issue(mutual.path(), "good", "client", KeyForm::EllipticCurve);
    let store = open(&mutual.url, mutual.with(patient(memory()), &pair)).unwrap();
    store.put("a", 1).unwrap();
    // A certificate that the server refuses shows that the store uses it.
    replace(&pair, &issue(mutual.path(), "other", "foreign", KeyForm::EllipticCurve));
    mutual.close_connections();
    let refused = assert_error!(store.get::<i64>("a"), Error::Server { .. });
    assert!(chain(&refused).join(": ").contains("refuses the client certificate"), "{refused:?}");
    assert_eq!(store.status(), Status::Connected, "a refusal is no outage");
    replace(&pair, &issue(mutual.path(), "good", "next", KeyForm::EllipticCurve));
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

/// The certificate is there before its key: the server counts as unreachable until both are.
#[test]
fn half_a_replaced_pair_is_an_outage_that_ends_with_the_other_half() {
    let mutual = Mutual::start(&[]);
    let pair = issue(mutual.path(), "good", "client", KeyForm::EllipticCurve);
    let store = open(&mutual.url, mutual.with(memory(), &pair)).unwrap();
    store.put("a", 1).unwrap();
    let next = issue(mutual.path(), "good", "next", KeyForm::EllipticCurve);
    fs::copy(&next.certificate, &pair.certificate).unwrap();
    mutual.close_connections();
    wait_for("the store is disconnected", || {
        let _ = store.get::<i64>("a");
        pending(&store).is_some()
    });
    store.put("a", 2).unwrap();
    wait_for("both files are named", || {
        let (certificate, key) = (pair.certificate.to_str().unwrap(), pair.key.to_str().unwrap());
        matches!(store.status(), Status::Disconnected { reason, .. }
            if reason.contains(certificate) && reason.contains(key))
    });
    fs::copy(&next.key, &pair.key).unwrap();
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
}

#[test]
fn files_that_cannot_be_used_are_refused_when_a_store_is_opened() {
    let mutual = Mutual::start(&[]);
    let pair = issue(mutual.path(), "good", "client", KeyForm::EllipticCurve);
    let other = issue(mutual.path(), "good", "other", KeyForm::EllipticCurve);
    let missing = mutual.path().join("missing.pem");
    let garbage = mutual.path().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN PRIVATE KEY-----\nhunter2\n").unwrap();
    let empty = mutual.path().join("empty.pem");
    fs::write(&empty, "no section\n").unwrap();
    let of = |certificate: &Path, key: &Path| Pair { certificate: certificate.into(), key: key.into() };
    let assert_refused = |url: &str, options: RedisOptions, option: &str, words: &str| {
        let error = assert_error!(open(url, options), Error::InvalidConfig { field, .. } if field == option);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(words) && !shown.contains("hunter2"), "{shown}");
    };
    for (used, option, words) in [
        (of(&missing, &pair.key), "redis.tls_cert_file", missing.to_str().unwrap()),
        (of(&pair.certificate, &missing), "redis.tls_key_file", missing.to_str().unwrap()),
        (of(&empty, &pair.key), "redis.tls_cert_file", "no certificate in PEM format"),
        (of(&pair.certificate, &empty), "redis.tls_key_file", "no private key in PEM format"),
        (of(&pair.certificate, &garbage), "redis.tls_key_file", "not in PEM format"),
        (of(&garbage, &pair.key), "redis.tls_cert_file", "PEM format"),
        (of(&pair.certificate, &other.key), "redis.tls_key_file", "cannot be used with the certificate"),
    ] {
        assert_refused(&mutual.url, mutual.with(memory(), &used), option, words);
    }
    let (certificate, key) = (pair.certificate.clone(), pair.key.clone());
    let only = |options: RedisOptions| mutual.trusting(options);
    assert_refused(
        &mutual.url,
        only(memory().tls_cert_file(certificate)),
        "redis.tls_key_file",
        "is missing",
    );
    assert_refused(&mutual.url, only(memory().tls_key_file(key)), "redis.tls_cert_file", "is missing");
    let plain = mutual.server.url(0);
    assert_refused(&plain, mutual.with(memory(), &pair), "redis.tls_cert_file", "write rediss://");
}
