-- KEYS[1]: lock; ARGV: token, until when it was given in ms, its new TTL in ms or '' to free it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = redis.call('GET', KEYS[1])
if token == ARGV[1] then
  if ARGV[3] == '' then
    redis.call('DEL', KEYS[1])
    return {'held', string.format('%.0f', now)}
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'held', string.format('%.0f', now + ARGV[3])}
end
if token then return {'taken', ''} end
if now >= tonumber(ARGV[2]) then return {'expired', ''} end
return {'none', ''}
