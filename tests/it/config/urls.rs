//! URLs and configurations with mistakes: they never cause a panic or a surprise, and never show a password.

use fastrand::Rng;
use millpond::{Error, StateConfig};

use crate::support::seeds::seeds;

/// Parses a text as a URL. If that works, the configuration must survive a round trip, or be rejected itself.
fn read(url: &str, seed: u64) -> bool {
    match StateConfig::from_url(url) {
        Ok(config) => {
            let spelled = config.to_url();
            let again = StateConfig::from_url(&spelled);
            assert_eq!(
                again.as_ref().ok(),
                Some(&config),
                "MILLPOND_SEED={seed}: {url:?} became {spelled:?}"
            );
            assert_eq!(config.to_url(), again.unwrap().to_url(), "MILLPOND_SEED={seed}: {url:?}");
            true
        }
        Err(Error::InvalidConfig { .. }) => false,
        Err(other) => panic!("MILLPOND_SEED={seed}: {url:?}: {other:?}"),
    }
}

/// Changes a few characters, or inserts text that has a meaning in URLs and options.
fn mutate(url: &str, random: &mut Rng) -> String {
    const PARTS: [&str; 34] = [
        "%",
        "%f",
        "%ff",
        "%00",
        "%2F",
        "é",
        "\0",
        "://",
        "@",
        ":",
        "/",
        "?",
        "&",
        "=",
        "[",
        "]",
        "#",
        "..",
        "~/",
        "$",
        " ",
        "99999999999999999999",
        "-1",
        "1e999",
        "NaN",
        "1h",
        "0ms",
        "null",
        "memory",
        "file:",
        "sync=never",
        "fallback=file:",
        "default_ttl=1y",
        "key_prefix=",
    ];
    let mut url: Vec<char> = url.chars().collect();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=url.len());
        match random.u32(..4) {
            0 => url.truncate(at),
            1 if at < url.len() => drop(url.remove(at)),
            2 => url.insert(at, random.char(..)),
            _ => drop(url.splice(at..at, random.choice(PARTS).unwrap().chars())),
        }
    }
    url.into_iter().collect()
}

/// Parsing only parses: it does not look for the directory that a URL names.
#[test]
fn parsing_any_text_as_a_url_neither_panics_nor_creates_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("file://{}/a%20b/c?sync=500ms&compact_ratio=0.5", dir.path().display());
    let short = format!("file:{}/state", dir.path().display());
    let urls = [
        "memory:?default_ttl=1h&max_value_bytes=5&name=7&slow=1s",
        "file:///a%20b/c?sync=500ms&compact_ratio=0.5",
        &file,
        &short,
        "redis://us%40er:p%3Aw@[::1]:6380/3?key_prefix=a:b&timeout=5s&fallback=none",
        "redis://h?fallback=file:/var/lib/x&sync=never&exactly_once=true",
        "rediss://h?tls_ca_file=/x&pool_size=1",
    ];
    for url in urls {
        assert!(read(url, 0), "{url}");
    }
    let mut read_well = 0;
    for seed in seeds(0, 100) {
        let random = &mut Rng::with_seed(seed);
        for _ in 0..300 {
            read_well += u32::from(read(&mutate(random.choice(urls).unwrap(), random), seed));
            let bytes: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
            read(&String::from_utf8_lossy(&bytes), seed);
            let scheme = random
                .choice(["memory:", "file:", "file:///", "redis://", "memory:?", "redis://h?"])
                .unwrap();
            read(&format!("{scheme}{}", String::from_utf8_lossy(&bytes)), seed);
        }
    }
    assert!(read_well > 50, "{read_well}");
    assert!(dir.path().read_dir().unwrap().next().is_none(), "a file was created");
}

/// A parser quotes the text that it cannot parse, and that text may be a password in the wrong place.
#[test]
fn a_password_in_the_wrong_place_is_not_shown() {
    for url in [
        "redis://u:12?s3cret@127.0.0.1:1",
        "redis://u:12/3?s3cret@h",
        "redis://u:1?timeout=s3cret@h",
        "redis://u:1?s3cret=x@h",
        "redis://h?pool_size=s3cret@h",
        "s3cret@host:6379",
        "file:redis://u:s3cret@h",
    ] {
        let error = StateConfig::from_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error}");
    }
    for json in [
        r#"{"backend": "redis://u:s3cret@h"}"#,
        r#"{"backend": {"redis://u:s3cret@h": {}}}"#,
        r#"{"backend": {"redis": "redis://u:s3cret@h"}}"#,
        r#"{"redis://u:s3cret@h": 1}"#,
    ] {
        let error = serde_json::from_str::<StateConfig>(json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{json}: {error}");
    }
}

#[test]
fn surprising_configurations_are_refused() {
    for (url, field, word) in [
        ("file:~/state", "path", "expanded"),
        ("file:$HOME/state", "path", "expanded"),
        ("file:redis://h", "path", "URL"),
        ("memory:?default_ttl=1s&default_ttl=2s", "default_ttl", "twice"),
        ("file:./state?sync=1", "file.sync", "unit"),
    ] {
        match StateConfig::from_url(url) {
            Err(Error::InvalidConfig { field: named, reason, .. }) => {
                assert!(named == field && reason.contains(word), "{url}: {named}: {reason}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
