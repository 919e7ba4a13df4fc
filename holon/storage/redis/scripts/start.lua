-- A node starts: the first of all writes what the store is made for; what is there already is answered.

local META = KEYS[1]
local P = string.match(META, '^(.*)meta$')
local names = {'id', 'schema', 'partitions', 'time', 'records'}
local known = redis.call('HMGET', META, unpack(names))
if not known[1] then
    redis.call('HSET', META, 'id', ARGV[1], 'schema', ARGV[2], 'partitions', ARGV[3], 'number', 0, 'time', 0,
        'ready', '0-0', 'suspects', '0-0')
    for _, name in ipairs({'ready', 'suspects'}) do
        redis.call('XGROUP', 'CREATE', P .. name, 'holon', '0-0', 'MKSTREAM')
    end
    known = redis.call('HMGET', META, unpack(names))
end
-- The newest records that any node writes.
if tonumber(known[5] or 0) < tonumber(ARGV[4]) then
    redis.call('HSET', META, 'records', ARGV[4])
    known[5] = ARGV[4]
end
return known
