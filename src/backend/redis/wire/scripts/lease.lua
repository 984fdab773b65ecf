-- KEYS: queue, its leases, what they are on, the fence; ARGV: length of the lease in ms, TTL of a birth or ''.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
-- All of them at once, since what came back later would lie in front of what was taken before it. What was
-- taken first is pushed last, and so lies in front.
-- The name of a lease ends in a number that grows.
local function taken(id) return tonumber(string.match(id, '%d+$')) or 0 end
table.sort(lapsed, function(a, b) return taken(a) > taken(b) end)
-- Only so many can be unpacked at a time.
for from = 1, #lapsed, 4000 do
  local last = math.min(from + 3999, #lapsed)
  local items = {}
  for _, item in ipairs(redis.call('HMGET', KEYS[3], unpack(lapsed, from, last))) do
    if item then items[#items + 1] = item end
  end
  if #items > 0 then
    -- A server without memory refuses the first write of a script or none: nothing is lost half way.
    local pushed = redis.pcall('LPUSH', KEYS[1], unpack(items))
    if type(pushed) == 'table' then return pushed end
    if kind == 'none' and ARGV[2] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  end
  redis.call('ZREM', KEYS[2], unpack(lapsed, from, last))
  redis.call('HDEL', KEYS[3], unpack(lapsed, from, last))
end
local item = redis.call('LINDEX', KEYS[1], 0)
if not item then return false end
local last = tonumber(redis.call('GET', KEYS[4]) or '0') or 0
local id = string.format('%.0f', math.max(last + 1, now))
local set = redis.pcall('SET', KEYS[4], id)
if set.err then return set end
redis.call('HSET', KEYS[3], id, item)
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1] * 1000), id)
redis.call('LPOP', KEYS[1])
return {id, item}
