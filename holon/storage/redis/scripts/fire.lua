-- Do what is due, at most so many timers.

-- Chunks of fan-outs that are to be turned into tasks now.
local spawns

local function fire_job(row)
    if row.claim and row['until'] <= NOW then unclaim(row) end
    if row.wake and row.wake <= NOW then
        row.wake = nil
        inbox.deliver(row, 'W ' .. int(row.wake_step))
    end
    if row.spawn and row.spawn <= NOW then
        row.spawn = nil
        local fan = fan_of(row)
        if fan and fan.chunks > 0 and fan.over == 0 and fan.queued < fans.BELOW then
            spawns[#spawns + 1] = row.ID .. '-' .. int(fan.step)
            row.spawn = NOW + fans.CHECK
        end
    end
end

local function timed_out(row)
    endings.note_loss(row, 'TIMEOUT_ERROR')
    stop_holder(row, 'deadline')
    costs.leave(row)
    -- The lease has ended as if its worker had said so: it is no session's, and no later one goes on with it.
    row.session = nil
    row.reason = 'deadline_exceeded'
    local policy, failures, after = words(row.retry), row.generation - 1, nil
    if failures < tonumber(policy[1]) then
        local longest = math.min(tonumber(policy[3]), tonumber(policy[2]) * 2 ^ math.min(failures, 30))
        after = math.floor(longest * math.random() + 0.5)
    end
    local seconds = format('%g', leasing.may_take(row) / 1000)
    local message = 'Worker task timed out: no result within ' .. seconds .. ' s of its start'
    endings.apply(row, endings.failed('TIMEOUT_ERROR', message, row.worker), after)
end

local function lease_over(row)
    local holder, taken = worker(row.worker), row.place == 'leased'
    if not holder or holder.live ~= '1' or holder.session ~= row.session then
        -- A worker says a moment later that it took a task, and may have died before.
        endings.lost(row, 'worker_lost', holder and holder.instance ~= '')
        return
    end
    if taken then endings.note_loss(row, 'LEASE_EXPIRED') end
    stop_holder(row, 'lease_lost')
    costs.lose(row)
    endings.run_again(row, taken and 'lease_expired' or 'offer_expired', NOW + settings.lease)
end

local function fire_task(row)
    if endings.out_of_time(row) then return end
    if row.place == 'back_off' and row['until'] <= NOW then
        row.place = 'queued'
        enqueue(row)
    elseif placed(row) and row.execution_due and row.execution_due <= NOW then
        timed_out(row)
    elseif placed(row) and row['until'] <= NOW then
        lease_over(row)
    elseif row.place == 'queued' then
        local rest = ''
        for _, entry in ipairs(avoided(row)) do
            if entry[2] > NOW then
                rest = rest .. entry[1] .. ' ' .. int(entry[2]) .. ' ' .. entry[3] .. ';'
            end
        end
        row.avoid = rest ~= '' and rest or nil
        fetch_counts({row.key})
        wanted_keys[row.key] = true
    end
end

local function operation()
    local limit = num()
    math.randomseed(num())
    local want = num()
    spawns = {}
    local timers = read('ZRANGEBYSCORE', P .. 'timers', '-inf', int(NOW), 'LIMIT', 0, limit)
    local fired = 0
    for _, member in ipairs(timers) do
        local kind, id = match(member, '^%d+([jt])(.*)$')
        local row = kind == 'j' and job(id) or kind == 't' and task(id)
        local time = kind == 'j' and job_time or task_time
        if not row then
            disarmed[#disarmed + 1] = member
        end
        -- What it has become may be due as well.
        while row and fired < limit do
            local due = time(row)
            if not due or due > NOW then break end
            fired = fired + 1
            if kind == 'j' then fire_job(row) else fire_task(row) end
        end
    end
    return done({'', told_claims(claim(want)), spawns, losses}, function(answer)
        answer[1] = read('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2] or ''
    end)
end
