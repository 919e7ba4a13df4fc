-- A node starts: the first of all writes what the store is made for; what is there already is answered. Nothing is made
-- where it must be there already.

local names = {'id', 'schema', 'partitions', 'time', 'records', 'whole'}
local function operation(keys, argv)
    local key = keys[1]
    local known = redis.call('HMGET', key, unpack(names))
    if not known[1] then
        if argv[5] == '' then return known end
        redis.call('HSET', key, 'id', argv[1], 'schema', argv[2], 'partitions', argv[3], 'last', 0, 'time', 0,
            'ready', '0-0', 'suspects', '0-0', 'newest', '0-0', 'poisoned', 0, 'idle', '', 'watched', 0)
        for _, name in ipairs({'ready', 'suspects'}) do
            redis.call('XGROUP', 'CREATE', string.match(key, '^(.*)meta$') .. name, 'holon', '0-0', 'MKSTREAM')
        end
        known = redis.call('HMGET', key, unpack(names))
    end
    -- The newest records that any node writes.
    if tonumber(known[5] or 0) < tonumber(argv[4]) then
        redis.call('HSET', key, 'records', argv[4])
        known[5] = argv[4]
    end
    return known
end
