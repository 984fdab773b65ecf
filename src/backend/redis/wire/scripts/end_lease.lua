-- Ends a lease.
-- KEYS: the queue, the deadlines of its leases, the leased values, the records of returned values (see lease.lua).
-- ARGV: the id of the lease; '1' if its value goes back to the front of the queue; the TTL in ms for a queue that is
-- created, or ''.
-- Returns 1, or 0 if there is no such lease.
-- It is one script so that the value goes back at most once, however many clients end the lease.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local value = ARGV[2] == '1' and redis.call('HGET', KEYS[3], ARGV[1])
if value then
  local absent = redis.call('EXISTS', KEYS[1]) == 0
  local pushed = redis.pcall('LPUSH', KEYS[1], value)
  if type(pushed) == 'table' then return pushed end
  if absent and ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  local newest = redis.call('LINDEX', KEYS[4], 0)
  if newest and tonumber(string.match(newest, '^%d+|(%d+)')) >= pushed then redis.call('DEL', KEYS[4]) end
  local attempts = string.match(ARGV[1], '^(%d+)x') or '1'
  redis.call('LPUSH', KEYS[4], attempts .. '|' .. pushed .. '|' .. #value .. '|' .. redis.sha1hex(value))
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
