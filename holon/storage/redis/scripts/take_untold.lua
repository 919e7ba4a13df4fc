-- Take jobs of which something is to be told and is due, for a while: their `ends` or their `events`; of these, after which
-- line of its history they begin in each; and when the next of the others is due.
-- Where nothing is taken yet, one finds room always.

local PAGE = 100
-- Those of jobs that are gone go too: no more than so many are looked at in one call.
local LOOK_AT = 1000

local function forget(what, id)
    put('ZREM', P .. what, id)
    if what == 'events' then put('HDEL', P .. 'happened', id) end
end

local function operation()
    local what, limit, hold, room, empty = arg(), num(), num(), num(), flag()
    local answer, begin, from, next_due = {}, {}, 0, nil
    while not next_due and from < LOOK_AT do
        local due = read('ZRANGEBYSCORE', P .. what, '-inf', NOW_TEXT, 'WITHSCORES', 'LIMIT', from, PAGE)
        for i = 1, #due, 2 do
            if #answer == limit then
                next_due = due[i + 1]
                break
            end
            local id = due[i]
            local row, lines = job(id), what == 'ends' and '0' or read('HGET', P .. 'happened', id)
            if row and lines then
                local record = told_job(row, '')
                room = room - #record[1]
                if room < 0 and not (empty and #answer == 0) then
                    next_due = due[i + 1]
                    break
                end
                answer[#answer + 1], begin[#begin + 1] = record, tonumber(match(lines, '^%d+'))
                put('ZADD', P .. what, int(NOW + hold), id)
            else
                forget(what, id)
            end
        end
        from = from + PAGE
        if #due < 2 * PAGE then
            next_due = next_due or read('ZRANGEBYSCORE', P .. what, '(' .. NOW_TEXT, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
            return done({answer, begin, next_due or ''})
        end
    end
    return done({answer, begin, next_due or NOW_TEXT})
end
