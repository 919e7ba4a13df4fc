-- Rows: hashes that are read once, changed in memory, and written at the end where they differ.

-- Of each, the texts and then the numbers that are always read. The others are when they are asked for (`large`): they
-- are long, or seldom needed; an operation sets whatever it likes of them, and takes none away.
local JOB = {
    'status', 'message', 'inbox', 'cancels', 'claim', 'entry', 'ready', 'fan',
    'n', 'finished', 'step', 'progress', 'told', 'arrived', 'until', 'deliveries', 'wake', 'spawn', 'open_step',
    'open_count',
    'owner', 'blueprint', 'created', 'updated', 'commit', 'reply', 'wake_step', 'made', 'request', 'digest', 'state',
    TEXTS = 8, SMALL = 20,
}
local TASK = {
    'key', 'need', 'terms', 'place', 'accepted', 'worker', 'session', 'lease', 'applied', 'avoid', 'attempts', 'branch',
    'n', 'until', 'dispatch_due', 'result_due', 'execution_due', 'attempt', 'progress', 'generation',
    'losses', 'reason', 'trace', 'late', 'params', 'outcome', TEXTS = 12, SMALL = 20,
}
-- `keeps` is how long its leases last, and `takes` how long its tasks may execute that name no time, if it says so.
local WORKER = {'session', 'live', 'node', 'credits', 'keeps', 'takes', 'opened', TEXTS = 3, SMALL = 6}
-- What `live` is while the node of a session is away; else it is 1, or nothing once the session has ended.
local AWAY_SESSION = 'away'

-- The statuses of jobs that are ready unless something else holds them.
local RUNS = {pending = true, running = true}

-- What was read, in the order of the names; false when there is no such row.
local function fetched(names, key)
    local found = read('HMGET', key, unpack(names, 1, names.SMALL))
    if not found[1] then return false end
    for i = names.TEXTS + 1, names.SMALL do
        local value = found[i]
        if value then found[i] = tonumber(value) end
    end
    return found
end

-- The tables below name all that they may come to hold: one that grows is made anew each time that it does.
local function job_row(id, key, was)
    return {
        ID = id, KEY = key, NAMES = JOB, WAS = was, NEW = nil, DUE = nil, SHOWN = nil, LINES = nil, FAN = nil,
        status = was[1], message = was[2] or nil, inbox = was[3] or nil, cancels = was[4] or nil,
        claim = was[5] or nil, entry = was[6] or nil, ready = was[7] or nil, fan = was[8] or nil, n = was[9],
        finished = was[10] or nil, step = was[11], progress = was[12] or nil, told = was[13] or nil,
        arrived = was[14] or nil, ['until'] = was[15] or nil, deliveries = was[16] or nil, wake = was[17] or nil,
        spawn = was[18] or nil, open_step = was[19] or nil, open_count = was[20] or nil, owner = nil, blueprint = nil,
        created = nil, updated = nil, commit = nil, reply = nil, made = nil, state = nil,
    }
end

local function task_row(id, key, was, owner_id, step)
    was[TASK.SMALL] = was[TASK.SMALL] or 1
    return {
        ID = id, KEY = key, NAMES = TASK, WAS = was, NEW = nil, DUE = nil, TERMS = nil, PLACE = nil, job = owner_id,
        step = step, key = was[1], need = was[2], terms = was[3], place = was[4], accepted = was[5] or nil,
        worker = was[6] or nil, session = was[7] or nil, lease = was[8] or nil, applied = was[9] or nil,
        avoid = was[10] or nil, attempts = was[11] or nil, branch = was[12] or nil, n = was[13],
        ['until'] = was[14] or nil, dispatch_due = was[15] or nil, result_due = was[16] or nil,
        execution_due = was[17] or nil, attempt = was[18] or nil, progress = was[19] or nil, generation = was[20],
        trace = nil, params = nil, outcome = nil,
    }
end

local function worker_row(id, key, was)
    return {
        ID = id, KEY = key, NAMES = WORKER, WAS = was, HELD = {}, CHANGES = {}, DELTA = 0, BASE = nil, GONE = nil,
        session = was[1], live = was[2] or nil, node = was[3], credits = was[4], keeps = was[5] or nil,
        takes = was[6] or nil,
    }
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

local jobs, tasks, workers = {}, {}, {}

local function job(id)
    local row = jobs[id]
    if row == nil then
        local key = P .. 'j:' .. id
        local was = fetched(JOB, key)
        row = was and job_row(id, key, was)
        if row then row.DUE, row.SHOWN = job_time(row), not row.finished and shown(row.status, row.deliveries) end
        jobs[id] = row
    end
    return row
end

local function new_job(id)
    local row = job_row(id, P .. 'j:' .. id, {})
    row.NEW, jobs[id] = true, row
    return row
end

-- A task's id says which job's it is, and of which step.
local function job_of(task_id) return match(task_id, '^(.*)%-[^-]*%-[^-]*$') or task_id end

local function task(id)
    local row = tasks[id]
    if row == nil then
        local key = P .. 't:' .. id
        local was = fetched(TASK, key)
        row = was and task_row(id, key, was, job_of(id), tonumber(match(id, '%-(%d+)%-%d+$')))
        if row then row.DUE = task_time(row) end
        tasks[id] = row
    end
    return row
end

local function new_task(id, owner_id, step)
    local row = task_row(id, P .. 't:' .. id, {}, owner_id, step)
    row.NEW, tasks[id] = true, row
    return row
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
        local was = fetched(WORKER, key)
        row = was and worker_row(id, key, was)
        workers[id] = row
    end
    return row and not row.GONE and row
end

local function new_worker(id)
    local row = worker_row(id, P .. 'w:' .. id, {})
    workers[id] = row
    return row
end

-- A field that is not read with its row: as it is now, or as it is stored; an empty text where there is none.
local function large(row, name)
    local value = row[name]
    if value == nil then
        if row.NEW then return '' end
        value = read('HGET', row.KEY, name) or ''
        row[name] = value
        for i = row.NAMES.SMALL + 1, #row.NAMES do
            if row.NAMES[i] == name then row.WAS[i] = value end
        end
    end
    return value
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
