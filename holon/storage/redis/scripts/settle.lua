-- Forget notices that were taken: what they tell is kept elsewhere now.

local function operation()
    for _ = 1, num() do
        local member = arg()
        local id, last = match(member, '^(.*):(%d+)$')
        if id and read('HGET', P .. 'taken', member) then
            local key = P .. 'j:' .. id
            local lines = read('HGET', key, line_of(last))
            if lines then
                backlog = backlog - #lines
                put('HDEL', key, line_of(last))
            end
            put('ZREM', P .. 'outbox', member)
            put('HDEL', P .. 'taken', member)
        end
    end
    return done({})
end
