-- KEYS[1] are the notes on calls; ARGV: what they are called if there are none, their time to live.
-- A server without memory refuses what adds something, unless the script has taken something away before: a pop
-- makes room, and has to be noted as well.
redis.call('HDEL', KEYS[1], 'none')
redis.call('HSETNX', KEYS[1], 'born', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[1], 'born')
