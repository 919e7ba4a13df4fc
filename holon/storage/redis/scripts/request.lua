-- The job that an earlier call made for a request id, and the digest of what that asked for.

local function operation()
    local owner, request = arg(), arg()
    local id = read('HGET', P .. 'r:' .. owner, request)
    local row = id and job(id)
    return row and {id, row.digest or ''} or ''
end
