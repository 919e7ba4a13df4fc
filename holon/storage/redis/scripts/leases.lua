-- Sessions, and the leases that they get within their credits.

local leasing = {}

-- How long a task's worker may execute it, and keeps its lease without a word.
function leasing.may_take(row)
    if row.execution > 0 then return row.execution end
    local holder = worker(row.worker)
    return holder and holder.takes or settings.execution
end

function leasing.keeps_for(row)
    if row.lost_after then return math.max(row.lost_after, settings.lease) end
    local holder = worker(row.worker)
    return holder and holder.keeps or settings.lease
end

-- Add a task under its lease, as its worker gets it at this time, to a list of such. All are in one: each table of a reply
-- costs as much as many values.
function leasing.tell_offer(offers, row, time)
    local till = row.execution_due or time + leasing.may_take(row)
    if row.result_due then till = math.min(till, row.result_due) end
    local n = #offers
    offers[n + 1], offers[n + 2], offers[n + 3] = row.HEAD or head_of(row), row.worker, row.session
    offers[n + 4], offers[n + 5], offers[n + 6] = row.lease, carried_by(row), row.generation
    offers[n + 7], offers[n + 8], offers[n + 9] = row.attempt, math.max(0, till - time), till
    offers[n + 10] = row.lost_after and leasing.keeps_for(row) or false
    offers[n + 11] = row.by_price and (row.reserves or 0) or false
end

-- Of a task so many attempts are known, the newest; nothing else bounds how often it is leased.
local MOST_ATTEMPTS = 1000
local function newest_attempts(row)
    local attempts, from = row.attempts or '', 1
    if row.attempt <= MOST_ATTEMPTS then return attempts end
    local _, count = string.gsub(attempts, ';', ';')
    for _ = MOST_ATTEMPTS, count do from = string.find(attempts, ';', from, true) + 1 end
    return string.sub(attempts, from)
end

local function grant(row, holder)
    row.place = 'offered'
    row.worker, row.session = holder.ID, holder.session
    row.lease = token()
    row.written_off, row.reason, row.execution_due = nil, nil, nil
    row['until'] = NOW + settings.offer
    row.attempt = (row.attempt or 0) + 1
    tries.set(row, newest_attempts(row), holder.ID, NOW_TEXT, '-', '-')
    held.take(holder, row.lease, row.ID)
    if row.branch then fans.queued(row, -1) end
end

-- The seats that a call names: worker, session, room, match keys, those that nobody else could do, how many leases the
-- session may hold in this partition (its credits, where there is only one), and match keys with what the worker declares
-- for their tasks.
local seats = NONE
local function read_seats()
    local count = num()
    if count == 0 then return end
    seats = {}
    for i = 1, count do
        seats[i] = {
            worker = args[at + 1], session = args[at + 2], n = tonumber(args[at + 3]), keys = words(args[at + 4]),
            only = ' ' .. args[at + 5] .. ' ', most = tonumber(args[at + 6]), prices = NONE,
        }
        if args[at + 7] ~= '' then
            seats[i].prices = {}
            for key, price in gmatch(args[at + 7], '(%S+) (%d+)') do seats[i].prices[key] = tonumber(price) end
        end
        at = at + 7
        -- Who shares a session's credits out among partitions hears what this one has of them, whatever is answered: a
        -- repeat hands over what was leased before.
        local holder = seats[i].most and worker(seats[i].worker)
        if holder then held.count(holder) end
    end
end

local NO_OFFERS = {NONE, NONE}

-- The keys of the seats for which tasks wait.
function leasing.still_waiting()
    local more, known = {}, {}
    for _, seat in ipairs(seats) do
        fetch_counts(seat.keys)
        for _, key in ipairs(seat.keys) do
            if counts[key] > 0 and not known[key] then
                known[key] = true
                more[#more + 1] = key
            end
        end
    end
    return more
end

-- So many tasks at most end in one call as their worker is too dear.
local MOST_TOO_DEAR = 1000

-- Lease the heads of the backlog to the seats, in their order; answers with the offers, and the keys that have more. The
-- tasks of the offers come besides. A task ends instead where what is left of its job's budget does not cover what its
-- worker declares.
local function lease()
    if not seats[1] then return NO_OFFERS, NONE end
    local offers, leased, most_too_dear = {}, {}, MOST_TOO_DEAR
    for _, seat in ipairs(seats) do
        fetch_counts(seat.keys)
        local holder = worker(seat.worker)
        if holder and holder.live == '1' and holder.session == seat.session then
            if any_wait(seat.keys) then
                local n = math.min(seat.n, (seat.most or holder.credits) - held.count(holder))
                PAGE = math.max(1, math.ceil(n / #seat.keys))
                while n > 0 and most_too_dear > 0 do
                    local row = best(seat.keys, holder.ID, seat.only)
                    if not row then break end
                    if row.by_price and not costs.reserve(row, seat.prices[row.key]) then
                        endings.too_dear(row, seat.prices[row.key])
                        most_too_dear = most_too_dear - 1
                    else
                        grant(row, holder)
                        leasing.tell_offer(offers, row, NOW)
                        leased[#leased + 1] = row
                        n = n - 1
                    end
                end
            end
        end
    end
    local more = leasing.still_waiting()
    if most_too_dear == 0 then
        -- Nothing else may ever bring the seats to those that this call was not to end.
        for _, key in ipairs(more) do wanted_keys[key] = true end
    end
    if not offers[1] and not more[1] then return NO_OFFERS, NONE end
    return {offers, more}, leased
end

-- A task's worker has it: its lease runs from now, its execution from the first time. It took it `ago` milliseconds
-- before.
function leasing.hold(row, ago)
    row.place = 'leased'
    row['until'] = NOW + leasing.keeps_for(row)
    row.accepted = 1
    row.execution_due = row.execution_due or NOW + leasing.may_take(row)
    local earlier, who, offered, leased = tries.last(row)
    if leased == '-' then
        local since = math.max(tonumber(offered), NOW - (ago or 0))
        tries.set(row, earlier, who, offered, int(since), '-')
    end
end

-- Whether a result under this lease was applied: the task keeps the last one's lease and worker.
function leasing.applied(row, lease_id)
    return row.applied ~= nil and string.sub(row.applied, 1, #lease_id + 1) == lease_id .. ' '
end

-- Move a lease to its worker's current session, also one that ran out but went to nobody else; not one that was given
-- back.
function leasing.resume(row, holder)
    if leasing.applied(row, row.lease) or row.place == 'over' or row.place == 'back_off' then return false end
    if not row.session or row.worker ~= holder.ID then return false end
    if row.place == 'queued' then
        dequeued(row)
        if row.branch then fans.queued(row, -1) end
        local earlier, who, offered, leased = tries.last(row)
        tries.set(row, earlier, who, offered, leased, '-')
        costs.resumed(row)
        -- Its worker may have stopped since it ran out, and says so only now.
        row.reason = 'stale_task'
    end
    row.session = holder.session
    if not held.has(holder, row.lease) then held.take(holder, row.lease, row.ID) end
    leasing.hold(row)
    return true
end

-- Why a lease is not, or no longer, its holder's.
function leasing.why_not(task_id, row, lease_id)
    if not row then return job(job_of(task_id)) and 'stale_task' or 'job_not_found' end
    if leasing.applied(row, lease_id) or row.place == 'over' or row.place == 'back_off' then
        return row.reason or 'stale_task'
    end
    if row.lease ~= lease_id then return 'stale_task' end
    -- Of one that has ended a repeat hears the same.
    return row.session and 'worker_mismatch' or row.reason or 'stale_task'
end

-- A session has ended. Its leases live on until their deadline; what it was to stop is over with it.
function leasing.end_session(holder)
    holder.live = nil
    local found = held.all(holder)
    for i = 1, #found, 2 do
        local row = task(found[i + 1])
        if not row or row.lease ~= found[i] or not placed(row) then
            holder.HELD[found[i]] = found[i + 1]
            held.lose(holder, found[i])
        end
    end
    if held.count(holder) == 0 then holder.GONE = true end
end
