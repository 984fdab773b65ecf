//! TLS: which certificates a store trusts, and that one side alone does not use it.

#[cfg(feature = "tls")]
use std::process::{Command, Stdio};
#[cfg(feature = "tls")]
use std::time::Duration;

use millpond::{Error, Fallback};

#[cfg(feature = "tls")]
use crate::support::ports::free_port;
#[cfg(feature = "tls")]
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options};

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_unsupported_in_a_build_without_it() {
    let opened = open("rediss://127.0.0.1:1", options().fallback(Fallback::Memory));
    assert!(matches!(opened, Err(Error::Unsupported { .. })), "{opened:?}");
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_used_by_both_sides_with_a_trusted_certificate() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["good", "other"] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status()
            .expect("this test needs openssl");
        assert!(made.success());
    }
    let (good, other) = (dir.path().join("good.crt"), dir.path().join("other.crt"));
    let port = free_port().to_string();
    let key = dir.path().join("good.key");
    let (certificate, key) = (good.to_str().unwrap(), key.to_str().unwrap());
    let files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate];
    let place = ["--tls-port", &port, "--tls-auth-clients", "no"];
    let server = RedisServer::start_with(&[&place[..], &files].concat());
    let url = format!("rediss://127.0.0.1:{port}");
    let options = options().connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(2));
    let store = open(&url, options.clone().tls_ca_file(good)).unwrap();
    store.put("a", vec![1; 100_000]).unwrap();
    assert_eq!(store.get::<Vec<i64>>("a").unwrap().unwrap().len(), 100_000);
    let opened = open(&url, options.clone().fallback(Fallback::Memory).tls_ca_file(other));
    assert!(matches!(opened, Err(Error::Server { .. })), "{opened:?}");
    for fallback in [Fallback::Memory, Fallback::None] {
        for (url, words) in [
            (format!("redis://127.0.0.1:{port}"), "write rediss://"),
            (format!("rediss://127.0.0.1:{}", server.port()), "write redis://"),
        ] {
            let error = open(&url, options.clone().fallback(fallback.clone())).unwrap_err();
            let shown = crate::support::chain(&error).join(": ");
            assert!(matches!(error, Error::Server { .. }) && shown.contains(words), "{url}: {shown}");
        }
    }
    let missing = options.tls_ca_file(std::path::PathBuf::from("/nonexistent.pem"));
    assert!(matches!(open(&url, missing), Err(Error::InvalidConfig { .. })));
}
