-- Returns whether every key holds what a write has left whose reply was lost.
-- KEYS: the keys. ARGV: for each key the SHA-1 of its value, or '' if it must be absent; the least and the longest TTL
-- in ms that may be left, -1 for none, or '' for any.
-- Returns 1, or 0 if a key holds something else.
-- It is one script so that all keys hold it at the same moment.
local function holds(key, sha, least, most)
  if sha == '' then return redis.call('EXISTS', key) == 0 end
  local value = redis.pcall('GET', key)
  if type(value) ~= 'string' or redis.sha1hex(value) ~= sha then return false end
  local left = least ~= '' and redis.call('PTTL', key)
  return not left or (left >= tonumber(least) and left <= tonumber(most))
end
for index, key in ipairs(KEYS) do
  local at = 3 * index
  if not holds(key, ARGV[at - 2], ARGV[at - 1], ARGV[at]) then return 0 end
end
return 1
