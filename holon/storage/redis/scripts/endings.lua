-- How tasks end, and how their jobs learn of it. An outcome is a table: its bytes, and what is read of them here.

local endings = {}

-- An outcome that is written here, in the place of a worker's. One that is `retryable` says so in one more line.
function endings.failed(code, message, worker_id, retryable)
    return {
        bytes = table.concat({'!', code, message, worker_id or '', retryable and '1' or nil}, '\n'),
        form = {status = 'failure', code = code}, message = message, worker = worker_id or '', size = #message,
    }
end

-- How a task ends whose job's budget does not cover so much. It is retryable where lost attempts used that up.
local function over_budget(row, message, amount, worker_id, share_lost)
    local kept = costs.eaten(job(row.job), amount)
    if kept then message = message .. '; ' .. int(kept) .. ' of the budget is kept for attempts that were lost' end
    return endings.failed('LIMIT_EXCEEDED', message, worker_id, kept or share_lost)
end

-- How long it took, and when it was, are texts, if they are given. Of an outcome that is `untried` nothing is said of the
-- earlier attempts of its task: it has ended before it began another.
function endings.line(row, owner, outcome, took, time)
    local tried = not outcome.untried
    if not took and tried and row.attempts then
        local _, _, offered, leased = tries.last(row)
        took = int(NOW - tonumber(leased == '-' and offered or leased))
    end
    time, took = time or NOW_TEXT, took or ''
    local form, id, need, attempts, message = outcome.form, row.ID, row.need, row.attempts or '', outcome.message or ''
    local worker_id = outcome.worker ~= '' and outcome.worker or tried and row.worker or ''
    local attempt, generation, status = int(tried and row.attempt or 0), int(row.generation), form.status
    local code, cost = form.code and '1' .. form.code or '', outcome.cost and int(outcome.cost) or ''
    -- A list of texts, and of nothing else: these come back as they were.
    history.tell(owner, 1, 'F\156'
        .. (BEGINS[#time] or begins(#time)) .. time .. (BEGINS[#took] or begins(#took)) .. took
        .. (BEGINS[#worker_id] or begins(#worker_id)) .. worker_id
        .. (BEGINS[#attempt] or begins(#attempt)) .. attempt .. (BEGINS[#id] or begins(#id)) .. id
        .. (BEGINS[#status] or begins(#status)) .. status .. (BEGINS[#need] or begins(#need)) .. need
        .. (BEGINS[#generation] or begins(#generation)) .. generation
        .. (BEGINS[#attempts] or begins(#attempts)) .. attempts .. (BEGINS[#code] or begins(#code)) .. code
        .. (BEGINS[#message] or begins(#message)) .. message .. (BEGINS[#cost] or begins(#cost)) .. cost)
end

function endings.end_task(row, outcome)
    if row.place == 'queued' then dequeued(row) end
    if row.branch and (row.place == 'queued' or row.place == 'back_off') then fans.queued(row, -1) end
    row.place = 'over'
    if row.reserved then costs.free(row) end
    keep(P .. 'x:' .. row.ID, outcome.bytes)
end

function endings.end_open(row, reason)
    local fan, count = fan_of(row), row.open_count or 0
    if fan then fans.clear(row, fan) end
    row.open_count = row.open_count and 0
    if fan and fan.step == row.open_step and fan.pending == 0 then return end
    for from = 0, count - 1, 1000 do
        local prefix, ids, keys = row.ID .. '-' .. int(row.open_step) .. '-', {}, {}
        for index = from, math.min(from + 999, count - 1) do
            local id = prefix .. int(index)
            ids[#ids + 1] = id
            if tasks[id] == nil then keys[#keys + 1] = P .. 't:' .. id end
        end
        local found = keys[1] and read('MGET', unpack(keys)) or NONE
        for i, text in ipairs(found) do
            -- Nearly all branches of a large fan-out may be over, and the server does nothing else meanwhile: of their rows
            -- no more is unpacked than tells that, which is what comes behind what the task was made with.
            local made = text and unpacked(text, 8, 3)
            if made and string.sub(text, made + 1, made + 5) ~= '\164over' then known[keys[i]] = text end
        end
        for _, id in ipairs(ids) do
            local one = tasks[id]
            if one == nil and known[P .. 't:' .. id] then one = task(id) end
            if one and one.place ~= 'over' then
                if one.place == 'queued' then dequeued(one) end
                stop_holder(one, 'cancelled')
                if placed(one) then costs.leave(one) end
                one.reserved = nil
                one.place = 'over'
                one.reason = reason
                write('DEL', P .. 'x:' .. one.ID)
            end
        end
    end
    -- Those of branches that were not made yet are left.
    local money = money_of(row)
    if money then money.reserved = 0 end
end

local function count_down(owner, row, outcome)
    local fan = fan_of(owner)
    if not fan or fan.step ~= row.step or fan.over == 1 then return end
    fan.pending = fan.pending - 1
    fans.progressed(owner, fan, 100 - (row.progress or 0))
    fan.bytes = fan.bytes + tonumber(outcome.size)
    local succeeded = outcome.form.succeeded
    if not succeeded then fan.failed = fan.failed + 1 end
    local too_large = fan.bytes > settings.max_fan_in
    local fail_fast = not succeeded and fan.fail_fast == 1
    if fan.pending > 0 and not too_large and not fail_fast then return end
    if fan.pending > 0 then endings.end_open(owner, 'job_already_terminated') end
    fan.over = 1
    inbox.deliver(owner, table.concat({
        'B', int(fan.step), int(fan.failed), fail_fast and '1' or '0', too_large and '1' or '0'}, ' '))
end

-- How far a job is once its single task is over: what ended well is done, as a branch is. The last that the task itself
-- told need not be stored: its end may have been quicker.
function endings.went(owner, outcome)
    if outcome.form.code then
        owner.progress = nil
    elseif owner.progress and outcome.form.succeeded then
        owner.progress = 100
    end
end

-- End a task with an outcome, and tell its job: at once, or with the last branch.
function endings.task_over(row, outcome, took)
    local owner = job(row.job)
    endings.end_task(row, outcome)
    if not owner or over(owner) then return end
    owner.updated = NOW
    endings.line(row, owner, outcome, took)
    if row.branch then
        count_down(owner, row, outcome)
        return
    end
    endings.went(owner, outcome)
    inbox.deliver(owner, table.concat({'T', int(row.step), int(row.generation), row.ID, outcome.bytes}, ' '))
end

-- End a task whose result timeout is over, or its dispatch timeout; whether one is.
function endings.out_of_time(row)
    local code, message
    local undispatched = undispatched_until(row)
    if row.result_due and row.result_due <= NOW then
        code, message = 'RESULT_TIMEOUT', "no result came before the task's result timeout"
    elseif undispatched and undispatched <= NOW then
        code = 'DISPATCH_TIMEOUT'
        local why = 'no worker took it'
        if row.place == 'offered' then why = "worker '" .. row.worker .. "' did not answer its offer in time" end
        message = 'Task timed out while waiting in queue (dispatch timeout): ' .. why
    else
        return false
    end
    stop_holder(row, 'deadline')
    local has_it = placed(row)
    if has_it then
        costs.leave(row)
        tries.close(row)
    end
    -- One that waits, for a worker, its answer or to be tried again, has no attempt that this ends.
    local tried = has_it and code ~= 'DISPATCH_TIMEOUT'
    row.reason = 'deadline_exceeded'
    local outcome = endings.failed(code, message, has_it and row.worker)
    outcome.untried = not tried
    endings.task_over(row, outcome)
    return true
end

-- How a task ends whose job's budget does not cover another attempt, and how the last one ended, if that is known.
local function not_covered(row, last)
    local message = "cost: what is left of the job's budget does not cover another attempt, which may cost "
        .. int(row.reserves)
    local code = last and last.form.code
    if code then message = message .. '; the last one ended with ' .. code end
    local outcome = over_budget(row, message, row.reserves, row.worker, last and last.form.share_lost)
    outcome.cost = last and last.cost
    return outcome
end

-- Of each task a history has a line for this many attempts that ended without an outcome.
local MOST_TOLD = 1000

-- Tell of an attempt that ended without an outcome; not of a node's own, which another node goes on with.
local function tell_unfinished(row, reason, code)
    local owner = job(row.job)
    if not owner or over(owner) or row.attempt > MOST_TOLD or costs.is_nodes_own(row.worker) then return end
    local _, _, offered, leased = tries.last(row)
    owner.updated = NOW
    history.tell(owner, 1, 'L' .. cmsgpack.pack({NOW_TEXT, int(NOW - tonumber(leased == '-' and offered or leased)),
        row.worker, int(row.attempt), row.ID, row.need, int(row.generation), reason, code or ''}))
end

-- A task's attempt ended without an outcome: queue the task again. It is over instead where its job's budget does not cover
-- another attempt. The job's history tells the reason and the code; without a reason, that is told otherwise. `cost` is what
-- the attempt was charged, if that is known.
function endings.run_again(row, reason, avoid_until, how, code, cost)
    if not costs.again(row) then
        tries.close(row)
        local outcome = not_covered(row)
        outcome.cost = cost
        endings.task_over(row, outcome)
        return
    end
    if reason then tell_unfinished(row, reason, code) end
    requeue(row, avoid_until, how)
end

-- The worker of a task's lease has ended it without an outcome: run it again, as `run_again` does. With its worker's final
-- word the lease is over: it is no session's, and no later one goes on with it.
function endings.given_back(row, reason, avoid_until, cost, how, code)
    row.session = nil
    endings.run_again(row, reason, avoid_until, how, code, cost)
end

-- Attempts of workers that were lost or timed out: worker, session, need, code, worker...
local losses = NONE
function endings.note_loss(row, code)
    if costs.is_nodes_own(row.worker) then return end
    if losses == NONE then losses = {} end
    local n = #losses
    losses[n + 1], losses[n + 2], losses[n + 3], losses[n + 4] = row.worker, row.session, row.need, code
end

-- End a task that was taken from its queue, as its job's budget does not cover what its worker declares.
function endings.too_dear(row, price)
    -- It does not wait any more, and nobody has it.
    row.place, row.session = 'offered', nil
    if row.branch then fans.queued(row, -1) end
    local message = "cost: what is left of the job's budget does not cover the " .. int(price)
        .. ' that the worker with room for it declares; give the job, or the task above it, more'
    local outcome = over_budget(row, message, price)
    outcome.untried = true
    endings.task_over(row, outcome)
end

-- The session of a task's lease ended without an outcome: run it again, or give it up. `begun` says that its worker may have
-- begun the task, though it did not say so.
function endings.lost(row, reason, begun)
    if begun or row.place == 'leased' then endings.note_loss(row, 'WORKER_LOST') end
    held.give_up(row.worker, row.lease)
    costs.lose(row)
    -- What a node does by itself ends no node, however often one goes while that lasts.
    row.losses = (row.losses or 0) + (costs.is_nodes_own(row.worker) and 0 or 1)
    if row.losses < settings.max_losses then
        endings.run_again(row, reason)
        return
    end
    tries.close(row)
    local message = int(row.losses) .. ' sessions ended while they held the task; it may be what ends them'
    endings.task_over(row, endings.failed('WORKER_LOST', message, row.worker))
end

-- Apply the outcome of a task's current attempt: it runs again after a while, or is over.
function endings.apply(row, outcome, retry_after, took)
    tries.close(row)
    if retry_after and not costs.again(row) then outcome, retry_after = not_covered(row, outcome), nil end
    if not retry_after then
        endings.task_over(row, outcome, took)
        return
    end
    local owner = job(row.job)
    if owner then
        owner.updated = NOW
        endings.line(row, owner, outcome, took)
    end
    tries.unsay(row)
    if row.place == 'queued' then dequeued(row) elseif row.branch then fans.queued(row, 1) end
    row.place = 'back_off'
    -- Whoever ends an attempt had begun it, whether that was said or not.
    row.accepted = 1
    row.generation = row.generation + 1
    if outcome.form.share_lost then
        -- Retries are counted by the generation.
        local policy = words(row.retry)
        row.retry, row.HEAD = int(tonumber(policy[1]) + 1) .. ' ' .. policy[2] .. ' ' .. policy[3], nil
    end
    row.execution_due = nil
    row['until'] = NOW + retry_after
    avoid(row, row['until'] + settings.lease, '1')
end
