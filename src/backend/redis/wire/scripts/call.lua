-- Applies the steps of one call, once however often it is sent. It follows keep.lua, call_head.lua and
-- get_and_renew.lua.
-- KEYS: the reply cache, then the key of each step. ARGV: those of call_head.lua; then of each step: its command, the
-- TTL in ms for a key that it creates, or '', the number of its arguments, the arguments behind the key. For 'packed'
-- instead of the number, one argument follows that holds them all. The commands UPDATE, TRIM and RENEW are
-- this script's own.
-- Returns one reply of each step.
-- It is one script so that the steps are applied if and only if the cache holds their sequence.
local LARGE = 9007199254740992
local is_pop = #KEYS == 2 and (ARGV[6] == 'LPOP' or ARGV[6] == 'RPOP')
-- A pop of an empty queue changes nothing, so that polling writes nothing. It is still sent as a pop, which a
-- read-only server refuses.
if is_pop and is_first and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local popped = redis.pcall(ARGV[6], KEYS[2])
  if popped then return popped end
  return { false }
end

-- Where the arguments of a step begin, in which list, how many there are, and where the next step begins.
local function arguments(at)
  if ARGV[at + 2] == 'packed' then
    local list = cmsgpack.unpack(ARGV[at + 3])
    return list, 1, #list, at + 4
  end
  local count = tonumber(ARGV[at + 2])
  return ARGV, at + 3, count, at + 3 + count
end

-- Whether a server that is out of memory accepts every step.
local function only_frees()
  local frees = { LPOP = 1, RPOP = 1, DEL = 1, GETDEL = 1, HDEL = 1, TRIM = 1, PERSIST = 1, PEXPIRE = 1, GETEX = 1,
    RENEW = 1 }
  local at = 6
  while at <= #ARGV do
    if not frees[ARGV[at]] then return false end
    local _, _, _, behind = arguments(at)
    at = behind
  end
  return true
end

-- INVARIANT: the sequence is stored before the first step, so that a server that is out of memory, or a user
-- without the permission, refuses before anything is applied. After a step that has removed something its reply can
-- be stored.
local stored = redis.pcall('HSET', cache, slot, sequence .. '|')
if type(stored) == 'table' and not (string.find(stored.err, 'OOM', 1, true) and only_frees()) then return stored end
if ARGV[5] ~= '' then renew(cache, ARGV[5]) end

-- Replaces a value that exists. Without GET a map or a queue would be replaced silently.
local function update(key, value)
  local replaced = redis.pcall('SET', key, value, 'XX', 'GET', 'KEEPTTL')
  if type(replaced) == 'table' then return replaced end
  return replaced and 1 or 0
end

-- Drops the first values of a queue.
local function trim(key, most, first, last)
  local length = redis.pcall('LLEN', key)
  if type(length) == 'table' then return length end
  local trimmed = redis.pcall('LTRIM', key, first, last)
  if trimmed.err then return trimmed end
  return math.max(length - tonumber(most), 0)
end

local function run(name, key, list, from, count)
  if name == 'UPDATE' then return update(key, list[from]) end
  if name == 'RENEW' then return get_and_renew(key, list[from]) end
  if name == 'TRIM' then return trim(key, list[from], list[from + 1], list[from + 2]) end
  -- unpack has a limit. The size of a chunk is even, because HSET needs pairs.
  local reply
  local sum = 0
  repeat
    local size = math.min(count, 4000)
    reply = redis.pcall(name, key, unpack(list, from, from + size - 1))
    if type(reply) == 'table' and reply.err then return { err = reply.err } end
    if type(reply) == 'number' then sum = sum + reply end
    from = from + size
    count = count - size
  until count == 0
  if name == 'HSET' or name == 'DEL' then return sum end
  -- A number in Lua does not hold every integer of 64 bits; the text does.
  if type(reply) == 'number' and math.abs(reply) >= LARGE then
    local text = name == 'HINCRBY' and redis.pcall('HGET', key, list[from - 2]) or redis.pcall('GET', key)
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
  local key, name, ttl_if_created = KEYS[index], ARGV[at], ARGV[at + 1]
  local list, from, count, behind = arguments(at)
  if is_pop then deadline = deadline_of(key) end
  local exists = ttl_if_created ~= '' and redis.pcall('EXISTS', key)
  -- Whether the user may set a TTL: on a key that is absent, this changes nothing.
  if exists == 0 then
    local limited = redis.pcall('PEXPIRE', key, ttl_if_created)
    if type(limited) == 'table' then exists = limited end
  end
  local reply
  if type(exists) == 'table' then
    reply = { err = exists.err }
  else
    reply = run(name, key, list, from, count)
    local failed = type(reply) == 'table' and reply.err
    if exists == 0 and not failed then redis.pcall('PEXPIRE', key, ttl_if_created) end
  end
  replies[index - 1] = reply
  at = behind
end
-- If it is refused, the sequence was refused before, and no step has changed anything.
redis.pcall('HSET', cache, slot, sequence .. '|' .. cmsgpack.pack(replies, deadline))
return replies
