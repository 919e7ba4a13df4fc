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

-- A job as clients see it, with what its single task needs while nobody has it; nil when there is none.
local function record(id)
    local row = job(id)
    if not row then return nil end
    local need = ''
    if row.open_count and row.open_count > 0 and not row.fan then
        local one = task(id .. '-' .. int(row.open_step) .. '-0')
        if one and one.place == 'queued' then need = one.need end
    end
    return told_job(row, need), row.status, row.blueprint
end
