-- Forget notices that were taken: what they tell is kept elsewhere now.

local function operation()
    for _ = 1, num() do
        local member = arg()
        local id, last = match(member, '^(.*):(%d+)$')
        if id and read('HGET', P .. 'taken', member) then
            local key = history.lines_of(id) .. last
            local size = read('STRLEN', key)
            if size > 0 then
                backlog = backlog - size
                write('DEL', key)
            end
            put('ZREM', P .. 'outbox', member)
            put('HDEL', P .. 'taken', member)
        end
    end
    return done({})
end
