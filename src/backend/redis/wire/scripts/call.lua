-- Applies the steps of one call, once however often it is sent.
-- KEYS: the reply cache (see create_reply_cache.lua), then the key of each step. ARGV: the id of the cache; the
-- slot; the sequence of the call in its slot; '1' if it was never sent before; the new TTL of the cache in ms, or
-- ''; then of each step: its command, the TTL in ms for a key that it creates, or '', the number of its arguments,
-- the arguments behind the key.
-- Returns one reply of each step. Error codes of its own: EVICTED if the cache does not hold the reply any more,
-- LATE if a later call of the slot was applied.
-- It is one script so that the steps are applied if and only if the cache holds their sequence.
local LARGE = 9007199254740992
local cache, slot, sequence = KEYS[1], ARGV[2], ARGV[3]
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

local is_pop = #KEYS == 2 and (ARGV[6] == 'LPOP' or ARGV[6] == 'RPOP')
-- A pop of an empty queue changes nothing, so that polling writes nothing. It is still sent as a pop, which a
-- read-only server refuses.
if is_pop and ARGV[4] == '1' and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local popped = redis.pcall(ARGV[6], KEYS[2])
  if popped then return popped end
  return { false }
end
-- INVARIANT: the sequence is stored before the first step, so that a server that is out of memory, or a user
-- without the permission, refuses before anything is applied. A pop frees memory: its reply can be stored after it.
local stored = redis.pcall('HSET', cache, slot, sequence .. '|')
if type(stored) == 'table' and not (is_pop and string.find(stored.err, 'OOM', 1, true)) then return stored end
if ARGV[5] ~= '' then redis.pcall('PEXPIRE', cache, ARGV[5]) end

local function run(name, key, from, count)
  -- unpack has a limit.
  local reply
  repeat
    local size = math.min(count, 4000)
    reply = redis.pcall(name, key, unpack(ARGV, from, from + size - 1))
    if type(reply) == 'table' then return { err = reply.err } end
    from = from + size
    count = count - size
  until count == 0
  -- A number in Lua does not hold every integer of 64 bits; the text does.
  if type(reply) == 'number' and math.abs(reply) >= LARGE then
    local text = name == 'HINCRBY' and redis.pcall('HGET', key, ARGV[from - 2]) or redis.pcall('GET', key)
    if type(text) == 'string' then return text end
  end
  return reply
end

-- The deadline of a queue in ms, or false. A pop of the last value removes the queue, and only the cache still
-- knows its deadline then.
local function deadline_of(key)
  local left, time = redis.pcall('PTTL', key), redis.pcall('TIME')
  if type(left) == 'table' or time.err or left < 0 then return false end
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + left)
end

local replies = {}
local deadline = false
local at = 6
for index = 2, #KEYS do
  local key, name, ttl_if_created, count = KEYS[index], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if is_pop then deadline = deadline_of(key) end
  local exists = ttl_if_created ~= '' and redis.pcall('EXISTS', key)
  local reply
  if type(exists) == 'table' then
    reply = { err = exists.err }
  else
    reply = run(name, key, at + 3, count)
    if exists == 0 and type(reply) ~= 'table' then redis.pcall('PEXPIRE', key, ttl_if_created) end
  end
  replies[index - 1] = reply
  at = at + 3 + count
end
redis.call('HSET', cache, slot, sequence .. '|' .. cmsgpack.pack(replies, deadline))
return replies
