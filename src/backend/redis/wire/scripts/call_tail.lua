-- The end of a call that is a script of its own, which stands before it as the function `body`. That script refuses
-- before it has changed anything, or changes all.
-- Returns the reply of the script as the only one of a list.
local renewed = ARGV[5]
local is_done, reply = pcall(body, { unpack(KEYS, 2) }, { unpack(ARGV, 6) })
if not is_done then
  if type(reply) == 'table' then return reply end
  return { err = tostring(reply) }
end
if type(reply) == 'table' and reply.err then return reply end
-- A script that finds nothing leaves nothing that matters, so that polling stores nothing.
if reply == false then return { false } end
-- After a first write the server does not refuse another one for want of memory.
redis.pcall('HSET', cache, slot, sequence .. '|' .. cmsgpack.pack({ reply }, false))
if renewed ~= '' then renew(cache, renewed) end
return { reply }
