-- Forget what has expired, at most so much of it; how much was.

local function operation()
    local limit = num()
    return shared_done((drop_expired(limit)))
end
