-- Adds a value at the end of a queue later: a lease of the queue does that once the value is due.
-- KEYS: the queue, its delayed values (a sorted set), the fence. ARGV: the value; the delay in ms.
-- Returns 1.
-- A member of the set is a number of 16 digits that grows, and the value behind it: so values that are due at the same
-- time keep their order, and equal values are different members. The score is when the value is due, in microseconds.
-- It is one script so that the delay is by the server's clock.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
end
-- A user without this permission is refused before anything changes. It adds nothing.
redis.call('ZADD', KEYS[2], 'XX', 0, '')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[3]) or '0') or 0
local number = math.max(last + 1, now)
local set = redis.pcall('SET', KEYS[3], string.format('%.0f', number))
if set.err then return set end
local due = now + ARGV[2] * 1000
return redis.call('ZADD', KEYS[2], string.format('%.0f', due), string.format('%016.0f', number) .. ARGV[1])
