-- Waiting tasks of a match key, in the order of their ids, after one.

local key, after, limit = arg(), arg(), tonumber(arg())
local ids = {}
for _, member in ipairs(redis.call('ZRANGE', P .. 'q:' .. key, 0, -1)) do
    local id = string.sub(member, 13)
    if id > after then ids[#ids + 1] = id end
end
table.sort(ids)
local found = {}
for i = 1, math.min(limit, #ids) do
    found[i] = redis.call('HMGET', P .. 't:' .. ids[i], 'job', 'place', 'need', 'lease', 'worker', 'generation',
        'attempt', 'retry', 'params')
    found[i][10] = ids[i]
end
return found
