-- Takes a lock, or a position in its queue.
-- KEYS: the lock, its queue (a sorted set of waiters), when each waiter last asked (a hash, in microseconds),
-- the fence. ARGV: the TTL of the lock in ms; the waiter, or '' for a client that does not wait; for how many
-- microseconds a waiter that does not ask keeps its position.
-- Returns the token and the deadline in ms, or nil if the lock is not free for this client.
-- It is one script so that a free lock goes to the first waiter and to nobody else. One call drops at most a thousand
-- waiters that are gone; if there are more, the lock counts as not free, and the next call goes on.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local grace = tonumber(ARGV[3])
local function next_token()
  local last = tonumber(redis.call('GET', KEYS[4]) or '0') or 0
  local token = string.format('%.0f', math.max(last + 1, now))
  local set = redis.pcall('SET', KEYS[4], token)
  if set.err then return nil, set end
  return token
end
local function first() return redis.call('ZRANGE', KEYS[2], 0, 0)[1] end
local head = first()
local dropped = 0
while head and head ~= ARGV[2] and dropped < 1000 do
  local last_seen = tonumber(redis.call('HGET', KEYS[3], head) or '')
  if last_seen and math.abs(now - last_seen) <= grace then break end
  redis.call('ZREM', KEYS[2], head)
  redis.call('HDEL', KEYS[3], head)
  dropped = dropped + 1
  head = first()
end
if redis.call('EXISTS', KEYS[1]) == 0 and (not head or head == ARGV[2]) then
  local token, failed = next_token()
  if failed then return failed end
  if head then
    redis.call('ZREM', KEYS[2], head)
    redis.call('HDEL', KEYS[3], head)
  end
  redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
  return { token, string.format('%.0f', math.floor(now / 1000) + ARGV[1]) }
end
if ARGV[2] == '' then return false end
if not redis.call('ZSCORE', KEYS[2], ARGV[2]) then
  local position, failed = next_token()
  if failed then return failed end
  redis.call('ZADD', KEYS[2], position, ARGV[2])
end
local last_seen = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or '')
if not last_seen or math.abs(now - last_seen) > grace / 4 then
  redis.call('HSET', KEYS[3], ARGV[2], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[2], 60000)
  redis.call('PEXPIRE', KEYS[3], 60000)
end
return false
