-- Take what sessions said, in this order: credits, leases accepted and extended, given back, progress. Before that
-- comes the last stop that this node was told of.

local function read_ref() return {worker = arg(), session = arg(), task = arg(), lease = arg()} end

local function current(ref)
    local row = task(ref.task)
    if not row or row.lease ~= ref.lease or not held_by(row, ref.session) then return nil end
    return row.worker == ref.worker and row or nil
end

local function still_holds(ref, ago)
    local row = current(ref)
    if not row then return false end
    if placed(row) then
        leasing.hold(row, ago)
        return true
    end
    return row.place == 'queued' and leasing.resume(row, worker(row.worker))
end

-- What an earlier session says of a lease with which a later one goes on is of no account.
local function moved(ref)
    local row = task(ref.task)
    return row and row.lease == ref.lease and placed(row) and row.session ~= ref.session
end

-- So often a task may go back to who gave it back sooner than after a lease. Who always does that would have it round and
-- round, for ever.
local MOST_AT_ONCE = 5

-- Nobody has begun a task under its last lease: unless somebody has before, its dispatch timeout goes on.
local function not_begun(row)
    local earlier, who, offered = tries.last(row)
    tries.set(row, earlier, who, offered, '-', '-')
    -- With when it was offered, and when it was taken.
    local begun = '^%S+ %d+ %d+ '
    local before = row.generation > 1 or match(earlier, begun) or match(earlier, ';' .. string.sub(begun, 2))
    row.accepted = before and 1 or nil
end

local function hand_back(ref, after, cost, unbegun, unheard, reason, code)
    if moved(ref) then return end
    local row = current(ref)
    held.give_up(ref.worker, ref.lease)
    if row and placed(row) then
        if not after or after >= settings.lease or (row.at_once or 0) >= MOST_AT_ONCE then
            after = settings.lease
        elseif not costs.is_nodes_own(ref.worker) then
            -- What a node does by itself it gives back when it leaves, and may last longer than many nodes do.
            row.at_once = (row.at_once or 0) + 1
        end
        if unheard then costs.lose(row) end
        if unbegun then not_begun(row) end
        local charged = cost and costs.settle(row, cost)
        endings.given_back(row, reason, after > 0 and NOW + after, charged, unbegun and '2', code)
    elseif not unheard then
        -- Another may have the task meanwhile.
        local late, owner = task(ref.task), job(job_of(ref.task))
        local charged = costs.reported(owner, ref.lease, cost or 0)
        if late and (charged or 0) > 0 then
            -- As of a late result.
            history.tell(owner, 1, 'S' .. cmsgpack.pack({int(NOW), ref.worker, late.ID, late.reason or 'stale_task',
                'rejected', int(charged)}))
        end
    end
end

local function progressed(ref, percent, said, message)
    local row = current(ref)
    local owner = row and job(row.job)
    if not owner or over(owner) or not placed(row) then return end
    if said then owner.message = message end
    local before = row.progress or 0
    -- Also where it is a message alone: so it is known that something was said.
    row.progress = percent or before
    if not percent then return end
    local fan = fan_of(owner)
    if not fan then
        owner.progress = percent
    elseif fan.step == row.step then
        fans.progressed(owner, fan, percent - before)
    end
end

-- Whether what is to be stopped, since its lease ran out, is under that lease again: nobody is told that now.
local function taken_up(stop)
    local row = stop[2] == 'lease_lost' and task(stop[5])
    return row and row.lease == stop[6] and placed(row)
end

-- What this node's sessions are to stop, and those that were replaced; what earlier sessions were to stop is over with
-- them. A stop stays until the node says that it was told of it: a reply can be lost, and then this is asked again.
local function stops_due(told_of)
    local key, last, known, due = P .. 'stops:' .. NODE, told_of, 0, {}
    local found = read('LRANGE', key, 0, -1)
    for i, text in ipairs(found) do
        local stop = words(text)
        last = stop[1]
        if last == told_of then
            known, due = i, {}
        else
            local holder = worker(stop[3])
            local current = holder and holder.live and holder.session == stop[4]
            if stop[2] == 'replaced' or (current and not taken_up(stop)) then due[#due + 1] = text end
        end
    end
    if known > 0 then write('LTRIM', key, known, -1) end
    return {last, due}
end

local function operation()
    local told_of = arg()
    for _ = 1, num() do
        local holder, session, credits = worker(arg()), arg(), num()
        if holder and holder.session == session then holder.credits = credits end
    end
    local lost_refs = {}
    for i = 1, num() do
        local ref = read_ref()
        if not still_holds(ref, num()) then lost_refs[#lost_refs + 1] = i end
    end
    for _ = 1, num() do
        local ref = read_ref()
        hand_back(ref, num(), num(), flag(), flag(), arg(), arg())
    end
    for _ = 1, num() do
        local ref = read_ref()
        progressed(ref, num(), flag(), arg())
    end
    read_seats()
    local leased = lease()
    return done({lost_refs, stops_due(told_of), leased})
end
