-- Rows: lists of values, packed, with false for what there is not. They are read once, several at a time where it is known
-- which (`fetch`), changed in memory, and written together at the end where they differ. What is long and only handed on is
-- beside them, as it was given: a job's state, what a task carries, and history.

-- What `live` is of a worker while the node of its session is away; else it is 1, or nothing once the session has ended.
local AWAY_SESSION = 'away'

-- The statuses of jobs that are ready unless something else holds them.
local RUNS = {pending = true, running = true}

-- The tables below name what they nearly always hold, so that there is room for it, and little more: one of up to 32 fields
-- costs half of one with more. What is seldom there is added.
local function job_row(id, key, text, was)
    local row = {
        ID = id, KEY = key, TEXT = text, N = was[8], DUE = nil, SHOWN = nil, STATE = nil, status = was[1],
        inbox = was[2] or nil, claim = was[4] or nil, entry = was[5] or nil, ready = was[6] or nil, n = tonumber(was[8]),
        finished = was[9] or nil, step = was[10], told = was[12] or nil, arrived = was[13] or nil,
        ['until'] = was[14] or nil, deliveries = was[15] or nil, open_step = was[19] or nil, open_count = was[20] or nil,
        created = was[21], updated = was[22], commit = was[23] or nil, made = was[24] or nil, owner = was[27],
        blueprint = was[28],
    }
    if was[3] then row.cancels = was[3] end
    if was[7] then row.fan = was[7] end
    if was[11] then row.progress = was[11] end
    if was[16] then row.wake = was[16] end
    if was[17] then row.wake_step = was[17] end
    if was[18] then row.spawn = was[18] end
    if was[25] then row.reply = was[25] end
    if was[26] then row.message = was[26] end
    if was[29] then row.request, row.digest = was[29], was[30] end
    return row
end

local function job_text(row)
    return pack({
        row.status, row.inbox or false, row.cancels or false, row.claim or false, row.entry or false, row.ready or false,
        row.fan or false, row.N, row.finished or false, row.step, row.progress or false, row.told or false,
        row.arrived or false, row['until'] or false, row.deliveries or false, row.wake or false, row.wake_step or false,
        row.spawn or false, row.open_step or false, row.open_count or false, row.created, row.updated,
        row.commit or false, row.made or false, row.reply or false, row.message or false, row.owner, row.blueprint, row.request or false, row.digest or false,
    })
end

-- The id is there for the sake of Lua, which tells long texts apart by some of their letters.
local function task_row(id, key, text, was, owner_id, step)
    local row = {
        ID = id, KEY = key, TEXT = text, N = was[2], DUE = nil, TERMS = nil, PLACE = nil, job = owner_id, step = step,
        n = tonumber(was[2]), key = was[3], need = was[4], terms = was[5], place = was[6], accepted = was[7] or nil,
        worker = was[8] or nil, session = was[9] or nil, lease = was[10] or nil, applied = was[11] or nil,
        attempts = was[13] or nil, ['until'] = was[15] or nil, execution_due = was[18] or nil, attempt = was[19] or nil,
        generation = was[21] or 1,
    }
    if was[12] then row.avoid = was[12] end
    if was[14] then row.branch = was[14] end
    if was[16] then row.dispatch_due = was[16] end
    if was[17] then row.result_due = was[17] end
    if was[20] then row.progress = was[20] end
    if was[22] then row.losses = was[22] end
    if was[23] then row.reason = was[23] end
    if was[24] then row.late = was[24] end
    return row
end

local function task_text(row)
    return pack({
        row.ID, row.N, row.key, row.need, row.terms, row.place, row.accepted or false, row.worker or false,
        row.session or false, row.lease or false, row.applied or false, row.avoid or false, row.attempts or false,
        row.branch or false, row['until'] or false, row.dispatch_due or false, row.result_due or false,
        row.execution_due or false, row.attempt or false, row.progress or false, row.generation, row.losses or false,
        row.reason or false, row.late or false,
    })
end

-- `keeps` is how long its leases last, and `takes` how long its tasks may execute that name no time, if it says so.
local function worker_row(id, key, text, was)
    return {
        ID = id, KEY = key, TEXT = text, WAS_LIVE = was[2] or nil, WAS_NODE = was[3], HELD = {}, CHANGES = {}, DELTA = 0,
        BASE = nil, GONE = nil, session = was[1], live = was[2] or nil, node = was[3], credits = was[4],
        keeps = was[5] or nil, takes = was[6] or nil, opened = was[7] or nil,
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
    if row.finished or not row.n then return nil end
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
    if row.place == 'over' or not row.n then return nil end
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
        row = text and job_row(id, key, text, unpacked(text))
        if row then
            row.DUE = job_time(row)
            row.SHOWN = not row.finished and shown(row.status, row.deliveries)
        end
        jobs[id] = row
    end
    return row
end

local function new_row(row)
    row.n = number()
    row.N = format(PLACE, row.n)
    return row
end

local function new_job(id)
    local row = new_row(job_row(id, P .. 'j:' .. id, nil, {}))
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
        row = text and task_row(id, key, text, unpacked(text), job_of(id), tonumber(match(id, '%-(%d+)%-%d+$')))
        if row then row.DUE = task_time(row) end
        tasks[id] = row
    end
    return row
end

local function new_task(id, owner_id, step)
    local row = new_row(task_row(id, P .. 't:' .. id, nil, {}, owner_id, step))
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

-- What a task was made with: priority, execution timeout, the policy of its retries, and, if it says so, how long it
-- stays its worker's without a word.
local function terms(row)
    if not row.TERMS then
        local priority, execution, retry, lost = match(row.terms, '^(%S+) (%S+) (%S+ %S+ %S+) ?(%d*)$')
        row.TERMS = {priority = priority, execution = tonumber(execution), retry = retry, lost = tonumber(lost) or 0}
    end
    return row.TERMS
end

local function worker(id)
    local row = workers[id]
    if row == nil then
        local key = P .. 'w:' .. id
        local text = value_of(key)
        row = text and worker_row(id, key, text, unpacked(text))
        workers[id] = row
    end
    return row and not row.GONE and row
end

local function new_worker(id)
    local row = worker_row(id, P .. 'w:' .. id, nil, {})
    workers[id] = row
    return row
end

-- A fan-out is one field of its job: numbers, in this order.
local FAN = {
    'step', 'total', 'fail_fast', 'pending', 'spawned', 'queued', 'failed', 'progress', 'bytes', 'over', 'chunks',
    'first_chunks',
}
local function fan_of(row)
    if row.FAN == nil then
        row.FAN = false
        if row.fan then
            local fan, values = {}, words(row.fan)
            for i, name in ipairs(FAN) do fan[name] = tonumber(values[i]) end
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

-- A job as it is told.
local function told_job(row, need)
    return {
        state_of(row), int(row.created), int(row.updated), row.finished and int(row.finished) or '',
        row.progress and real(row.progress) or '', row.message or '', int(row.deliveries or 0), int(row.told or 0),
        need, row.n, row.ID,
    }
end
