-- KEYS[1] holds the notes on the last call of each lane, the others are the keys of the steps. ARGV: what the
-- notes are called, the lane, the number of the call, '1' where nothing was sent of it before, the new time to
-- live of the notes or ''; then of each step: its command, its TTL if this creates the key or '', how many
-- arguments, the arguments behind the key.
local LARGE = 9007199254740992
local notes, lane, number = KEYS[1], ARGV[2], ARGV[3]
local held = redis.call('HMGET', notes, 'born', lane)
if held[1] ~= ARGV[1] then return redis.error_reply('FORGOTTEN nothing is known of this call') end
if held[2] then
  local bar = string.find(held[2], '|', 1, true)
  local last = tonumber(string.sub(held[2], 1, bar - 1))
  if last > tonumber(number) then return redis.error_reply('LATE a later call of this lane was done') end
  if last == tonumber(number) then
    if bar == #held[2] then return redis.error_reply('FORGOTTEN the answer to this call is not known') end
    local replies = cmsgpack.unpack(string.sub(held[2], bar + 1))
    return replies
  end
end

local is_pop = #KEYS == 2 and (ARGV[6] == 'LPOP' or ARGV[6] == 'RPOP')
-- Who finds nothing has done nothing: those who look again and again write nothing. It is a pop all the same,
-- which a server that takes no writes refuses.
if is_pop and ARGV[4] == '1' and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local found = redis.pcall(ARGV[6], KEYS[2])
  if found then return found end
  return { false }
end
-- First, so that a server without memory, or a user without the right, refuses before anything is done. A pop
-- makes room, and the server takes the note after it.
local noted = redis.pcall('HSET', notes, lane, number .. '|')
if type(noted) == 'table' and not (is_pop and string.find(noted.err, 'OOM', 1, true)) then return noted end
if ARGV[5] ~= '' then redis.pcall('PEXPIRE', notes, ARGV[5]) end

local function run(name, key, from, count)
  -- More arguments than fit on the stack at once come in pieces.
  local reply
  repeat
    local size = math.min(count, 4000)
    reply = redis.pcall(name, key, unpack(ARGV, from, from + size - 1))
    if type(reply) == 'table' then return { err = reply.err } end
    from = from + size
    count = count - size
  until count == 0
  -- A number of this language does not hold every integer of 64 bits; the text does.
  if type(reply) == 'number' and math.abs(reply) >= LARGE then
    local text = name == 'HINCRBY' and redis.pcall('HGET', key, ARGV[from - 2]) or redis.pcall('GET', key)
    if type(text) == 'string' then return text end
  end
  return reply
end

-- Until when a queue stays: with its last value it goes, and only this tells what it had.
local function deadline(key)
  local left, time = redis.pcall('PTTL', key), redis.pcall('TIME')
  if type(left) == 'table' or time.err or left < 0 then return false end
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + left)
end

local replies = {}
local until_when = false
local at = 6
for index = 2, #KEYS do
  local key, name, birth, count = KEYS[index], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if is_pop then until_when = deadline(key) end
  local there = birth ~= '' and redis.pcall('EXISTS', key)
  local reply = there
  if type(there) ~= 'table' then
    reply = run(name, key, at + 3, count)
    if there == 0 and type(reply) ~= 'table' then redis.pcall('PEXPIRE', key, birth) end
  else
    reply = { err = there.err }
  end
  replies[index - 1] = reply
  at = at + 3 + count
end
redis.call('HSET', notes, lane, number .. '|' .. cmsgpack.pack(replies, until_when))
return replies
