-- Replaces the epoch after a rollback, unless another client has done so.
-- KEYS: the epoch. ARGV: the epoch that was found; the new one.
-- Returns the epoch that is stored now.
-- Several clients may notice a rollback. One script compares and sets, so that only one of them replaces the epoch.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  local set = redis.pcall('SET', KEYS[1], ARGV[2])
  if set.err then return set end
end
return redis.call('GET', KEYS[1])
