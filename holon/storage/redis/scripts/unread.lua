-- What waits in a job's inbox, in order of arrival.

local function operation()
    local row = job(arg())
    if not row or not row.inbox then return {} end
    return read('HMGET', P .. 'i:' .. row.ID, unpack(words(row.inbox)))
end
