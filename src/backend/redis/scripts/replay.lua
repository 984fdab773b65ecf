-- KEYS[1] is the marker, the others are the keys of the operations. ARGV: the number that the marker has to
-- hold, the number that it gets, its time to live, '1' if what others wrote wins; then of each operation: what
-- was seen of the key, its TTL if this creates it ('0': that is over), how many commands; of each command: its name, how many
-- arguments, the arguments behind the key.
local told = redis.call('HMGET', KEYS[1], 'at', 'told')
if told[1] ~= ARGV[1] then
  return { told[1] or '', told[2] and cmsgpack.unpack(told[2]) or {} }
end
-- First, so that a server without memory refuses before anything is done.
local marked = redis.pcall('HSET', KEYS[1], 'at', ARGV[2])
if type(marked) == 'table' and marked.err then return marked end
redis.call('HDEL', KEYS[1], 'told')
redis.call('PEXPIRE', KEYS[1], ARGV[3])

local LONGEST = 4096
local outcomes = {}
local at = 5

local function theirs(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then return string.sub(value, 1, LONGEST) end
  return nil
end

-- The keys on which a write of this chunk was dropped: what is there is not what this process left.
local dropped = {}

-- Whether somebody else has written the key since it was seen here. What is there already as `mine` is to
-- leave it, false for nothing, is in nobody's way.
local function is_foreign(key, seen, mine)
  if seen == '' or (seen == 'own' and not dropped[key]) then return false end
  local value = redis.pcall('GET', key)
  if value == mine then return false end
  if seen == 'assumed' or seen == 'own' then return value ~= false end
  local found = 'absent'
  if value then found = type(value) == 'string' and redis.sha1hex(value) or 'another kind' end
  for one in string.gmatch(seen, '%S+') do
    if one == found then return false end
  end
  return true
end

local function run(key, name, from, count)
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

for index = 2, #KEYS do
  local key = KEYS[index]
  local seen, birth, commands = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local skipped = false
  if is_foreign(key, seen, ARGV[at] == 'SET' and ARGV[at + 2]) then
    skipped = ARGV[4] == '1' or seen == 'assumed' or seen == 'own'
    dropped[key] = skipped
    outcomes[#outcomes + 1] = { index - 2, skipped and 'dropped' or 'overwritten', theirs(key) or false }
  elseif seen ~= '' then
    dropped[key] = nil
  end
  local is_born = not skipped and birth ~= '' and redis.call('EXISTS', key) == 0
  -- What it would have created has died since.
  if is_born and birth == '0' then skipped = true end
  for _ = 1, commands do
    local name, count = ARGV[at], tonumber(ARGV[at + 1])
    at = at + 2
    if not skipped then
      local error = run(key, name, at, count)
      if error then
        outcomes[#outcomes + 1] = { index - 2, 'rejected', error }
        skipped = true
      end
    end
    at = at + count
  end
  if is_born and not skipped then redis.call('PEXPIRE', key, birth) end
end

if #outcomes > 0 then redis.call('HSET', KEYS[1], 'told', cmsgpack.pack(outcomes)) end
return { ARGV[2], outcomes }
