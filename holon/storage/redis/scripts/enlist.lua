-- Lines of history that were written while nobody moved history are put into the outbox, of a part of all jobs at a time;
-- where to go on, or nothing when that was all.

local cursor = arg()
if read('HGET', META, 'enlisted') then return done('') end
local page = read('SCAN', cursor, 'MATCH', P .. 'h:*', 'COUNT', 200)
local seen = {}
for _, key in ipairs(page[2]) do
    local id = string.sub(key, #P + 3)
    if not seen[id] and job(id) then
        for _, entry in ipairs(read('XRANGE', key, '-', '+')) do
            local member = id .. ':' .. string.match(entry[1], '^%d+')
            if not read('ZSCORE', P .. 'outbox', member) then
                write('ZADD', P .. 'outbox', number(), member)
                backlog = backlog + size_of(entry[2])
            end
        end
    end
    seen[id] = true
end
if page[1] ~= '0' then return done(page[1]) end
local all_move = true
for _, node in ipairs(read('ZRANGE', P .. 'nodes', 0, -1)) do
    if read('HEXISTS', META, 'keeps:' .. node) == 1 then all_move = false end
end
if all_move then write('HSET', META, 'enlisted', 1) end
return done('')
