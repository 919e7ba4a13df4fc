-- Lines of history that were written while nobody moved history are put into the outbox, of a part of all jobs at a time;
-- where to go on, or nothing when that was all.

local function enlist(row)
    history.visit(row.ID, 1, row.told or 0, function(last, lines)
        local member = row.ID .. ':' .. int(last)
        if not read('ZSCORE', P .. 'outbox', member) then
            put('ZADD', P .. 'outbox', number(), member)
            backlog = backlog + #lines
        end
    end)
end

local function operation()
    local cursor = arg()
    if read('HGET', META, 'enlisted') then return done('') end
    local page = read('SCAN', cursor, 'MATCH', P .. 'j:*', 'COUNT', 200)
    local seen = {}
    for _, key in ipairs(page[2]) do
        local row = not seen[key] and job(string.sub(key, #P + 3))
        if row then enlist(row) end
        seen[key] = true
    end
    if page[1] ~= '0' then return done(page[1]) end
    local all_move = true
    for _, node in ipairs(read('ZRANGE', P .. 'nodes', 0, -1)) do
        if read('HEXISTS', META, 'keeps:' .. node) == 1 then all_move = false end
    end
    if all_move then write('HSET', META, 'enlisted', 1) end
    return done('')
end
