-- What became of events that were taken: up to which line of its job's history they are to be told no more, and when those
-- after that are due.

local function operation()
    local events, happened = P .. 'events', P .. 'happened'
    for _ = 1, num() do
        local id, through, wait = arg(), num(), num()
        local lines = words(read('HGET', happened, id) or '')
        if lines[1] then
            local after = math.max(tonumber(lines[1]), through)
            if after >= tonumber(lines[2]) then
                put('ZREM', events, id)
                put('HDEL', happened, id)
            else
                put('HSET', happened, id, int(after) .. ' ' .. lines[2])
                put('ZADD', events, int(NOW + wait), id)
            end
        end
    end
    return done({})
end
