//! Owns which shard a hash belongs to. Knows nothing of what the shards contain.

/// How many shards a table has.
pub(crate) const SHARDS: usize = 32;

/// Returns the shard of a hash. It uses bits that the hash table inside a shard does not use.
pub(crate) fn shard_index(hash: u64) -> usize {
    usize::from(SHARD_OF[(hash >> 48) as usize % SHARD_OF.len()])
}

/// Gives the shards shares of the hashes that grow from one to two, in equal ratios. A hash table doubles when it is
/// full. With equal shares all shards would double at the same number of entries, which takes long and leaves all of
/// them half empty.
static SHARD_OF: [u8; 1024] = shards_by_hash();

/// The end of each shard's share: `1024 * (2^(n/32) - 1)`.
const ENDS: [u16; SHARDS] = [
    22, 45, 69, 93, 117, 142, 168, 194, 220, 248, 276, 304, 333, 363, 393, 424, 456, 488, 521, 555, 590, 625,
    661, 698, 736, 774, 814, 854, 895, 937, 980, 1024,
];

const fn shards_by_hash() -> [u8; 1024] {
    let mut shards = [0; 1024];
    let (mut at, mut shard) = (0, 0);
    while at < shards.len() {
        if at >= ENDS[shard as usize] as usize {
            shard += 1;
        }
        shards[at] = shard;
        at += 1;
    }
    shards
}
