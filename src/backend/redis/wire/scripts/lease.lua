-- Puts the values of expired leases back, at most a thousand of them, and leases the first value of a queue.
-- KEYS: the queue, the deadlines of its leases (a sorted set), the leased values (a hash), the fence. ARGV: the
-- length of the lease in ms; the TTL in ms for a queue that is created, or ''.
-- Returns the id of the lease and the value, or nil if the queue is empty.
-- It is one script so that a value is always in the queue or leased, and is leased to one client only.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local until_now = string.format('%.0f', now)
-- The server serves nobody while a script runs, so that one script gives back at most this many values.
local most = 1000
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', until_now, 'LIMIT', 0, most + 1)
local first
if #expired > most then
  -- The lease that ran out first is handed out now. Of the others, those that ran out last come back: each later call
  -- puts earlier ones in front of them, so that the values are handed out in the order in which their leases ran out.
  first = expired[1]
  expired = redis.call('ZREVRANGEBYSCORE', KEYS[2], until_now, '-inf', 'LIMIT', 0, most - 1)
end
-- The value that was leased first is pushed last, and is first in the queue again. The ids of leases end in a
-- number that grows.
local function order(id) return tonumber(string.match(id, '%d+$')) or 0 end
table.sort(expired, function(a, b) return order(a) > order(b) end)
expired[#expired + 1] = first
if #expired > 0 then
  local values = {}
  for _, value in ipairs(redis.call('HMGET', KEYS[3], unpack(expired))) do
    if value then values[#values + 1] = value end
  end
  if #values > 0 then
    -- A server that is out of memory refuses the first write of a script or none, so nothing is lost half way.
    local pushed = redis.pcall('LPUSH', KEYS[1], unpack(values))
    if type(pushed) == 'table' then return pushed end
    if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  end
  redis.call('ZREM', KEYS[2], unpack(expired))
  redis.call('HDEL', KEYS[3], unpack(expired))
end
local value = redis.call('LINDEX', KEYS[1], 0)
if not value then return false end
local last_id = tonumber(redis.call('GET', KEYS[4]) or '0') or 0
local id = string.format('%.0f', math.max(last_id + 1, now))
local set = redis.pcall('SET', KEYS[4], id)
if set.err then return set end
redis.call('HSET', KEYS[3], id, value)
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1] * 1000), id)
redis.call('LPOP', KEYS[1])
return { id, value }
