-- Put an event into a job's inbox, once for each key.

local function operation()
    local row = job(arg())
    local key, is_cancel, event, want = arg(), flag(), arg(), num()
    if not row then return done({'unknown', {}}) end
    local keys = P .. 'd:' .. row.ID
    if read('ZSCORE', keys, key) then return done({'duplicate', told_claims(claim(want))}) end
    if over(row) then return done({'over', {}}) end
    if row.inbox and #words(row.inbox) >= MAX_INBOX then return done({'full', {}}) end
    write('ZADD', keys, (row.arrived or 0) + 1, key)
    write('ZREMRANGEBYRANK', keys, 0, -MAX_INBOX - 1)
    deliver(row, 'E' .. event, is_cancel)
    return done({'appended', told_claims(claim(want))})
end
