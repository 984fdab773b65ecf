-- Swaps a value if its bytes are the expected ones.
-- KEYS: the key. ARGV: '1' if a value is expected, that value; '1' if there is a new value, that value; the TTL
-- in ms for a key that is created, or ''. Without an expected value the key must be absent; without a new value
-- the key is deleted.
-- Returns 1 if the value was swapped, 0 if not.
-- It is one script so that no other client writes between the comparison and the write.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' and kind ~= 'none' then
  return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
end
if ARGV[1] ~= '1' then
  if kind ~= 'none' then return 0 end
  if ARGV[3] == '1' then
    if ARGV[5] ~= '' then
      redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
    else
      redis.call('SET', KEYS[1], ARGV[4])
    end
  end
  return 1
end
if kind == 'none' or redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '1' then
  redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL')
else
  redis.call('DEL', KEYS[1])
end
return 1
