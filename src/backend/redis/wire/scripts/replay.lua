-- KEYS[1] is the marker, the others are the keys of the operations. ARGV: the number that the marker has to
-- hold, the number that it gets, its time to live, '1' if what others wrote wins; then of each operation: what
-- was seen of the key, its TTL if this creates it ('0': that is over), how many commands; of each command: its
-- name, how many arguments, the arguments behind the key. A put that is made whatever lies there is shorter:
-- what was seen of the key, 'P', the value. Before one that may have been done before stand: '', 'T', which of the
-- notes have it, what they were called, its lane, its number, which of the steps of the call it is, and if it is
-- a pop: the command that gives back what it took; '1' if the server is known to have lost its memory since; for a
-- pop no more. The last ARGV[5] keys are the notes.
local told = redis.call('HMGET', KEYS[1], 'at', 'told', 'from')
if told[1] ~= ARGV[1] then
  local known = told[2] and told[2] ~= '' and cmsgpack.unpack(told[2])
  return { told[1] or '', known or {}, told[3] or '' }
end
-- First, so that a server without memory refuses before anything is done.
-- INVARIANT: from here on nothing may break off: what is not done counts as done.
local marked = redis.pcall('HSET', KEYS[1], 'at', ARGV[2], 'told', '', 'from', ARGV[1])
if type(marked) == 'table' and marked.err then return marked end
redis.pcall('PEXPIRE', KEYS[1], ARGV[3])

local LONGEST = 4096
local outcomes = {}
local at = 6
local keys = #KEYS - tonumber(ARGV[5])

local function theirs(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then return string.sub(value, 1, LONGEST) end
  return nil
end

local function note(index, kind, what)
  outcomes[#outcomes + 1] = { index - 2, kind, what or false }
end

-- The keys on which a write of this chunk was dropped: what is there is not what this process left.
local dropped = {}

-- Whether what a key holds, false for nothing, is among what was seen of it.
local function is_known(seen, value)
  local found = 'absent'
  if value then found = type(value) == 'string' and redis.sha1hex(value) or 'other' end
  if seen == found then return true end
  for one in string.gmatch(seen, '%S+') do
    if one == found then return true end
  end
  return false
end

-- Whether somebody else has written the key since it was seen here. What is there already as `mine` is to
-- leave it, false for nothing, is in nobody's way.
local function is_foreign(key, seen, mine)
  if seen == '' or (seen == 'own' and not dropped[key]) then return false end
  local value = redis.pcall('GET', key)
  if value == mine then return false end
  if seen == 'assumed' or seen == 'own' then return value ~= false end
  return not is_known(seen, value)
end

-- Whether a write is dropped because of what somebody else has written. Notes where the two have met.
local function is_dropped(index, key, seen, mine)
  if seen == '' then return false end
  local drop = false
  if is_foreign(key, seen, mine) then
    drop = ARGV[4] == '1' or seen == 'assumed' or seen == 'own'
    note(index, drop and 'dropped' or 'overwritten', theirs(key))
  end
  dropped[key] = drop or nil
  return drop
end

local function run(key, name, from, count)
  if name == 'LEASE' then
    local time = redis.pcall('TIME')
    if time.err then return time.err end
    local until_then = time[1] * 1000000 + time[2] + ARGV[from + 1] * 1000
    local reply = redis.pcall('ZADD', key, string.format('%.0f', until_then), ARGV[from])
    return type(reply) == 'table' and reply.err or nil
  end
  -- More arguments than fit on the stack at once come in pieces; HSET needs pairs.
  local reply
  repeat
    local size = math.min(count, 1000)
    if size == 0 then
      reply = redis.pcall(name, key)
    else
      reply = redis.pcall(name, key, unpack(ARGV, from, from + size - 1))
    end
    if type(reply) == 'table' and reply.err then return reply.err end
    from = from + size
    count = count - size
  until count == 0
  return nil
end

-- One command writes, and tells what was there: most of what waits are puts.
local function put(index, key, seen, value)
  if dropped[key] and is_dropped(index, key, seen, value) then return end
  local before = redis.pcall('SET', key, value, 'GET')
  if type(before) == 'table' then
    -- A map or a queue is there, and is replaced as a value would be.
    local reply = redis.pcall('SET', key, value)
    if reply.err then return note(index, 'rejected', reply.err) end
    if seen ~= 'own' and not is_known(seen, before) then note(index, 'overwritten') end
  elseif seen ~= 'own' and before ~= value and not is_known(seen, before) then
    note(index, 'overwritten', before and string.sub(before, 1, LONGEST))
  end
end

-- Makes the puts from here on together, as far as they are of keys that were absent or are this process's
-- own, if the former still are absent. Tells the last one of them, and whether they were made.
local function puts_together(first)
  local fresh, words, index, from = {}, {}, first, at
  while index <= keys and #words < 2000 and ARGV[from + 1] == 'P' do
    local seen, key = ARGV[from], KEYS[index]
    if seen == 'absent' then fresh[#fresh + 1] = key elseif seen ~= 'own' or dropped[key] then break end
    words[#words + 1] = key
    words[#words + 1] = ARGV[from + 2]
    index = index + 1
    from = from + 3
  end
  local free = #fresh == 0 or redis.pcall('EXISTS', unpack(fresh)) == 0
  return index - 1, free and #words > 2 and not redis.pcall('MSET', unpack(words)).err
end

-- The calls that were found not to be done.
local undone = {}

-- What became of a call before the server went away: whether it was done, its replies, and until when the
-- queue stayed that it popped from. One that was not done is noted: should it still be on its way, it is refused.
local function recalled()
  local notes, born, lane = KEYS[keys + tonumber(ARGV[at + 2])], ARGV[at + 3], ARGV[at + 4]
  local call = notes .. '|' .. lane
  local number = tonumber(ARGV[at + 5])
  if undone[call] == number then return 'undone' end
  local held = redis.pcall('HMGET', notes, 'born', lane)
  if held.err or held[1] ~= born then
    -- What has gone with all else is done anew.
    return ARGV[at + 8] == '1' and 'undone' or 'forgotten'
  end
  local bar = held[2] and string.find(held[2], '|', 1, true)
  local last = bar and tonumber(string.sub(held[2], 1, bar - 1)) or 0
  if last < number then
    undone[call] = number
    redis.pcall('HSET', notes, lane, ARGV[at + 5] .. '|')
    return 'undone'
  end
  if last > number or bar == #held[2] then return 'forgotten' end
  return 'done', cmsgpack.unpack(string.sub(held[2], bar + 1))
end

-- Gives back what a pop took whose answer nobody has seen. With the last value its queue went: then it comes back
-- for as long as it would have stayed.
local function give_back(index, key, name, value, until_when)
  local left
  if until_when then
    local time = redis.pcall('TIME')
    if time.err then return note(index, 'rejected', time.err) end
    left = until_when - (time[1] * 1000 + math.floor(time[2] / 1000))
    if left <= 0 then return end
  end
  local there = redis.pcall('EXISTS', key)
  if type(there) == 'table' then return note(index, 'rejected', there.err) end
  local reply = redis.pcall(name, key, value)
  if type(reply) == 'table' then return note(index, 'rejected', reply.err) end
  if there == 0 and left then redis.pcall('PEXPIRE', key, string.format('%.0f', left)) end
end

-- Of what may have been done before: whether it is still to be done.
local function is_left(index, key)
  local what, replies, until_when = recalled()
  local place, back = tonumber(ARGV[at + 6]), ARGV[at + 7]
  at = at + 9
  local reply = replies and replies[place]
  if what == 'forgotten' then
    note(index, 'uncertain')
  elseif type(reply) == 'string' and back ~= '' then
    give_back(index, key, back, reply, until_when)
  elseif type(reply) == 'table' and back == '' then
    note(index, 'rejected', reply.err)
  end
  return what == 'undone', back ~= ''
end

-- Anything else: looks first, and then does what there is to do.
local function general(index, key)
  local is_done = false
  if ARGV[at + 1] == 'T' then
    local left, whole = is_left(index, key)
    if whole then return end
    is_done = not left
  end
  local seen, birth, commands = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local skipped = is_done or is_dropped(index, key, seen, ARGV[at] == 'SET' and ARGV[at + 2])
  local found = not skipped and birth ~= '' and redis.pcall('EXISTS', key)
  local is_born = found == 0
  if type(found) == 'table' then
    -- Whether it would be born is not to be known, nor then how long it is to stay.
    note(index, 'rejected', found.err)
    skipped = true
  end
  -- What it would have created has died since.
  if is_born and birth == '0' then skipped = true end
  for _ = 1, commands do
    local name, count = ARGV[at], tonumber(ARGV[at + 1])
    at = at + 2
    if not skipped then
      local error = run(key, name, at, count)
      if error then
        note(index, 'rejected', error)
        skipped = true
      end
    end
    at = at + count
  end
  if is_born and not skipped then
    local limited = redis.pcall('PEXPIRE', key, birth)
    if type(limited) == 'table' then note(index, 'rejected', limited.err) end
  end
end

local index, apart = 2, 1
while index <= keys do
  if ARGV[at + 1] ~= 'P' then
    general(index, KEYS[index])
    index = index + 1
  else
    local last, made = index, false
    if index > apart then last, made = puts_together(index) end
    if made then
      at = at + 3 * (last - index + 1)
      index = last + 1
    else
      -- Those up to there are made one by one.
      apart = math.max(apart, last)
      put(index, KEYS[index], ARGV[at], ARGV[at + 2])
      at = at + 3
      index = index + 1
    end
  end
end

if #outcomes > 0 then redis.pcall('HSET', KEYS[1], 'told', cmsgpack.pack(outcomes)) end
return { ARGV[2], outcomes, ARGV[1] }
