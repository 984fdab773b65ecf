-- Adds to a sliding window, for window.lua and replay.lua. A window is a hash of buckets, each a sixtieth of the width,
-- by their numbers since 1970.
-- at: the time in ms that it counts for, or '', which is `age` ms ago. limit: what the sum must not exceed, or ''.
-- Returns the time in ms, 1 if it was added or 0 if not, and the name and the value of each bucket that counts now or
-- later; or an error, and then it has added nothing.
local function window_add(key, width, at, by, limit, age)
  local time = redis.pcall('TIME')
  if time.err then return time end
  width = tonumber(width)
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local current = math.floor(now * 60 / width)
  local bucket = math.floor((at == '' and now - age or tonumber(at)) * 60 / width)
  local held = redis.pcall('HGETALL', key)
  if held.err then return held end
  local name, live, expired, sum, newest = string.format('%.0f', bucket), { false, false }, {}, 0, bucket
  for index = 1, #held, 2 do
    local field, value = held[index], held[index + 1]
    local number = #field <= 16 and string.match(field, '^%d+$') and tonumber(field)
    if number and string.format('%.0f', number) == field then
      if number + 60 <= current then
        expired[#expired + 1] = field
      else
        if value ~= '0' and not string.match(value, '^-?[1-9]%d*$') then
          return { err = 'ERR hash value is not an integer' }
        end
        if number <= current then sum = sum + tonumber(value) end
        if number > newest then newest = number end
        if field ~= name then
          live[#live + 1] = field
          live[#live + 1] = value
        end
      end
    end
  end
  local added = bucket + 60 > current and (limit == '' or sum + tonumber(by) <= tonumber(limit))
  if added then
    local deadline = string.format('%.0f', math.ceil((newest + 60) * width / 60))
    -- A user without one of the permissions is refused before anything is added. What has expired does not count.
    -- unpack has a limit, and the program may have put any fields into the map.
    for from = 1, #expired, 1000 do
      local dropped = redis.pcall('HDEL', key, unpack(expired, from, math.min(from + 999, #expired)))
      if type(dropped) == 'table' then return dropped end
    end
    local before = redis.pcall('HGET', key, name)
    if type(before) == 'table' then return before end
    local limited = redis.pcall('PEXPIREAT', key, deadline)
    if type(limited) == 'table' then return limited end
    local reply = redis.pcall('HINCRBY', key, name, by)
    if type(reply) == 'table' then return reply end
    if limited == 0 then redis.pcall('PEXPIREAT', key, deadline) end
  end
  local value = redis.pcall('HGET', key, name)
  if type(value) == 'table' then return value end
  if value and bucket + 60 > current then
    live[#live + 1] = name
    live[#live + 1] = value
  end
  live[1], live[2] = string.format('%.0f', now), added and 1 or 0
  return live
end
