-- Rows: jobs, tasks and workers. They are read once, several at a time where it is known which (`fetch`), changed in memory,
-- and written together at the end where they differ.

-- What `live` is of a worker while the node of its session is away; else it is 1, or nothing once the session has ended.
local AWAY_SESSION = 'away'

-- The statuses of jobs that are ready unless something else holds them.
local RUNS = {pending = true, running = true}

local function over(row) return row.finished ~= nil end

-- When a row is to be looked at next: nil, when never.
local function sooner(due, other)
    if other and (not due or other < due) then return other end
    return due
end

local function job_time(row)
    if row.finished or not row.N then return nil end
    local due = row.claim and row['until']
    if row.wake or row.spawn then due = sooner(sooner(due, row.wake), row.spawn) end
    return due
end

-- Whom a task avoids, until when, and how: '0' in any case, '1' only while another could take it, '2' in any case, since
-- nobody below there can do it.
local function avoided(row)
    local found = {}
    for who, till, how in gmatch(row.avoid or '', '(%S+) (%d+) (%d);') do
        found[#found + 1] = {who, tonumber(till), how}
    end
    return found
end

-- What sessions say, as that they accept an offer, reaches the store within so many milliseconds.
local SAID_WITHIN = 1000

-- When the dispatch timeout ends a task, if nobody has begun it until then.
local function undispatched_until(row)
    if row.accepted or not row.dispatch_due then return nil end
    return row.dispatch_due + (row.place == 'offered' and SAID_WITHIN or 0)
end

local function task_time(row)
    if row.place == 'over' or not row.N then return nil end
    local due = sooner(row.result_due, undispatched_until(row))
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

-- A library remembers the rows that it has written last, for what is about them soon: where a row has the same text then,
-- it need not be unpacked. Long ones would take much memory. Beyond so many all are forgotten but the newest.
local written = {newest = {}, older = {}, count = 0}
local function remember(row)
    if #row.TEXT > 1000 then return end
    if written.count == 1000 then written = {newest = {}, older = written.newest, count = 0} end
    written.newest[row.TEXT], written.count = row, written.count + 1
end

-- Whoever takes a row may change it, and so has it alone.
local function recalled(key, text)
    local some = written.newest[text] and written.newest or written.older
    local row = some[text]
    if not row or row.KEY ~= key then return false end
    some[text] = nil
    return row
end

local jobs, tasks, workers = {}, {}, {}

-- A job; false when there is none. Whoever has its key already gives it.
local function job(id, key)
    local row = jobs[id]
    if row == nil then
        key = key or P .. 'j:' .. id
        local text = value_of(key)
        row = text and recalled(key, text)
        if text and not row then
            row = job_row(id, key, text)
            row.DUE = job_time(row)
            row.SHOWN = not row.finished and shown(row.status, row.deliveries)
        end
        jobs[id] = row
    end
    return row
end

local function new_job(id, key, owner, blueprint, status)
    local row = {
        ID = id, KEY = key, N = format(PLACE, number()), DUE = nil, STATE = nil,
        FAN = nil, SHOWN = nil, TEXT = nil, status = status, step = 0, told = nil, open_step = nil, open_count = nil,
        created = NOW, updated = NOW, commit = nil, made = nil, owner = owner, blueprint = blueprint, progress = nil,
        message = nil, deliveries = nil, wake = nil,
    }
    jobs[id] = row
    return row
end

-- A task's id says which job's it is, and of which step.
local function job_of(task_id) return match(task_id, '^(.*)%-[^-]*%-[^-]*$') or task_id end

-- As `job`.
local function task(id, key)
    local row = tasks[id]
    if row == nil then
        key = key or P .. 't:' .. id
        local text = value_of(key)
        row = text and recalled(key, text)
        if text and not row then
            local owner_id, step = match(id, '^(.*)%-(%d+)%-%d+$')
            row = task_row(id, key, text, owner_id, tonumber(step))
            row.DUE = task_time(row)
        end
        tasks[id] = row
    end
    return row
end

-- `form` is what it is made with: see `steps.made_with`.
local function new_task(id, owner_id, step, form)
    local n = format(PLACE, number())
    local row = {
        ID = id, KEY = P .. 't:' .. id, N = n, DUE = nil, PLACE = nil, job = owner_id, step = step,
        HEAD = (BEGINS[#id] or begins(#id)) .. id .. (BEGINS[#n] or begins(#n)) .. n .. form.packed,
        key = form.key, need = form.need, priority = form.priority, execution = form.execution, retry = form.retry,
        place = 'queued', generation = 1, worker = nil, lease = nil,
    }
    if form.lost_after then row.lost_after = form.lost_after end
    if form.reserves then row.reserves, row.reserved = form.reserves, form.reserves end
    if form.by_price then row.by_price = 1 end
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

-- What a task carries is beside it: how long the name of its trace is, that, and its params, until it is over; then the
-- outcome, if it has one.
local function carried_text(params, trace) return int(#trace) .. '\n' .. trace .. params end
local function carry(row, carried)
    local key = P .. 'x:' .. row.ID
    known[key] = carried
    keep(key, carried)
end

local function carried_by(row) return value_of(P .. 'x:' .. row.ID) or '0\n' end

local function params_of(row)
    local size, rest = match(carried_by(row), '^(%d+)\n(.*)$')
    return string.sub(rest, tonumber(size) + 1)
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
