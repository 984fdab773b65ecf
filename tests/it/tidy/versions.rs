//! The promised version of Rust is enough for every dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn parts(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().expect("a number")).collect()
}

/// Runs `cargo metadata` on the lock file as it is, without the network.
fn metadata(args: &[&str]) -> Result<Value, String> {
    let fixed = ["metadata", "--locked", "--offline", "--all-features", "--format-version", "1"];
    let mut command = Command::new(env!("CARGO"));
    let outcome = command.args(fixed).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let outcome = outcome.map_err(|error| error.to_string())?;
    if !outcome.status.success() {
        return Err(String::from_utf8_lossy(&outcome.stderr).into_owned());
    }
    serde_json::from_slice(&outcome.stdout).map_err(|error| error.to_string())
}

#[test]
fn no_dependency_needs_a_later_rust_than_this_package() {
    // The crates for other systems may not have been downloaded.
    let host = Command::new("rustc").arg("-vV").output().expect("rustc");
    let host = String::from_utf8(host.stdout).expect("a text");
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let metadata = metadata(&[]).or_else(|_| metadata(&["--filter-platform", host])).expect("the metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let own = packages.iter().find(|package| package["name"] == "millpond").expect("this package");
    let promised = own["rust_version"].as_str().expect("a rust-version");
    let mut checked = 0;
    for package in packages {
        if let Some(needed) = package["rust_version"].as_str() {
            let (name, version) = (&package["name"], &package["version"]);
            assert!(parts(needed) <= parts(promised), "{name} {version} needs Rust {needed}, not {promised}");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

/// The names and versions of a lock file.
fn locked(path: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a lock file");
    let lock: toml::Table = text.parse().expect("TOML");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |field: &str| package[field].as_str().expect("a text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions
}

#[test]
fn the_benchmarks_use_the_versions_that_the_tests_use() {
    let (ours, theirs) = (locked("Cargo.lock"), locked("benches/Cargo.lock"));
    for (name, versions) in &ours {
        if let Some(others) = theirs.get(name) {
            assert!(!versions.is_disjoint(others), "{name}: {versions:?}, but {others:?} in the benchmarks");
        }
    }
}
