-- Functions with which a store keeps its marker or its reply cache on the server until nobody has used it for a time.
-- A server whose policy is `volatile-*` evicts the keys that have a TTL, and no others. There these keys have none:
-- `sessions`, a sorted set beside them, holds when each was last used, in ms.

-- Notes that a key without a TTL is used now. Returns the set, and the time.
local function note_use(key)
  local sessions = string.gsub(key, '[^:]*:[^:]*$', 'sessions')
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZADD', sessions, string.format('%.0f', now), key)
  return sessions, now
end

-- Decides whether a key has a TTL, and deletes some of the keys that nobody has used for that time.
local function keep(key, ttl)
  local memory = redis.pcall('INFO', 'memory')
  if type(memory) ~= 'string' or not string.find(memory, 'maxmemory_policy:volatile', 1, true) then
    return redis.call('PEXPIRE', key, ttl)
  end
  redis.call('PERSIST', key)
  local sessions, now = note_use(key)
  local oldest = string.format('%.0f', now - ttl)
  for _, unused in ipairs(redis.call('ZRANGEBYSCORE', sessions, '-inf', oldest, 'LIMIT', 0, 100)) do
    redis.call('DEL', unused)
    redis.call('ZREM', sessions, unused)
  end
end

-- Renews the TTL of a key, if it has one.
local function renew(key, ttl)
  if redis.pcall('PTTL', key) == -1 then pcall(note_use, key) else redis.pcall('PEXPIRE', key, ttl) end
end
