-- Forgets the reply to a call, which the caller has received: it is large.
-- KEYS: the reply cache. ARGV: the slot, the sequence of the call.
-- It is one script so that the reply to a later call of the slot stays.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local mark = ARGV[2] .. '|'
if held and string.sub(held, 1, #mark) == mark then redis.call('HSET', KEYS[1], ARGV[1], mark) end
return 1
