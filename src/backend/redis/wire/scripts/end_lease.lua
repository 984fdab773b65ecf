-- KEYS: queue, its leases, what they are on; ARGV: lease, whether it goes back ('1'), TTL of a birth or ''.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local item = ARGV[2] == '1' and redis.call('HGET', KEYS[3], ARGV[1])
if item then
  local absent = redis.call('EXISTS', KEYS[1]) == 0
  local pushed = redis.pcall('LPUSH', KEYS[1], item)
  if type(pushed) == 'table' then return pushed end
  if absent and ARGV[3] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
