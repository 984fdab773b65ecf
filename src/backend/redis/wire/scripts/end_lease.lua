-- Ends a lease.
-- KEYS: the queue, the deadlines of its leases, the leased values, the records of returned values (see lease.lua).
-- ARGV: the id of the lease; '1' if its value goes back to the front of the queue; the TTL in ms for a queue that is
-- created, or ''.
-- Returns 1, or 0 if there is no such lease.
-- It is one script so that the value goes back at most once, however many clients end the lease.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
-- A server that is out of memory, or a user without one of these permissions, is refused before anything changes: these
-- commands change nothing. The first of them adds nothing, but is refused for want of memory.
if ARGV[2] == '1' then redis.call('ZADD', KEYS[2], 'XX', 0, '') end
redis.call('ZREM', KEYS[2], '')
redis.call('HDEL', KEYS[3], '')
local value = ARGV[2] == '1' and redis.call('HGET', KEYS[3], ARGV[1])
if value then
  local newest = redis.call('LINDEX', KEYS[4], 0)
  local absent = redis.call('EXISTS', KEYS[1]) == 0
  if absent and ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  local pushed = redis.pcall('LPUSH', KEYS[1], value)
  if type(pushed) == 'table' then return pushed end
  if absent and ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  if newest and tonumber(string.match(newest, '^%d+|(%d+)')) >= pushed then redis.call('DEL', KEYS[4]) end
  local attempts = string.match(ARGV[1], '^(%d+)x') or '1'
  redis.call('LPUSH', KEYS[4], attempts .. '|' .. pushed .. '|' .. #value .. '|' .. redis.sha1hex(value))
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
