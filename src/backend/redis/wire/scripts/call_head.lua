-- The beginning of every call: it looks whether the call was applied before. It follows keep.lua. What follows is call.lua, or another
-- script and call_tail.lua.
-- KEYS: the reply cache (see create_reply_cache.lua), then those of the rest. ARGV: the id of the cache; the slot; the
-- sequence of the call in its slot; '1' if it was never sent before; the new TTL of the cache in ms, or ''; then those
-- of the rest.
-- Returns the replies that the server gave when it applied the call. Error codes of its own: EVICTED if the cache does
-- not hold them any more, LATE if a later call of the slot was applied.
local cache, slot, sequence, is_first = KEYS[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local held = redis.call('HMGET', cache, 'cache_id', slot)
if held[1] ~= ARGV[1] then return redis.error_reply('EVICTED the reply cache is another one') end
if held[2] then
  local bar = string.find(held[2], '|', 1, true)
  local last = tonumber(string.sub(held[2], 1, bar - 1))
  if last > tonumber(sequence) then return redis.error_reply('LATE a later call of this slot was applied') end
  if last == tonumber(sequence) then
    if bar == #held[2] then return redis.error_reply('EVICTED the reply to this call is not known') end
    local replies = cmsgpack.unpack(string.sub(held[2], bar + 1))
    return replies
  end
end
