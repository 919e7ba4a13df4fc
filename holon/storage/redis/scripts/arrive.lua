-- A node has a new connection for its calls. What is still on its way on an older one, also of an earlier process of
-- its name, came too late: it is not carried out any more. Nor does an earlier process connect once more, when a later one
-- has come: the two would go on taking everything from each other.

local function operation(keys, argv)
    local key, lane, process = keys[1], 'lane:' .. argv[2], 'process:' .. argv[2]
    if SHRINKS then redis.call('DEL', string.match(key, '^(.*)meta$') .. 'nothing') end
    local known = redis.call('HMGET', key, 'id', process)
    if known[1] ~= argv[1] then return {known[1] or '', ''} end
    local has_come = argv[4] == ''
    if has_come and known[2] and known[2] ~= argv[3] then return {known[1], ''} end
    redis.call('HSET', key, process, argv[3])
    return {known[1], tostring(redis.call('HINCRBY', key, lane, 1))}
end
