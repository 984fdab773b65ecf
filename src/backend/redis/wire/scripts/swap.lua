-- KEYS[1]; ARGV: is a value expected ('1'), which; is there a new one ('1'), which; TTL of a birth or ''.
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
