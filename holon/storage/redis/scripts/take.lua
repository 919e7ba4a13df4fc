-- Take notices that nobody has, for as long as a claim: lines of history that are to be moved, with their jobs.

local PAGE = 100

local function is_taken(by)
    return by and tonumber(words(by)[1]) > NOW
end

local function notice(member)
    local id, last = match(member, '^(.*):(%d+)$')
    local row = job(id)
    local lines = row and value_of(history.lines_of(id) .. last)
    if not lines then
        write('ZREM', P .. 'outbox', member)
        return nil
    end
    local record = told_job(row, '')
    return {member, record, last, lines}, #record[1] + #lines
end

local function operation()
    local limit, room = num(), num()
    local answer, from = {}, 0
    while #answer < limit do
        local members = read('ZRANGE', P .. 'outbox', from, from + PAGE - 1)
        if not members[1] then break end
        local taken = read('HMGET', P .. 'taken', unpack(members))
        for i, member in ipairs(members) do
            if #answer == limit then break end
            if not is_taken(taken[i]) then
                local one, size = notice(member)
                if one then
                    room = room - size
                    if room < 0 and answer[1] then return done(answer) end
                    answer[#answer + 1] = one
                    write('HSET', P .. 'taken', member, int(NOW + settings.claim) .. ' ' .. NODE)
                end
            end
        end
        from = from + PAGE
    end
    return done(answer)
end
