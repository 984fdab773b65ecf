-- Applies a chunk of queued operations, each once, if the marker says that the server has applied all before it. It
-- follows keep.lua, window_add.lua and get_and_renew.lua.
-- KEYS: the marker, then the key of each operation, then ARGV[5] reply caches (see create_reply_cache.lua).
-- The marker is a hash: `done`, the number of the last group of operations that was applied; `done_before`, what
-- `done` was before that chunk; `outcomes`, the packed outcomes of that chunk; `holder`, which store may replay the
-- queue (see claim_marker.lua).
-- ARGV: the `done` that the marker must hold; the `done` that it gets; its TTL in ms; '1' if what other clients
-- wrote wins; the number of reply caches; the caller's id as a holder; then the operations, each in one of two forms:
--   observed, 'PUT', value: a put that is made whatever the key holds;
--   observed, the TTL in ms for a key that it creates ('' for none, '0' if that has expired), command, the number
--   of its arguments, the arguments behind the key. The commands SET_LEASE,
--   WINDOW_ADD and RENEW are this script's own.
-- `observed` is what this process has last observed of the key: '' if that does not matter, 'own_write' for what
-- its earlier operation made of it, 'assumed_absent' if nothing was observed and reads returned nothing, or one or
-- more of 'absent', 'not_a_value' and the SHA-1 of a value, separated by spaces.
-- An operation in doubt, which may have been applied before, begins with: '', 'IN_DOUBT', which of the reply caches
-- has it, the id of that cache, the slot, the sequence, which step of the call it is, for a pop the command that
-- pushes its value back, '1' if the server has lost its data since. A pop in doubt ends there.
-- Operations that were set aside without being applied are reported by one step, whose key is the marker: '',
-- 'SET_ASIDE', the kind of outcome, the index of the first of them, how many there are, the cause.
-- Returns the marker's `done`, the outcomes and `done_before`: of this chunk, or if the marker did not hold the
-- expected `done`, of the chunk that was applied last. An outcome is the index of the operation from 0, its kind, and
-- the value that another client had written or the error. The kind 'absent' is that of a put only if the key is present
-- whose key is absent.
-- It is one script so that the marker and the operations change together.
local marker = redis.call('HMGET', KEYS[1], 'done', 'outcomes', 'done_before', 'holder')
-- Another store has opened a copy of the queue's files: the caller must claim the marker, and will fail.
if marker[4] and marker[4] ~= ARGV[6] then return { '', {}, '' } end
if marker[1] ~= ARGV[1] then
  local known = marker[2] and marker[2] ~= '' and cmsgpack.unpack(marker[2])
  return { marker[1] or '', known or {}, marker[3] or '' }
end
-- INVARIANT: the marker is written before the first operation, so that a server that is out of memory refuses
-- before anything is applied. From here on the script must not fail: what it has not applied counts as applied.
local marked = redis.pcall('HSET', KEYS[1], 'done', ARGV[2], 'outcomes', '', 'done_before', ARGV[1])
if type(marked) == 'table' and marked.err then return marked end
renew(KEYS[1], ARGV[3])

local MAX_SHOWN = 4096
local outcomes = {}
local at = 7
local last_op = #KEYS - tonumber(ARGV[5])

local function current_value(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then return string.sub(value, 1, MAX_SHOWN) end
  return nil
end

local function report(index, kind, detail)
  outcomes[#outcomes + 1] = { index - 2, kind, detail or false }
end

-- The keys on which a write of this chunk was dropped: they do not hold what this process left.
local dropped = {}

-- Whether the value of a key, false for none, is one of those that were observed.
local function was_observed(observed, value)
  local found = 'absent'
  if value then found = type(value) == 'string' and redis.sha1hex(value) or 'not_a_value' end
  if observed == found then return true end
  for one in string.gmatch(observed, '%S+') do
    if one == found then return true end
  end
  return false
end

-- Whether another client has written the key since this process observed it. A key that already holds `mine`,
-- the value that the operation leaves (false for none), is no conflict.
local function is_foreign(key, observed, mine)
  if observed == '' or (observed == 'own_write' and not dropped[key]) then return false end
  local value = redis.pcall('GET', key)
  if value == mine then return false end
  if observed == 'assumed_absent' or observed == 'own_write' then return value ~= false end
  return not was_observed(observed, value)
end

-- Whether a write is dropped in favour of what another client has written. Reports a conflict.
local function is_dropped(index, key, observed, mine)
  if observed == '' then return false end
  local drop = false
  if is_foreign(key, observed, mine) then
    drop = ARGV[4] == '1' or observed == 'assumed_absent' or observed == 'own_write'
    report(index, drop and 'dropped' or 'overwritten', current_value(key))
  end
  dropped[key] = drop or nil
  return drop
end

local function run(key, name, from, count)
  if name == 'SET_LEASE' then
    local time = redis.pcall('TIME')
    if time.err then return time.err end
    local deadline = time[1] * 1000000 + time[2] + ARGV[from + 1] * 1000
    local reply = redis.pcall('ZADD', key, string.format('%.0f', deadline), ARGV[from])
    return type(reply) == 'table' and reply.err or nil
  end
  if name == 'WINDOW_ADD' then
    return window_add(key, ARGV[from], ARGV[from + 1], ARGV[from + 2], '', tonumber(ARGV[from + 3])).err
  end
  if name == 'RENEW' then
    local value = get_and_renew(key, ARGV[from])
    return type(value) == 'table' and value.err or nil
  end
  -- unpack has a limit. The size of a chunk is even, because HSET needs pairs.
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

-- One command writes and returns the old value, because most queued operations are puts.
local function put(index, key, observed, value)
  if dropped[key] and is_dropped(index, key, observed, value) then return end
  local before = redis.pcall('SET', key, value, 'GET')
  if type(before) == 'table' then
    -- The key holds a map or a queue, which is replaced as a value would be.
    local reply = redis.pcall('SET', key, value)
    if reply.err then return report(index, 'rejected', reply.err) end
    if observed ~= 'own_write' and not was_observed(observed, before) then report(index, 'overwritten') end
  elseif observed ~= 'own_write' and before ~= value and not was_observed(observed, before) then
    report(index, 'overwritten', before and string.sub(before, 1, MAX_SHOWN))
  end
end

-- Makes the puts from `first` on with one MSET, as long as their keys were observed absent or are this process's
-- own, and if all of the former are still absent. Returns the index of the last put, and whether they were made.
local function put_together(first)
  local expected_absent, pairs_to_set, index, from = {}, {}, first, at
  while index <= last_op and #pairs_to_set < 2000 and ARGV[from + 1] == 'PUT' do
    local observed, key = ARGV[from], KEYS[index]
    if observed == 'absent' then
      expected_absent[#expected_absent + 1] = key
    elseif observed ~= 'own_write' or dropped[key] then
      break
    end
    pairs_to_set[#pairs_to_set + 1] = key
    pairs_to_set[#pairs_to_set + 1] = ARGV[from + 2]
    index = index + 1
    from = from + 3
  end
  local are_absent = #expected_absent == 0 or redis.pcall('EXISTS', unpack(expected_absent)) == 0
  return index - 1, are_absent and #pairs_to_set > 2 and not redis.pcall('MSET', unpack(pairs_to_set)).err
end

-- The calls that were found not to be applied.
local not_applied = {}

-- What became of a call before the outage: whether it was applied, its replies, and the deadline of the queue that
-- it popped from. The sequence of a call that was not applied is stored: if it still arrives, it is refused.
local function recall()
  local cache, cache_id, slot = KEYS[last_op + tonumber(ARGV[at + 2])], ARGV[at + 3], ARGV[at + 4]
  local call = cache .. '|' .. slot
  local sequence = tonumber(ARGV[at + 5])
  if not_applied[call] == sequence then return 'not_applied' end
  local held = redis.pcall('HMGET', cache, 'cache_id', slot)
  if held.err or held[1] ~= cache_id then
    -- A call whose effect is lost with all other data is applied again.
    return ARGV[at + 8] == '1' and 'not_applied' or 'evicted'
  end
  local bar = held[2] and string.find(held[2], '|', 1, true)
  local last = bar and tonumber(string.sub(held[2], 1, bar - 1)) or 0
  if last < sequence then
    not_applied[call] = sequence
    redis.pcall('HSET', cache, slot, ARGV[at + 5] .. '|')
    return 'not_applied'
  end
  if last > sequence or bar == #held[2] then return 'evicted' end
  return 'applied', cmsgpack.unpack(string.sub(held[2], bar + 1))
end

-- Pushes back the value of a pop whose reply nobody has received. A queue that was removed with its last value comes
-- back for as long as it would have existed.
local function push_back(index, key, name, value, deadline)
  local left
  if deadline then
    local time = redis.pcall('TIME')
    if time.err then return report(index, 'rejected', time.err) end
    left = deadline - (time[1] * 1000 + math.floor(time[2] / 1000))
    if left <= 0 then return end
  end
  local exists = redis.pcall('EXISTS', key)
  if type(exists) == 'table' then return report(index, 'rejected', exists.err) end
  local reply = redis.pcall(name, key, value)
  if type(reply) == 'table' then return report(index, 'rejected', reply.err) end
  if exists == 0 and left then redis.pcall('PEXPIRE', key, string.format('%.0f', left)) end
end

-- Settles an operation in doubt. Returns whether it must still be applied, and whether it is a pop.
local function settle_in_doubt(index, key)
  local state, replies, deadline = recall()
  local step, push = tonumber(ARGV[at + 6]), ARGV[at + 7]
  at = at + 9
  local reply = replies and replies[step]
  if state == 'evicted' then
    report(index, 'uncertain')
  elseif type(reply) == 'string' and push ~= '' then
    push_back(index, key, push, reply, deadline)
  elseif type(reply) == 'table' and reply.err and push == '' then
    report(index, 'rejected', reply.err)
  end
  return state == 'not_applied', push ~= ''
end

-- Applies an operation of the long form.
local function apply(index, key)
  if ARGV[at + 1] == 'SET_ASIDE' then
    local first = tonumber(ARGV[at + 3])
    for other = first, first + tonumber(ARGV[at + 4]) - 1 do report(other + 2, ARGV[at + 2], ARGV[at + 5]) end
    at = at + 6
    return
  end
  local is_applied = false
  if ARGV[at + 1] == 'IN_DOUBT' then
    local must_apply, is_pop = settle_in_doubt(index, key)
    if is_pop then return end
    is_applied = not must_apply
  end
  local observed, ttl_if_created, name, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local first = at + 4
  at = first + count
  -- A put only if the key is present changes nothing if the key is absent.
  local is_update = name == 'SET' and count == 4 and ARGV[first + 1] == 'XX'
  if is_update and redis.pcall('EXISTS', key) == 0 then return report(index, 'absent') end
  if is_applied or is_dropped(index, key, observed, name == 'SET' and ARGV[first]) then return end
  local exists = ttl_if_created ~= '' and redis.pcall('EXISTS', key)
  -- Without the permission to ask, nobody knows whether the key needs the TTL.
  if type(exists) == 'table' then return report(index, 'rejected', exists.err) end
  -- What the operation would have created has expired since.
  if exists == 0 and ttl_if_created == '0' then return end
  -- Whether the user may set a TTL: on a key that is absent, this changes nothing.
  local limited = exists == 0 and redis.pcall('PEXPIRE', key, ttl_if_created)
  if type(limited) == 'table' then return report(index, 'rejected', limited.err) end
  local failed = run(key, name, first, count)
  if failed then return report(index, 'rejected', failed) end
  if exists == 0 then redis.pcall('PEXPIRE', key, ttl_if_created) end
end

-- Puts up to this index are made one by one, because they could not be made together.
local last_single = 1
local index = 2
while index <= last_op do
  if ARGV[at + 1] ~= 'PUT' then
    apply(index, KEYS[index])
    index = index + 1
  else
    local last, made = index, false
    if index > last_single then last, made = put_together(index) end
    if made then
      at = at + 3 * (last - index + 1)
      index = last + 1
    else
      last_single = math.max(last_single, last)
      put(index, KEYS[index], ARGV[at], ARGV[at + 2])
      at = at + 3
      index = index + 1
    end
  end
end

if #outcomes > 0 then redis.pcall('HSET', KEYS[1], 'outcomes', cmsgpack.pack(outcomes)) end
return { ARGV[2], outcomes, ARGV[1] }
