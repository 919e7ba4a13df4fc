-- A node has a new connection for its calls. What is still on its way on an older one, also of an earlier process of its
-- name, came too late: it is not carried out any more.

local META = KEYS[1]
if SHRINKS then redis.call('DEL', string.match(META, '^(.*)meta$') .. 'nothing') end
local id = redis.call('HGET', META, 'id')
if id ~= ARGV[1] then return {id or '', ''} end
return {id, tostring(redis.call('HINCRBY', META, 'lane:' .. ARGV[2], 1))}
