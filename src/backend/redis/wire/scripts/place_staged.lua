-- Puts staged entries where their keys are, each instead of all that its key holds, in one step for every reader.
-- KEYS: the plan (a list); the reply; then all keys that are known to change, which only lets the server check the
-- permissions for them. ARGV: 'merge', 'keep' for entries whose keys are absent, or 'replace' for all that is stored under
-- a prefix; the beginning of the staged keys; how many entries are staged; the TTL in ms of the reply; and to replace, the
-- prefix, its pattern for SCAN, and how many keys may change.
-- The first item of the plan is empty. Of each entry, the item says which of its keys are staged ('m' for the key itself,
-- 'r' for the records of returned values, 'd' for the delayed values), its deadline in ms or nothing, and its key.
-- Returns a digit for each entry, 1 if it was written; or how many keys were removed and how many entries written; or
-- 'gone' if not all entries are staged, or 'many'. If a call was made before, it returns the reply of that call.
-- It is one script so that nobody sees some entries without the others, and so that what other clients have stored under
-- the prefix until now is removed.
local mode, staged, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local leases, leased = ':__millpond:leases', ':__millpond:leased'
local returned, delayed = ':__millpond:returned', ':__millpond:delayed'
local suffixes = { leases, leased, returned, delayed }
local names = { m = '', r = ':returned', d = ':delayed' }
local targets = { m = '', r = returned, d = delayed }
local plan = redis.call('LRANGE', KEYS[1], 0, -1)
if #plan == 0 then
  local reply = redis.call('GET', KEYS[2])
  if reply and reply ~= '' then return reply end
  return 'gone'
end
if #plan ~= count + 1 then return 'gone' end
-- unpack has a limit.
local function in_chunks(command, keys)
  local sum = 0
  for from = 1, #keys, 4000 do
    sum = sum + redis.call(command, unpack(keys, from, math.min(from + 3999, #keys)))
  end
  return sum
end
local parts, deadlines, keys, all = {}, {}, {}, {}
for n = 1, count do
  parts[n], deadlines[n], keys[n] = string.match(plan[n + 1], '^(%a*) (%d*) (.*)$')
  for part in string.gmatch(parts[n], '%a') do all[#all + 1] = staged .. ':' .. n .. names[part] end
end
if in_chunks('EXISTS', all) ~= #all then return 'gone' end

-- The rule of keys::is_cleared: what belongs to a queue goes with the queue, a receipt with its namespace, and other keys
-- with a reserved part stay. Returns whether a key goes, and whether it counts.
local function is_cleared(key, prefix)
  local text = ':' .. key .. ':'
  if not string.find(text, ':__millpond:', 1, true) then return true, true end
  for _, suffix in ipairs(suffixes) do
    if string.sub(key, -#suffix) == suffix and #key - #suffix >= #prefix then return true, false end
  end
  local at = string.find(text, ':__millpond:receipt:', 1, true)
  return at and at - 1 >= #prefix, false
end
local old, removed = {}, 0
if mode == 'replace' then
  local seen, cursor = {}, '0'
  repeat
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[6], 'COUNT', 10000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
      local goes, counts = is_cleared(key, ARGV[5])
      if goes and not seen[key] then
        seen[key] = true
        old[#old + 1] = key
        if counts then removed = removed + 1 end
      end
    end
  until cursor == '0'
  if #old + #all > tonumber(ARGV[7]) then return 'many' end
end

-- A server that is out of memory, or a user without one of these permissions, is refused before any entry changes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], '', 'PX', ARGV[4])
local taken = staged .. ':taken'
redis.call('RENAME', KEYS[1], taken)
redis.call('PERSIST', taken)
redis.call('PEXPIREAT', taken, string.format('%.0f', now + ARGV[4]))
redis.call('UNLINK', taken)

in_chunks('UNLINK', old)
local written, placed, outcomes = 0, {}, {}
for n = 1, count do
  local key = keys[n]
  local kept = mode == 'keep' and redis.call('EXISTS', key, key .. leases, key .. leased, key .. delayed) > 0
  local is_past = deadlines[n] ~= '' and tonumber(deadlines[n]) <= now
  if not kept and (mode ~= 'replace' or placed[key]) then
    redis.call('UNLINK', key, key .. leases, key .. leased, key .. returned, key .. delayed)
  end
  for part in string.gmatch(parts[n], '%a') do
    local from = staged .. ':' .. n .. names[part]
    if kept or is_past then
      redis.call('UNLINK', from)
    else
      local to = key .. targets[part]
      redis.call('RENAME', from, to)
      if part == 'm' and deadlines[n] ~= '' then
        redis.call('PEXPIREAT', to, deadlines[n])
      else
        redis.call('PERSIST', to)
      end
    end
  end
  placed[key] = true
  outcomes[n] = (kept or is_past) and '0' or '1'
  if not kept and not is_past then written = written + 1 end
end
local reply = mode == 'replace' and removed .. ' ' .. written or table.concat(outcomes)
-- Without entries there is nothing to say of each.
if reply == '' then reply = '-' end
redis.call('SET', KEYS[2], reply, 'PX', ARGV[4])
return reply
