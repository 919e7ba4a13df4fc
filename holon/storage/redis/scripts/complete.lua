-- Apply results of one worker, each at most once and only under its task's current lease.

-- Whose results they are, and the leases whose steps were written with them.
local worker_id, landed

local function read_outcome()
    at = at + 9
    return {
        status = args[at - 8], error = args[at - 7] ~= '', code = args[at - 6], message = args[at - 5],
        worker = args[at - 4], size = tonumber(args[at - 3]), succeeded = args[at - 2] ~= '', bytes = args[at - 1],
        cost = tonumber(args[at]),
    }
end

-- Whether a late result is to be told: of a worker that had the task, once for each time. A history is its client's:
-- nobody may fill it with what never was, or say the same again and again.
local function may_tell(row)
    local had, told, others = {}, 0, ''
    for who in gmatch(row.attempts or '', '([^ ;]+) %S+ %S+ [^ ;]+;') do had[who] = (had[who] or 0) + 1 end
    for who, times in gmatch(row.late or '', '(%S+) (%d+);') do
        if who == worker_id then
            told = tonumber(times)
        elseif had[who] then
            others = others .. who .. ' ' .. times .. ';'
        end
    end
    if told >= (had[worker_id] or 0) then return false end
    row.late = others .. worker_id .. ' ' .. int(told + 1) .. ';'
    return true
end

local function superseded(row, lease_id, outcome)
    local reason = why_not(row.ID, row, lease_id)
    local owner = job(row.job)
    if owner and may_tell(row) then
        tell(owner, 1, 'S' .. cmsgpack.pack({int(NOW), worker_id, row.ID, reason, outcome.status,
            outcome.cost and int(outcome.cost) or ''}))
    end
    reported(owner, lease_id, outcome.cost)
    return reason
end

-- Whether a job still is as it was when a step was decided upon the outcome of its only task.
local function as_decided_upon(owner, row, step)
    if row.branch or row.step ~= owner.open_step or row.step ~= owner.step - 1 then return false end
    if over(owner) or RUNS[owner.status] or owner.claim or owner.inbox then return false end
    return step.n == owner.step + 1 and (not step.reserves or affords(owner, step.reserves))
end

-- A task's worker has stopped since its lease ran out, whether or not that was taken up again since. Nobody cancelled the
-- task, so it is for another.
local function stopped(row, outcome)
    if row.place == 'queued' then
        row.session = nil
    else
        given_back(row, NOW + LEASE, settle(row, outcome.cost))
    end
end

local function verdict(task_id, lease_id, retry_after, took, outcome, step)
    local row = task(task_id)
    -- One that was given back is over, while nobody else has the task too.
    local ours = row and row.lease == lease_id and row.worker == worker_id and row.session
    give_up(worker_id, lease_id)
    if not row then return why_not(task_id, nil, lease_id) end
    local result = lease_id .. ' ' .. worker_id
    if row.applied == result then return '' end
    ours = ours and row.place ~= 'over' and row.place ~= 'back_off'
    local ran_out = row.place == 'queued' or row.reason
    if ours and ran_out and outcome.status == 'cancelled' then
        stopped(row, outcome)
        ours = false
    end
    if not ours then return superseded(row, lease_id, outcome) end
    row.applied = result
    outcome.cost = settle(row, outcome.cost)
    local owner = step and not retry_after and job(row.job)
    if not owner or not as_decided_upon(owner, row, step) then
        apply(row, outcome, retry_after, took)
        return ''
    end
    close_attempt(row)
    -- The step was decided upon the outcome before this call, and its lines come after this one.
    finished_line(row, owner, outcome, took, math.min(tonumber(step.time) or NOW, NOW))
    end_task(row, outcome)
    went(owner, outcome)
    land(owner, step)
    if RUNS[owner.status] then mark_ready(owner) end
    landed[#landed + 1] = lease_id
    return ''
end

local function operation()
    worker_id, landed = arg(), {}
    local results, keys, leases, verdicts = {}, {}, {}, {}
    for i = 1, num() do
        local one = {task = arg(), lease = arg(), retry_after = num(), took = num(), outcome = nil, step = nil}
        one.outcome = read_outcome()
        one.step = flag() and read_step()
        results[i], leases[i] = one, one.lease
        keys[2 * i - 1], keys[2 * i] = P .. 't:' .. one.task, P .. 'j:' .. job_of(one.task)
    end
    fetch(keys)
    look_up_held(worker_id, leases)
    for i, one in ipairs(results) do
        verdicts[i] = verdict(one.task, one.lease, one.retry_after, one.took, one.outcome, one.step)
    end
    local want = num()
    read_seats()
    local leased = lease()
    return done({verdicts, landed, leased, told_claims(claim(want))})
end
