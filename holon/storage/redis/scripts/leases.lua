-- Sessions, and the leases that they get within their credits.

-- A task under its lease, as its worker gets it, at this time.
local function offer_of(row, time)
    local till = row.execution_due or time + row.execution
    if row.result_due then till = math.min(till, row.result_due) end
    return {
        row.worker, row.session, row.ID, row.lease, row.job, row.need, large(row, 'params'), real(row.priority),
        row.generation, row.attempt, math.max(0, till - time), till, row.retry, row.trace or '',
    }
end

local function granted(row, holder)
    row.place = 'offered'
    row.worker, row.session = holder.ID, holder.session
    row.lease = token()
    row['until'] = NOW + OFFER
    row.attempt = (row.attempt or 0) + 1
    set_attempt(row, row.attempts or '', holder.ID, int(NOW), '-', '-')
    take_hold(holder, row.lease, row.ID)
    queued_changed(row, -1)
    return offer_of(row, NOW)
end

-- The seats that a call names: worker, session, room, match keys, and those that nobody else could do.
local seats
local function read_seats()
    seats = {}
    for i = 1, num() do
        local seat = {worker = arg(), session = arg(), n = num(), keys = words(arg()), only = {}}
        for _, key in ipairs(words(arg())) do seat.only[key] = true end
        seats[i] = seat
    end
    return seats
end

-- Lease the heads of the backlog to the seats, in their order; answers with the offers, and the keys that have more.
local function lease()
    local offers = {}
    for _, seat in ipairs(seats) do
        fetch_counts(seat.keys)
        local holder = worker(seat.worker)
        if holder and holder.live == '1' and holder.session == seat.session then
            local some = {}
            for _, key in ipairs(seat.keys) do
                if counts[key] > 0 then some[#some + 1] = key end
            end
            if some[1] then
                for _ = 1, math.min(seat.n, holder.credits - held_count(holder)) do
                    local row = best(some, holder.ID, seat.only)
                    if not row then break end
                    offers[#offers + 1] = granted(row, holder)
                end
            end
        end
    end
    local more, known = {}, {}
    for _, seat in ipairs(seats) do
        for _, key in ipairs(seat.keys) do
            if counts[key] > 0 and not known[key] then
                known[key] = true
                more[#more + 1] = key
            end
        end
    end
    return {offers, more}
end

-- A task's worker has it: its lease runs from now, its execution from the first time.
local function hold(row)
    row.place = 'leased'
    row['until'] = NOW + LEASE
    row.accepted = 1
    row.execution_due = row.execution_due or NOW + row.execution
    local earlier, who, offered, leased = last_attempt(row)
    if leased == '-' then set_attempt(row, earlier, who, offered, int(NOW), '-') end
end

-- Move a lease to its worker's current session, also one that ran out but went to nobody else.
local function resume(row, holder)
    if row.applied_lease == row.lease or row.place == 'over' or row.place == 'back_off' then return false end
    if row.worker ~= holder.ID then return false end
    if row.place == 'queued' then
        dequeued(row)
        queued_changed(row, -1)
        local earlier, who, offered, leased = last_attempt(row)
        set_attempt(row, earlier, who, offered, leased, '-')
    end
    row.session = holder.session
    take_hold(holder, row.lease, row.ID)
    hold(row)
    return true
end

local function job_of(task_id) return string.match(task_id, '^(.*)%-[^-]*%-[^-]*$') or task_id end

-- Why a lease is not, or no longer, its holder's.
local function why_not(task_id, row, lease_id)
    if not row then return job(job_of(task_id)) and 'stale_task' or 'job_not_found' end
    if row.applied_lease == lease_id or row.place == 'over' or row.place == 'back_off' then
        return row.reason or 'stale_task'
    end
    return row.lease == lease_id and 'worker_mismatch' or 'stale_task'
end

-- A session has ended. Its leases live on until their deadline; what it was to stop is over with it.
local function end_session(holder)
    holder.live = nil
    local held = all_held(holder)
    for i = 1, #held, 2 do
        local row = task(held[i + 1])
        if not row or row.lease ~= held[i] or (row.place ~= 'offered' and row.place ~= 'leased') then
            holder.HELD[held[i]] = held[i + 1]
            lose_hold(holder, held[i])
        end
    end
    if held_count(holder) == 0 then holder.GONE = true end
end
