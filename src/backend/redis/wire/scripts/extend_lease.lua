-- Makes a lease end later, or sooner.
-- KEYS: the deadlines of the leases of a queue (a sorted set). ARGV: the id of the lease; its new length in ms.
-- Returns 1, or 0 if there is no such lease.
-- It is one script so that the lease still exists when it is extended, and so that the deadline is by the server's clock.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local deadline = time[1] * 1000000 + time[2] + ARGV[2] * 1000
local set = redis.pcall('ZADD', KEYS[1], string.format('%.0f', deadline), ARGV[1])
if type(set) == 'table' then return set end
return 1
