-- Forget notices that were taken: what they tell is kept elsewhere now.

for _ = 1, num() do
    local member = arg()
    local id, last = string.match(member, '^(.*):(%d+)$')
    if id and read('HGET', P .. 'taken', member) then
        local entry = read('XRANGE', P .. 'h:' .. id, last, last)[1]
        if entry then backlog = backlog - size_of(entry[2]) end
        write('XDEL', P .. 'h:' .. id, last)
        write('ZREM', P .. 'outbox', member)
        write('HDEL', P .. 'taken', member)
    end
end
return done({})
