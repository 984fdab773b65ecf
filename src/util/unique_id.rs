//! Owns 128-bit ids that are unique across processes and forks. Knows nothing of the things that they name.

/// Returns an id that no other call returns, not even one in a forked process, which continues with the same
/// random numbers.
pub(crate) fn unique_id() -> u128 {
    let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
    let mut hash = sha1_smol::Sha1::new();
    hash.update(&fastrand::u128(..).to_le_bytes());
    hash.update(&u128::from(std::process::id()).to_le_bytes());
    hash.update(&nanos.to_le_bytes());
    let bytes = hash.digest().bytes();
    bytes.first_chunk().map_or(nanos, |bytes| u128::from_le_bytes(*bytes))
}
