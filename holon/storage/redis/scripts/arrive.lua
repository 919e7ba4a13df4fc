-- A node has a new connection for its calls. What is still on its way on an older one, also of an earlier process of
-- its name, came too late: it is not carried out any more. Nor does an earlier process connect once more, when a later one
-- has come: the two would go on taking everything from each other. No number comes twice, though the server has lost that
-- it gave the last one.

local function operation(keys, argv)
    local key, lane, process = keys[1], 'lane:' .. argv[2], 'process:' .. argv[2]
    local known = redis.call('HMGET', key, 'id', process, lane)
    if known[1] ~= argv[1] then return {known[1] or '', ''} end
    local last = tonumber(argv[4])
    if last and known[2] and known[2] ~= argv[3] then return {known[1], ''} end
    local number = string.format('%.0f', math.max(tonumber(known[3]) or 0, last or 0) + 1)
    redis.call('HSET', key, process, argv[3], lane, number)
    return {known[1], number}
end
