-- Sets the marker of a replay queue if there is none, and makes a store its holder. It follows keep.lua.
-- KEYS: the marker. ARGV: the `done` of a new marker; the number that was sent last; the TTL in ms; the holders that the
-- files of the queue know, the last of which is the store that calls this.
-- Returns the marker's `done`; '1' if it was made now; the present holder if the files do not know that one: then they
-- are a copy, and the marker stays as it is. It also stays if it is beyond what was sent.
local held = redis.call('HMGET', KEYS[1], 'done', 'holder')
if held[2] then
  local is_known = false
  for index = 4, #ARGV do is_known = is_known or ARGV[index] == held[2] end
  if not is_known then return { held[1], '', held[2] } end
end
if held[1] and tonumber(held[1]) > tonumber(ARGV[2]) then return { held[1], '', '' } end
local made = redis.call('HSETNX', KEYS[1], 'done', ARGV[1])
redis.call('HSET', KEYS[1], 'holder', ARGV[#ARGV])
keep(KEYS[1], ARGV[3])
return { held[1] or ARGV[1], made == 1 and '1' or '', '' }
