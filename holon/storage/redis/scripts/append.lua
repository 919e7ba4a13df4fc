-- Put an event into a job's inbox, once for each key.

-- Remember a key of a job. Of those of one time the first in the order of their letters is forgotten first.
local function remember(row, keys, key)
    write('ZADD', keys, (row.arrived or 0) + 1, key)
    write('ZREMRANGEBYRANK', keys, 0, -settings.max_inbox - 1)
end

local function operation()
    local row = job(arg())
    local key, request, is_cancel, event, full, want = arg(), arg(), flag(), arg(), num(), num()
    if not row then return done({'unknown', {}}) end
    local keys = P .. 'd:' .. row.ID
    local asked_before = request ~= '' and read('ZSCORE', keys, request)
    if asked_before or read('ZSCORE', keys, key) then
        if request ~= '' and not asked_before and not over(row) then
            remember(row, keys, request)
            remember(row, keys, key)
        end
        return done({'duplicate', told_claims(claim(want))})
    end
    if over(row) then return done({'over', {}}) end
    if #words(row.inbox) >= full then return done({'full', {}}) end
    if request ~= '' then remember(row, keys, request) end
    remember(row, keys, key)
    inbox.deliver(row, 'E' .. event, is_cancel)
    return done({'appended', told_claims(claim(want))})
end
