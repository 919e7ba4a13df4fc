-- What every operation begins with that only reads.

local function run_reading(operation, keys, argv)
    if not read then bind() end
    META = keys[1]
    P = string.sub(META, 1, -5)
    if read('EXISTS', META) == 0 then return empty_store() end
    args, at = argv, 0
    known, jobs, tasks = {}, {}, {}
    return operation()
end

-- What a job's task needs that waits for a lease. Of a fan-out so many branches are looked at for one that does: from
-- both ends, where nearly always one of those is.
local BRANCHES = 50
local function queued_need(row)
    local count = row.open_count or 0
    for n = 0, math.min(count, BRANCHES) - 1 do
        local half = math.floor(n / 2)
        local one = task(row.ID .. '-' .. int(row.open_step) .. '-' .. int(n % 2 == 0 and half or count - 1 - half))
        if one and one.place == 'queued' then return one.need end
    end
    return ''
end

-- When a job's handler or its single task is tried again, which has failed.
local function again_at(row)
    if row.wake then return int(row.wake) end
    if (row.open_count or 0) == 0 or fan_of(row) then return '' end
    local one = task(row.ID .. '-' .. int(row.open_step) .. '-0')
    return one and one.place == 'back_off' and int(one['until']) or ''
end

-- What is told as what its task needs, while nobody has it or any branch, and as what a branch needs, while workers have
-- others.
local function needs_of(row)
    local fan = fan_of(row)
    if not fan then return queued_need(row), '' end
    if fan.queued == 0 then return '', '' end
    local need = queued_need(row)
    if fan.queued == fan.spawned - (fan.total - fan.pending) then return need, '' end
    return '', need
end

-- A job as clients see it; nil when there is none. Whoever has its key already gives it.
local function record(id, key)
    local row = job(id, key)
    if not row then return nil end
    local need, of_branch = needs_of(row)
    return told_job(row, need, again_at(row), of_branch), row.status, row.blueprint
end
