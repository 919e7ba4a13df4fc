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

-- What a job's single task needs while nobody has it; of a fan-out, what one of its branches needs while nobody has any. So
-- many of these are looked at for one that waits: from both ends, where nearly always one of those is.
local BRANCHES = 50
local function queued_need(row)
    local count, fan = row.open_count or 0, fan_of(row)
    if fan and (fan.queued == 0 or fan.queued ~= fan.spawned - (fan.total - fan.pending)) then return '' end
    for n = 0, math.min(count, BRANCHES) - 1 do
        local half = math.floor(n / 2)
        local one = task(row.ID .. '-' .. int(row.open_step) .. '-' .. int(n % 2 == 0 and half or count - 1 - half))
        if one and one.place == 'queued' then return one.need end
    end
    return ''
end

-- When a job's single task is tried again, which has failed.
local function again_at(row)
    if (row.open_count or 0) == 0 or fan_of(row) then return '' end
    local one = task(row.ID .. '-' .. int(row.open_step) .. '-0')
    return one and one.place == 'back_off' and int(one['until']) or ''
end

-- A job as clients see it; nil when there is none.
local function record(id)
    local row = job(id)
    if not row then return nil end
    return told_job(row, queued_need(row), again_at(row)), row.status, row.blueprint
end
