//! Owns the records of a queue's files that every later version must read. The tests read them.

/// Every kind of action and observation in a group, which versions 1 and 2 of the format have in common. Frozen.
pub(super) const GROUPS: [&str; 12] = [
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"put":{"value":{"json":"{\"n\":1}"},"ttl":null}},"observed":"nothing"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"put":{"value":{"raw":"AP8="},"ttl":5000}},"observed":"absent"},{"key":"b","action":"delete","observed":"own_write"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"put_if_present":{"value":{"json":"1"}}},"observed":"assumed_absent"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"incr":{"by":-7,"ttl_if_created":9}},"observed":{"hash":"AAECAwQFBgcICQoLDA0ODxAREhM="}}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"expire":{"ttl":12}},"observed":{"any_of":["absent",{"hash":"AAECAwQFBgcICQoLDA0ODxAREhM="}]}}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":"persist","observed":"not_a_value"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"map_put":{"fields":[["f",{"json":"1"}]],"ttl_if_created":null}},"observed":"own_write"},{"key":"a","action":{"map_delete":{"field":"f"}},"observed":"own_write"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"map_incr":{"field":"f","by":2,"ttl_if_created":null}},"observed":"own_write"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"push":{"front":true,"values":[{"json":"1"},{"json":"2"}],"ttl_if_created":60000}},"observed":"own_write"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"pop":{"front":false}},"observed":"own_write"},{"key":"a","action":{"trim":{"most":3}},"observed":"own_write"}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"a","action":{"pop":{"front":true}},"observed":"own_write","in_doubt":{"store_id":"0123456789abcdef0123456789abcdef","cache_id":7,"slot":1,"sequence":9,"step":0}}]}"#,
    r#"{"queued_at":1700000000000,"ops":[{"key":"q:__millpond:leased","action":{"map_put":{"fields":[["7",{"json":"1"}]],"ttl_if_created":null}},"observed":"nothing"},{"key":"q:__millpond:leases","action":{"set_lease":{"id":"7","left":30000}},"observed":"nothing"},{"key":"q:__millpond:leases","action":{"set_lease":{"id":"6","left":null}},"observed":"own_write"}]}"#,
];

/// Every kind of outcome in format version 2. Frozen.
pub(super) const OUTCOMES: [&str; 4] = [
    r#"{"since":1700000000000,"op":{"key":"a","action":{"incr":{"by":1,"ttl_if_created":null}},"observed":"nothing"},"outcome":{"rejected":"WRONGTYPE Operation against a key"}}"#,
    r#"{"since":1700000000000,"op":{"key":"b","action":{"put":{"value":{"json":"1"},"ttl":null}},"observed":"absent"},"outcome":{"overwritten":"AP8="}}"#,
    r#"{"since":1700000000000,"op":{"key":"b","action":"delete","observed":"own_write"},"outcome":{"dropped":null}}"#,
    r#"{"since":1700000000000,"op":{"key":"q","action":{"push":{"front":false,"values":[{"json":"1"}],"ttl_if_created":null}},"observed":"own_write"},"outcome":"uncertain"}"#,
];
