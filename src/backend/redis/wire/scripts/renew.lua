-- Reads a value and renews its TTL. It follows get_and_renew.lua.
-- KEYS: the key. ARGV: the TTL in ms.
-- Returns what get_and_renew returns.
-- It is one script so that the value is not gone between the read and the renewal, and a TTL that another client sets
-- or removes meanwhile is not overwritten.
return get_and_renew(KEYS[1], ARGV[1])
