-- Lease the heads of the backlog.

local function operation()
    read_seats()
    local answer = lease()
    return done(answer)
end
