-- Extends or releases a lock that the caller holds.
-- KEYS: the lock. ARGV: the token; the deadline in ms that the holder knows; the new TTL in ms, or '' to release.
-- Returns 'held' and the new deadline (of a released lock: now), or why the caller does not hold it and ''.
-- It is one script so that the token is still the caller's when the lock is changed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = redis.call('GET', KEYS[1])
if token == ARGV[1] then
  if ARGV[3] == '' then
    redis.call('DEL', KEYS[1])
    return { 'held', string.format('%.0f', now) }
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return { 'held', string.format('%.0f', now + ARGV[3]) }
end
if token then return { 'taken_by_another', '' } end
if now >= tonumber(ARGV[2]) then return { 'expired', '' } end
return { 'not_held', '' }
