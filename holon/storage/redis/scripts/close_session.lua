-- A session has ended.

local function operation()
    local id, session = arg(), arg()
    local holder = worker(id)
    if holder and holder.session == session and holder.live then leasing.end_session(holder) end
    return done({})
end
