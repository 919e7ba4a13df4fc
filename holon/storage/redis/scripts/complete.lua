-- Apply results of one worker, each at most once and only under its task's current lease.

-- Whose results they are, and the leases whose steps were written with them.
local worker_id, landed

local result_form = forms(function(status, code, who, succeeded, to_retry, has_cost, decided, share_lost)
    return {
        status = status, code = code, worker = who, succeeded = succeeded, to_retry = to_retry, costs = has_cost,
        decided = decided, share_lost = share_lost,
    }
end)

local function read_result()
    local form = result_form(args[at + 3])
    local outcome = {
        form = form, bytes = args[at + 4], size = args[at + 5], worker = form.worker or worker_id, message = nil,
        cost = nil,
    }
    local one = {
        task = args[at + 1], task_key = nil, job_key = nil, lease = args[at + 2], took = args[at + 6],
        outcome = outcome, retry_after = nil, time = nil, decided = nil, commit = nil, state = nil, history = nil,
        FROM = nil,
    }
    at = at + 6
    if form.code then outcome.message = arg() end
    if form.to_retry then one.retry_after = num() end
    if form.costs then outcome.cost = num() end
    if form.decided then
        one.time = arg()
        steps.read(one)
    end
    return one
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
    local reason = leasing.why_not(row.ID, row, lease_id)
    local owner = job(row.job)
    local charged = costs.reported(owner, lease_id, outcome.cost)
    -- What is charged is told in any case: who knows a job by its history alone knows what it cost.
    if owner and (may_tell(row) or (charged or 0) > 0) then
        local cost = charged or outcome.cost
        history.tell(owner, 1, 'S' .. cmsgpack.pack({int(NOW), worker_id, row.ID, reason, outcome.form.status,
            cost and int(cost) or ''}))
    end
    return reason
end

-- Whether a job still is as it was when a step was decided upon the outcome of its only task.
local function as_decided_upon(owner, row, form)
    if row.branch or row.step ~= owner.open_step or row.step ~= owner.step - 1 then return false end
    if over(owner) or RUNS[owner.status] or owner.claim or owner.inbox then return false end
    return form.n == owner.step + 1 and (not form.reserves or costs.affords(owner, form.reserves))
end

-- A task's worker has stopped since its lease ran out, whether or not that was taken up again since. Nobody cancelled the
-- task, so it is for another.
local function stopped(row, outcome)
    if row.place == 'queued' then
        row.session = nil
    else
        -- Its result is told as one that came too late.
        endings.given_back(row, nil, NOW + settings.lease, costs.settle(row, outcome.cost))
    end
end

local function verdict(one)
    local task_id, lease_id, outcome, retry_after = one.task, one.lease, one.outcome, one.retry_after
    local row = task(task_id, one.task_key)
    -- One that was given back is over, while nobody else has the task too.
    local ours = row and row.lease == lease_id and row.worker == worker_id and row.session
    held.give_up(worker_id, lease_id)
    if not row then return leasing.why_not(task_id, nil, lease_id) end
    local result = lease_id .. ' ' .. worker_id
    if row.applied == result then return '' end
    ours = ours and row.place ~= 'over' and row.place ~= 'back_off'
    local ran_out = row.place == 'queued' or row.reason
    if ours and ran_out and outcome.form.status == 'cancelled' then
        stopped(row, outcome)
        ours = false
    end
    if not ours then return superseded(row, lease_id, outcome) end
    row.applied = result
    if row.reserves or outcome.cost then outcome.cost = costs.settle(row, outcome.cost) end
    local took = one.took ~= '' and one.took or nil
    local owner = one.decided and not retry_after and job(row.job, one.job_key)
    if not owner or not as_decided_upon(owner, row, one.decided) then
        endings.apply(row, outcome, retry_after, took)
        return ''
    end
    tries.close(row)
    -- The step was decided upon the outcome before this call, and its lines come after this one.
    local time = tonumber(one.time)
    endings.line(row, owner, outcome, took, time and time < NOW and one.time or NOW_TEXT)
    endings.end_task(row, outcome)
    endings.went(owner, outcome)
    -- It was the only one.
    owner.open_count = 0
    steps.land(owner, one)
    if RUNS[owner.status] then mark_ready(owner) end
    landed[#landed + 1] = lease_id
    return ''
end

local function operation()
    worker_id, landed = arg(), {}
    local results, keys, leases, verdicts = {}, {}, {}, {}
    for i = 1, num() do
        local one = read_result()
        results[i], leases[i] = one, one.lease
        one.task_key, one.job_key = P .. 't:' .. one.task, P .. 'j:' .. job_of(one.task)
        keys[2 * i - 1], keys[2 * i] = one.task_key, one.job_key
    end
    fetch(keys)
    held.look_up(worker_id, leases)
    for i, one in ipairs(results) do verdicts[i] = verdict(one) end
    local want = num()
    read_seats()
    local leased = lease()
    return done({verdicts, landed, leased, told_claims(claim(want))})
end
