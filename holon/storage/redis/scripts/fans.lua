-- Fan-outs: how many of their branches wait, when the next of them are to be made, and how far all of them are.

local fans = {BELOW = 100, CHECK = 5000}

function fans.want_spawn(row)
    local fan = fan_of(row)
    if fan and fan.chunks > 0 and fan.over == 0 and fan.queued < fans.BELOW then
        hints.mine['f' .. row.ID .. '-' .. int(fan.step)] = true
        row.spawn = NOW + fans.CHECK
    end
end

-- A branch began or ceased to wait for a lease.
function fans.queued(row, by)
    local owner = job(row.job)
    local fan = owner and fan_of(owner)
    if fan and fan.step == row.step then
        fan.queued = fan.queued + by
        if by < 0 then fans.want_spawn(owner) end
    end
end

local function rounded(x)
    -- Half to even, as everywhere else.
    return tonumber(format('%.1f', x))
end

-- A branch is so much further than it was, in percent; or less far.
function fans.progressed(owner, fan, by)
    fan.progress = fan.progress + by
    -- Taking away what was added leaves a little less than nothing, at times.
    owner.progress = math.max(0, rounded(fan.progress / fan.total))
end

function fans.clear(row, fan)
    for i = fan.first_chunks - fan.chunks + 1, fan.first_chunks do
        write('DEL', P .. 'c:' .. row.ID .. '-' .. int(fan.step) .. '-' .. int(i))
    end
    fan.over, fan.chunks = 1, 0
    row.spawn = nil
end
