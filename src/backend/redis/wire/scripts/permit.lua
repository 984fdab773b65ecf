-- Takes the first free permit of a name.
-- KEYS: the fence, then the locks that are the permits. ARGV: the TTL of the permit in ms.
-- Returns the number of the permit, from 0, the token and the deadline in ms, or nil if no permit is free.
-- It is one script so that no permit is taken twice, and a client gets one if one is free.
local free
for place = 2, #KEYS do
  if redis.call('EXISTS', KEYS[place]) == 0 then
    free = place
    break
  end
end
if not free then return false end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
local token = string.format('%.0f', math.max(last + 1, now))
local set = redis.pcall('SET', KEYS[1], token)
if set.err then return set end
redis.call('SET', KEYS[free], token, 'PX', ARGV[1])
return { tostring(free - 2), token, string.format('%.0f', math.floor(now / 1000) + ARGV[1]) }
