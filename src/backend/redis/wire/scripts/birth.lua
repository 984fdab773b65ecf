-- KEYS[1]; ARGV: TTL of a birth, a command that answers with a number, its arguments.
local absent = redis.call('EXISTS', KEYS[1]) == 0
local last, sum = 0, 0
-- Only so many values can be unpacked at a time; even, so that a field stays with its value.
for from = 3, #ARGV, 4000 do
  last = redis.pcall(ARGV[2], KEYS[1], unpack(ARGV, from, math.min(from + 3999, #ARGV)))
  if type(last) == 'table' then return last end
  sum = sum + last
end
if absent then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
if ARGV[2] == 'HSET' then return sum end
-- A number of this language does not hold every integer of 64 bits; the text does.
if ARGV[2] == 'HINCRBY' then return redis.call('HGET', KEYS[1], ARGV[3]) end
return last
