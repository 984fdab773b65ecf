-- Creates the reply cache of a store if there is none, and renews its TTL. It follows keep.lua.
-- KEYS: the reply cache, a hash: `cache_id`, and for each slot `<sequence>|<packed replies of that call>`.
-- ARGV: the id of a cache that is created, the TTL in ms.
-- Returns the id of the cache.
-- It is one script so that all calls that create it at the same time learn the same id.

-- A server that is out of memory refuses a write that adds something, unless the script has removed something
-- before: a pop frees memory, and its reply must be cached too.
redis.call('HDEL', KEYS[1], 'none')
redis.call('HSETNX', KEYS[1], 'cache_id', ARGV[1])
-- A user who may not store replies learns it here, before the first call.
redis.call('HSET', KEYS[1], 'cache_id', redis.call('HGET', KEYS[1], 'cache_id'))
keep(KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[1], 'cache_id')
