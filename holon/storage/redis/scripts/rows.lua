-- Rows: hashes that are read once, changed in memory, and written at the end where they differ.

local JOB = {
    'n', 'owner', 'blueprint', 'status', 'created', 'updated', 'finished', 'step', 'commit', 'reply', 'progress',
    'message', 'told', 'inbox', 'cancels', 'arrived', 'claim', 'until', 'entry', 'ready', 'deliveries', 'wake',
    'wake_step', 'spawn', 'open_step', 'open_count', 'made', 'fan', 'request', 'digest', 'state',
}
local TASK = {
    'n', 'job', 'step', 'branch', 'key', 'need', 'priority', 'execution', 'dispatch_due', 'result_due',
    'execution_due', 'place', 'accepted', 'worker', 'session', 'lease', 'until', 'applied_lease', 'applied_worker',
    'generation', 'attempt', 'losses', 'avoid', 'attempts', 'reason', 'progress', 'retry', 'trace', 'late', 'params',
    'outcome',
}
local WORKER = {'session', 'live', 'credits', 'node'}
-- What `live` is while the node of a session is away; else it is 1, or nothing once the session has ended.
local AWAY_SESSION = 'away'
-- The last ones of jobs and tasks may be large; they are fetched when they are asked for.
local SMALL = {[JOB] = #JOB - 1, [TASK] = #TASK - 2, [WORKER] = #WORKER}

local NUMERIC = {}
for _, name in ipairs({
    'n', 'created', 'updated', 'finished', 'step', 'progress', 'told', 'arrived', 'until', 'deliveries', 'wake',
    'wake_step', 'spawn', 'open_step', 'open_count', 'priority', 'execution', 'dispatch_due', 'result_due',
    'execution_due', 'generation', 'attempt', 'losses', 'credits',
}) do NUMERIC[name] = true end

local DUE = {pending = true, running = true}

local rows = {}
local function row_of(names, key, fields)
    local was = {}
    local row = {KEY = key, NAMES = names, WAS = was}
    for i = 1, SMALL[names] do
        local value = fields[i]
        if value then
            local name = names[i]
            if NUMERIC[name] then value = tonumber(value) end
            row[name], was[name] = value, value
        end
    end
    rows[#rows + 1] = row
    return row
end

local function fetched(known, names, key)
    local row = known[key]
    if row == nil then
        local fields = read('HMGET', key, unpack(names, 1, SMALL[names]))
        row = fields[1] and row_of(names, key, fields) or false
        known[key] = row
    end
    return row
end

local jobs, tasks, workers = {}, {}, {}

local function job(id)
    local row = fetched(jobs, JOB, P .. 'j:' .. id)
    if row and not row.ID then row.ID = id end
    return row
end

local function new_job(id)
    local row = row_of(JOB, P .. 'j:' .. id, {})
    row.ID = id
    jobs[row.KEY] = row
    return row
end

local function task(id)
    local row = fetched(tasks, TASK, P .. 't:' .. id)
    if row and not row.ID then row.ID = id end
    return row
end

local function new_task(id)
    local row = row_of(TASK, P .. 't:' .. id, {})
    row.ID = id
    tasks[row.KEY] = row
    return row
end

local function worker(id)
    local row = fetched(workers, WORKER, P .. 'w:' .. id)
    if row and not row.ID then row.ID, row.HELD, row.CHANGES = id, {}, {} end
    if row and row.GONE then return false end
    return row
end

local function new_worker(id)
    local row = row_of(WORKER, P .. 'w:' .. id, {})
    row.ID, row.HELD, row.CHANGES = id, {}, {}
    workers[row.KEY] = row
    return row
end

-- A large field of a row: as it is now, or as it is stored.
local function large(row, name)
    local value = row[name]
    if value == nil then
        value = read('HGET', row.KEY, name) or ''
        row[name], row.WAS[name] = value, value
    end
    return value
end

local function over(row) return row.finished ~= nil end

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
    for who, till, soft in string.gmatch(row.avoid or '', '(%S+) (%d+) (%d);') do
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
