-- Runs a command that may create its key, and sets the TTL of a created key.
-- KEYS: the key. ARGV: the TTL in ms; the command, which replies with a number; its arguments behind the key.
-- Returns the reply of the command, as text if it may be larger than a number in Lua.
-- It is one script so that a key never exists without its TTL.
local absent = redis.call('EXISTS', KEYS[1]) == 0
-- A user without one of these permissions is refused before anything changes: these commands change nothing.
if absent then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
if ARGV[2] == 'HINCRBY' then redis.call('HGET', KEYS[1], ARGV[3]) end
local last, sum = 0, 0
-- unpack has a limit. The size of a chunk is even, so that a field stays with its value.
for from = 3, #ARGV, 4000 do
  last = redis.pcall(ARGV[2], KEYS[1], unpack(ARGV, from, math.min(from + 3999, #ARGV)))
  if type(last) == 'table' then return last end
  sum = sum + last
end
if absent then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
if ARGV[2] == 'HSET' then return sum end
-- A number in Lua does not hold every integer of 64 bits; the text does.
if ARGV[2] == 'HINCRBY' then return redis.call('HGET', KEYS[1], ARGV[3]) end
return last
