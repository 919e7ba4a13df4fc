-- Count calls, each in the window of its key that it is now; what does not fit in as a whole is not counted.

local function operation()
    local used, answer = {}, {}
    for i = 1, num() do
        local key, n, limit, period = arg(), num(), num(), num()
        local ends = NOW - NOW % period + period
        local window = P .. 'n:' .. int(ends) .. ':' .. key
        used[window] = used[window] or tonumber(read('GET', window) or 0)
        local granted = used[window] + n <= limit
        if granted and n > 0 then
            used[window] = used[window] + n
            write('INCRBY', window, int(n))
            write('PEXPIRE', window, int(period))
        end
        answer[i] = {granted and 1 or 0, math.max(0, limit - used[window]), ends - NOW}
    end
    return shared_done(answer)
end
