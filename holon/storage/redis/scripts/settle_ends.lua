-- What became of ends that were taken: those that are told, and those that are due again after a while.

local function operation()
    local ends = P .. 'ends'
    for _ = 1, num() do put('ZREM', ends, arg()) end
    for _ = 1, num() do
        local id, after = arg(), num()
        if read('ZSCORE', ends, id) then put('ZADD', ends, int(NOW + after), id) end
    end
    return done({})
end
