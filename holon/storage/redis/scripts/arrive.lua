-- A node has a new connection for its calls. What is still on its way on an older one, also of an earlier process of
-- its name, came too late: it is not carried out any more.

local function operation(keys, argv)
    local key = keys[1]
    if SHRINKS then redis.call('DEL', string.match(key, '^(.*)meta$') .. 'nothing') end
    local id = redis.call('HGET', key, 'id')
    if id ~= argv[1] then return {id or '', ''} end
    return {id, tostring(redis.call('HINCRBY', key, 'lane:' .. argv[2], 1))}
end
