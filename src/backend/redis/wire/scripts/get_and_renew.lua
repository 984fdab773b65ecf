-- Reads a value and renews its TTL, for renew.lua, call.lua and replay.lua: a TTL that is shorter than `ttl`, in ms,
-- becomes `ttl`. A key without a TTL stays without one.
-- Returns the value, false if the key is absent, or an error, and then it has changed nothing.
local function get_and_renew(key, ttl)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'string' then return value end
  local left = redis.pcall('PTTL', key)
  if type(left) == 'table' then return left end
  if left >= 0 and left < tonumber(ttl) then
    local renewed = redis.pcall('PEXPIRE', key, ttl)
    if type(renewed) == 'table' then return renewed end
  end
  return value
end
