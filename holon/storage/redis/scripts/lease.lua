-- Lease the heads of the backlog.

local function operation()
    read_seats()
    return done(lease())
end
