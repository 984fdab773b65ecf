-- Puts the values of expired leases back at the front of a queue, adds delayed values that are due at its end, at most a
-- thousand of each, and leases the first value.
-- KEYS: the queue, the deadlines of its leases (a sorted set), the leased values (a hash), the records of returned values
-- (a list), the fence, the delayed values (a sorted set, see push_delayed.lua); the queue for dead letters and its
-- records, or nothing. ARGV: the length of the lease in ms; the TTL in ms for a queue that is created, or ''; how often a
-- value may be leased before it goes to the queue for dead letters.
-- Returns the id of the lease and the value, or nil if the queue is empty. An id is a number that grows; if the value
-- was leased before, how often it was leased now and an 'x' stand before it.
-- A record says of a value that a lease has returned: how often it was leased; the length of the queue when the value
-- was its first; the length and the SHA-1 of the value. The newest record is the first. Others may change the queue
-- without the records. A record counts only for a value with its bytes, and all records are dropped once values that
-- were not leased may have left the queue: if it is shorter than the newest record says, or if the value of the newest
-- record is not among the first values.
-- It is one script so that a value is always in the queue or leased, and is leased to one client only.
local kind = redis.call('TYPE', KEYS[1]).ok
local dead_kind = KEYS[7] and redis.call('TYPE', KEYS[7]).ok
local function is_queue(kind) return kind == 'list' or kind == 'none' end
if not is_queue(kind) or (dead_kind and not is_queue(dead_kind)) then
  return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
end
-- A server that is out of memory, or a user without one of these permissions, is refused before anything changes: these
-- commands change nothing. The first of them adds nothing, but is refused for want of memory.
redis.call('ZADD', KEYS[2], 'XX', 0, '')
redis.call('LPOP', KEYS[1], 0)
redis.call('ZREM', KEYS[2], '')
redis.call('HDEL', KEYS[3], '')
local newest = redis.call('LINDEX', KEYS[4], 0)
if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
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
  local values, attempts = {}, {}
  for place, value in ipairs(redis.call('HMGET', KEYS[3], unpack(expired))) do
    if value then
      values[#values + 1] = value
      attempts[#values] = string.match(expired[place], '^(%d+)x') or '1'
    end
  end
  if #values > 0 then
    -- A server that is out of memory refuses the first write of a script or none, so nothing is lost half way.
    local pushed = redis.pcall('LPUSH', KEYS[1], unpack(values))
    if type(pushed) == 'table' then return pushed end
    if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
    local before = pushed - #values
    if newest and tonumber(string.match(newest, '^%d+|(%d+)')) > before then redis.call('DEL', KEYS[4]) end
    local records = {}
    for place, value in ipairs(values) do
      records[place] = attempts[place] .. '|' .. before + place .. '|' .. #value .. '|' .. redis.sha1hex(value)
    end
    redis.call('LPUSH', KEYS[4], unpack(records))
  end
  redis.call('ZREM', KEYS[2], unpack(expired))
  redis.call('HDEL', KEYS[3], unpack(expired))
end
local due = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', until_now, 'LIMIT', 0, most)
if #due > 0 then
  local values = {}
  for place, member in ipairs(due) do values[place] = string.sub(member, 17) end
  local absent = redis.call('EXISTS', KEYS[1]) == 0
  local pushed = redis.pcall('RPUSH', KEYS[1], unpack(values))
  if type(pushed) == 'table' then return pushed end
  if absent and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  redis.call('ZREM', KEYS[6], unpack(due))
end
-- Returns how often the first value was leased before, or nothing if no record says so.
local function recorded_attempts(value)
  local newest = redis.call('LINDEX', KEYS[4], 0)
  if not newest then return end
  local attempts, length, size, digest = string.match(newest, '^(%d+)|(%d+)|(%d+)|(%x+)$')
  local function is_recorded(found) return #found == tonumber(size) and redis.sha1hex(found) == digest end
  -- At most this many values have been pushed in front of the recorded one since.
  local pushed_since = redis.call('LLEN', KEYS[1]) - length
  if pushed_since >= 0 and is_recorded(value) then return tonumber(attempts) end
  local found = false
  if pushed_since > 0 then
    for _, other in ipairs(redis.call('LRANGE', KEYS[1], 1, math.min(pushed_since, 8))) do
      found = found or is_recorded(other)
    end
  end
  if not found then redis.call('DEL', KEYS[4]) end
end
local id
for _ = 1, most do
  local value = redis.call('LINDEX', KEYS[1], 0)
  if not value then
    if redis.call('LINDEX', KEYS[4], 0) then redis.call('DEL', KEYS[4]) end
    return false
  end
  if not id then
    local last_id = tonumber(redis.call('GET', KEYS[5]) or '0') or 0
    id = string.format('%.0f', math.max(last_id + 1, now))
    local set = redis.pcall('SET', KEYS[5], id)
    if set.err then return set end
  end
  local attempts = recorded_attempts(value)
  if not KEYS[7] or (attempts or 0) < tonumber(ARGV[3]) then
    if attempts then id = string.format('%.0fx%s', attempts + 1, id) end
    -- The deadline alone does no harm, if the next command is refused.
    redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1] * 1000), id)
    redis.call('HSET', KEYS[3], id, value)
    redis.call('LPOP', KEYS[1])
    if attempts then redis.call('LPOP', KEYS[4]) end
    return { id, value }
  end
  -- The value keeps its number in the other queue, where its record says that a lease has returned it.
  local pushed = redis.pcall('LPUSH', KEYS[7], value)
  if type(pushed) == 'table' then return pushed end
  if pushed == 1 and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[7], ARGV[2]) end
  local newest = redis.call('LINDEX', KEYS[8], 0)
  if newest and tonumber(string.match(newest, '^%d+|(%d+)')) >= pushed then redis.call('DEL', KEYS[8]) end
  local record = string.format('%.0f|%.0f|%.0f|%s', attempts or 0, pushed, #value, redis.sha1hex(value))
  redis.call('LPUSH', KEYS[8], record)
  redis.call('LPOP', KEYS[1])
  if attempts then redis.call('LPOP', KEYS[4]) end
end
return false
