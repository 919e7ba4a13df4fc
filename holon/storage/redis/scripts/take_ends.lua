-- Take jobs that are over, whose end is still to be told and is due, for a while; and when the next of the others is due.
-- Where nothing is taken yet, one finds room always.

local PAGE = 100

local function operation()
    local limit, hold, room, empty = num(), num(), num(), flag()
    local answer, from, next_due, ends = {}, 0, nil, P .. 'ends'
    while not next_due do
        local due = read('ZRANGEBYSCORE', ends, '-inf', NOW_TEXT, 'WITHSCORES', 'LIMIT', from, PAGE)
        for i = 1, #due, 2 do
            if #answer == limit then
                next_due = due[i + 1]
                break
            end
            local row = job(due[i])
            if row then
                local record = told_job(row, '')
                room = room - #record[1]
                if room < 0 and not (empty and #answer == 0) then
                    next_due = due[i + 1]
                    break
                end
                answer[#answer + 1] = record
                put('ZADD', ends, int(NOW + hold), due[i])
            else
                put('ZREM', ends, due[i])
            end
        end
        if #due < 2 * PAGE then break end
        from = from + PAGE
    end
    next_due = next_due or read('ZRANGEBYSCORE', ends, '(' .. NOW_TEXT, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    return done({answer, next_due or ''})
end
