-- Rows: lists of values, packed, with false for what there is not. They are read once, several at a time where it is known
-- which (`fetch`), changed in memory, and written together at the end where they differ. What is long and only handed on is
-- beside them, as it was given: a job's state, what a task carries, and history.

-- What `live` is of a worker while the node of its session is away; else it is 1, or nothing once the session has ended.
local AWAY_SESSION = 'away'

-- The statuses of jobs that are ready unless something else holds them.
local RUNS = {pending = true, running = true}

-- How a packed list begins, is as long as its length is: three bytes, or one where it has less than 16 values.
-- The tables below name what they nearly always hold, so that there is room for it, and little more: one of up to 32 fields
-- costs half of one with more. What is seldom there is added.
local function job_row(id, key, text)
    local _, status, inbox, cancels, claim, entry, ready, fan, n, finished, step, progress, told, arrived, till,
        deliveries, wake, wake_step, spawn, open_step, open_count, created, updated, commit, made, reply, message, owner,
        blueprint, request, digest, cost, money
    if text then
        _, status, inbox, cancels, claim, entry, ready, fan, n, finished, step, progress, told, arrived, till,
            deliveries, wake, wake_step, spawn, open_step, open_count, created, updated, commit, made, reply, message,
            owner, blueprint, request, digest, cost, money = unpacked(text, 32, 3)
    end
    local row = {
        ID = id, KEY = key, TEXT = text, N = n, DUE = nil, SHOWN = nil, STATE = nil, status = status,
        inbox = inbox or nil, claim = claim or nil, entry = entry or nil, ready = ready or nil,
        finished = finished or nil, step = step, told = told or nil, arrived = arrived or nil, ['until'] = till or nil,
        deliveries = deliveries or nil, open_step = open_step or nil, open_count = open_count or nil, created = created,
        updated = updated, commit = commit or nil, made = made or nil, owner = owner, blueprint = blueprint,
    }
    if cancels then row.cancels = cancels end
    if fan then row.fan = fan end
    if progress then row.progress = progress end
    if wake then row.wake = wake end
    if wake_step then row.wake_step = wake_step end
    if spawn then row.spawn = spawn end
    if reply then row.reply = reply end
    if message then row.message = message end
    if request then row.request, row.digest = request, digest end
    if cost then row.cost = cost end
    if money then row.money = money end
    return row
end

local function job_text(row)
    return pack({
        row.status, row.inbox or false, row.cancels or false, row.claim or false, row.entry or false, row.ready or false,
        row.fan or false, row.N, row.finished or false, row.step, row.progress or false, row.told or false,
        row.arrived or false, row['until'] or false, row.deliveries or false, row.wake or false, row.wake_step or false,
        row.spawn or false, row.open_step or false, row.open_count or false, row.created, row.updated,
        row.commit or false, row.made or false, row.reply or false, row.message or false, row.owner, row.blueprint,
        row.request or false, row.digest or false, row.cost or false, row.money or false,
    })
end

-- What a task was made with: priority, execution timeout, the policy of its retries, and, if it says so, how long it stays
-- its worker's without a word, and what an attempt reserves.
local function terms_of(text)
    local priority, execution, retry, lost_after, reserves =
        match(text, '^(%S+) (%S+) (%S+ %S+ %S+) ?(%d*) ?(%d*)$')
    lost_after = tonumber(lost_after)
    return priority, tonumber(execution), retry, lost_after ~= 0 and lost_after or nil, tonumber(reserves)
end

-- The id is there for the sake of Lua, which tells long texts apart by some of their letters.
local function task_row(id, key, text, owner_id, step)
    local _, n, match_key, need, priority, execution, retry, lost_after, place, accepted, who, session, lease, applied,
        avoid, attempts, branch, till, dispatch_due, result_due, execution_due, attempt, progress, generation, losses,
        reason, late, reserves, reserved, at_once, written_off
    if text then
        _, _, n, match_key, need, priority, execution, retry, lost_after, place, accepted, who, session, lease, applied,
            avoid, attempts, branch, till, dispatch_due, result_due, execution_due, attempt, progress, generation, losses,
            reason, late, reserves, reserved, at_once, written_off = unpacked(text, 31, 3)
    end
    local row = {
        ID = id, KEY = key, TEXT = text, N = n, DUE = nil, PLACE = nil, job = owner_id, step = step,
        key = match_key, need = need, priority = priority, execution = execution, retry = retry, place = place,
        accepted = accepted or nil, worker = who or nil, session = session or nil, lease = lease or nil,
        applied = applied or nil, attempts = attempts or nil, ['until'] = till or nil,
        execution_due = execution_due or nil, attempt = attempt or nil, generation = generation or 1,
    }
    if lost_after then row.lost_after = lost_after end
    if avoid then row.avoid = avoid end
    if branch then row.branch = branch end
    if dispatch_due then row.dispatch_due = dispatch_due end
    if result_due then row.result_due = result_due end
    if progress then row.progress = progress end
    if losses then row.losses = losses end
    if reason then row.reason = reason end
    if late then row.late = late end
    if reserves then row.reserves = reserves end
    if reserved then row.reserved = reserved end
    if at_once then row.at_once = at_once end
    if written_off then row.written_off = written_off end
    return row
end

local function task_text(row)
    return pack({
        row.ID, row.N, row.key, row.need, row.priority, row.execution, row.retry, row.lost_after or false, row.place,
        row.accepted or false, row.worker or false, row.session or false, row.lease or false, row.applied or false,
        row.avoid or false, row.attempts or false, row.branch or false, row['until'] or false,
        row.dispatch_due or false, row.result_due or false, row.execution_due or false, row.attempt or false,
        row.progress or false, row.generation, row.losses or false, row.reason or false, row.late or false,
        row.reserves or false, row.reserved or false, row.at_once or false,
        row.written_off or false,
    })
end

-- `keeps` is how long its leases last, and `takes` how long its tasks may execute that name no time, if it says so.
local function worker_row(id, key, text)
    local _, session, live, node, credits, keeps, takes, opened
    if text then _, session, live, node, credits, keeps, takes, opened = unpacked(text, 7, 1) end
    return {
        ID = id, KEY = key, TEXT = text, WAS_LIVE = live or nil, WAS_NODE = node, HELD = {}, CHANGES = {}, DELTA = 0,
        BASE = nil, GONE = nil, session = session, live = live or nil, node = node, credits = credits,
        keeps = keeps or nil, takes = takes or nil, opened = opened or nil,
    }
end

local function worker_text(row)
    return pack({
        row.session, row.live or false, row.node, row.credits, row.keeps or false, row.takes or false,
        row.opened or false,
    })
end

local function over(row) return row.finished ~= nil end

-- When a row is to be looked at next: nil, when never.
local function sooner(due, other)
    if other and (not due or other < due) then return other end
    return due
end

local function job_time(row)
    if row.finished or not row.N then return nil end
    return sooner(sooner(row.claim and row['until'], row.wake), row.spawn)
end

local function avoided(row)
    local found = {}
    for who, till, soft in gmatch(row.avoid or '', '(%S+) (%d+) (%d);') do
        found[#found + 1] = {who, tonumber(till), soft == '1'}
    end
    return found
end

-- The dispatch timeout counts while no worker took the task, nor is being offered it: an offer has its own time.
local function unplaced(row) return not row.accepted and row.place ~= 'offered' end

local function task_time(row)
    if row.place == 'over' or not row.N then return nil end
    local due = row.result_due
    if unplaced(row) then due = sooner(due, row.dispatch_due) end
    if row.place == 'queued' then
        if row.avoid then
            for _, entry in ipairs(avoided(row)) do due = sooner(due, entry[2]) end
        end
        return due
    end
    due = sooner(due, row['until'])
    if row.place == 'back_off' then return due end
    return sooner(due, row.execution_due)
end

-- Whether somebody has a task in hand.
local function placed(row) return row.place == 'offered' or row.place == 'leased' end

local function shown(status, deliveries)
    return status == 'pending' and (deliveries or 0) > 0 and 'running' or status
end

-- What was read of keys by now; false where there is nothing.
local known = {}
local function fetch(keys)
    for from = 1, #keys, 4000 do
        local found = read('MGET', unpack(keys, from, math.min(from + 3999, #keys)))
        for i = 1, #found do known[keys[from + i - 1]] = found[i] end
    end
end

local function value_of(key)
    local value = known[key]
    if value == nil then
        value = read('GET', key)
        known[key] = value
    end
    return value
end

local jobs, tasks, workers = {}, {}, {}

-- A job; false when there is none.
local function job(id)
    local row = jobs[id]
    if row == nil then
        local key = P .. 'j:' .. id
        local text = value_of(key)
        row = text and job_row(id, key, text)
        if row then
            row.DUE = job_time(row)
            row.SHOWN = not row.finished and shown(row.status, row.deliveries)
        end
        jobs[id] = row
    end
    return row
end

local function new_row(row)
    row.N = format(PLACE, number())
    return row
end

local function new_job(id)
    local row = new_row(job_row(id, P .. 'j:' .. id, nil))
    row.NEW, jobs[id] = true, row
    return row
end

-- A task's id says which job's it is, and of which step.
local function job_of(task_id) return match(task_id, '^(.*)%-[^-]*%-[^-]*$') or task_id end

local function task(id)
    local row = tasks[id]
    if row == nil then
        local key = P .. 't:' .. id
        local text = value_of(key)
        row = false
        if text then
            local owner_id, step = match(id, '^(.*)%-(%d+)%-%d+$')
            row = task_row(id, key, text, owner_id, tonumber(step))
            row.DUE = task_time(row)
        end
        tasks[id] = row
    end
    return row
end

local function new_task(id, owner_id, step)
    local row = new_row(task_row(id, P .. 't:' .. id, nil, owner_id, step))
    tasks[id] = row
    return row
end

-- A job's state is beside it.
local function set_state(row, state)
    row.STATE = state
    keep(P .. 's:' .. row.ID, state)
end

local function state_of(row)
    row.STATE = row.STATE or value_of(P .. 's:' .. row.ID)
    return row.STATE
end

-- What a task carries is beside it: params, and what its trace is, until it is over; then the outcome, if it has one.
local function carry_params(row, params, trace)
    local key, text = P .. 'x:' .. row.ID, int(#trace) .. '\n' .. trace .. params
    known[key] = text
    keep(key, text)
end

local function params_of(row)
    local size, rest = match(value_of(P .. 'x:' .. row.ID) or '0\n', '^(%d+)\n(.*)$')
    size = tonumber(size)
    return string.sub(rest, size + 1), string.sub(rest, 1, size)
end

local function worker(id)
    local row = workers[id]
    if row == nil then
        local key = P .. 'w:' .. id
        local text = value_of(key)
        row = text and worker_row(id, key, text)
        workers[id] = row
    end
    return row and not row.GONE and row
end

local function new_worker(id)
    local row = worker_row(id, P .. 'w:' .. id, nil)
    workers[id] = row
    return row
end

-- A fan-out is one field of its job: numbers, in this order.
local FAN = {
    'step', 'total', 'fail_fast', 'pending', 'spawned', 'queued', 'failed', 'progress', 'bytes', 'over', 'chunks',
    'first_chunks', 'dispatched',
}
local function fan_of(row)
    if row.FAN == nil then
        row.FAN = false
        if row.fan then
            local fan, values = {}, words(row.fan)
            for i, name in ipairs(FAN) do fan[name] = tonumber(values[i]) end
            -- Earlier releases did not note it: then it counts from the last time that is known.
            fan.dispatched = fan.dispatched or row.updated
            row.FAN = fan
        end
    end
    return row.FAN
end

local function fan_text(fan)
    local values = {}
    for i, name in ipairs(FAN) do values[i] = real(fan[name]) end
    return table.concat(values, ' ')
end

-- What a job with a budget has reserved: for open tasks, and for leases that are over. It is one field of its job.
local function money_of(row)
    if row.MONEY == nil then
        row.MONEY = false
        if row.money then
            local values = words(row.money)
            local money = {budget = tonumber(values[1]), reserved = tonumber(values[2]), unreported = {}}
            for i = 3, #values, 2 do money.unreported[values[i]] = tonumber(values[i + 1]) end
            row.MONEY = money
        end
    end
    return row.MONEY
end

-- What leases that are over may yet be charged.
local function unreported_of(row)
    local money, sum = money_of(row), 0
    if money then
        for _, kept in pairs(money.unreported) do sum = sum + kept end
    end
    return sum
end

-- A job as it is told.
local function told_job(row, need, again, of_branch)
    return {
        state_of(row), int(row.created), int(row.updated), row.finished and int(row.finished) or '',
        row.progress and real(row.progress) or '', row.message or '', int(row.deliveries or 0), int(row.told or 0),
        need, tonumber(row.N), row.ID, row.cost and int(row.cost) or '',
        int(unreported_of(row)), again or '', of_branch or '',
    }
end
