-- What the schema before kept as fields of hashes becomes rows, in a part of all keys at a time: where to go on. Nodes that
-- know only that schema are refused from the first part on, and the store is of this one after the last.

local WORDS_OF_JOB = {
    'status', 'inbox', 'cancels', 'claim', 'entry', 'ready', 'fan', 'n', 'finished', 'step', 'progress', 'told', 'arrived',
    'until', 'deliveries', 'wake', 'wake_step', 'spawn', 'open_step', 'open_count', 'created', 'updated', 'commit', 'made',
    'reply', 'message', 'owner', 'blueprint', 'request', 'digest', 'cost', 'money',
}
local WORDS_OF_TASK = {
    'id', 'n', 'key', 'need', 'priority', 'execution', 'retry', 'lost_after', 'place', 'accepted', 'worker', 'session',
    'lease', 'applied', 'avoid', 'attempts', 'branch', 'until', 'dispatch_due', 'result_due', 'execution_due', 'attempt',
    'progress', 'generation', 'losses', 'reason', 'late', 'reserves', 'reserved',
}
local WORDS_OF_WORKER = {'session', 'live', 'node', 'credits', 'keeps', 'takes', 'opened'}
local NUMBERS = {
    finished = true, step = true, progress = true, told = true, arrived = true, ['until'] = true, deliveries = true,
    wake = true, wake_step = true, spawn = true, open_step = true, open_count = true, created = true, updated = true,
    dispatch_due = true, result_due = true, execution_due = true, attempt = true, generation = true, losses = true,
    credits = true, keeps = true, takes = true, opened = true,
}

local function row_of(names, fields)
    local values = {}
    for i, name in ipairs(names) do
        local value = fields[name] or false
        values[i] = value and NUMBERS[name] and tonumber(value) or value
    end
    return pack(values)
end

local function fields_of(key)
    local found, fields = read('HGETALL', key), {}
    for i = 1, #found, 2 do fields[found[i]] = found[i + 1] end
    return fields
end

local function upgrade_job(id, key, fields)
    keep(P .. 's:' .. id, fields.state)
    for name, value in pairs(fields) do
        local last = match(name, '^h(%d+)$')
        if last then keep(history.lines_of(id) .. last, value) end
    end
    keep(key, row_of(WORDS_OF_JOB, fields))
end

local function upgrade_task(id, key, fields)
    fields.id = id
    fields.priority, fields.execution, fields.retry, fields.lost_after = terms_of(fields.terms)
    if fields.place ~= 'over' then
        carry({ID = id}, carried_text(fields.params, fields.trace or ''))
    elseif fields.outcome then
        keep(P .. 'x:' .. id, fields.outcome)
    end
    keep(key, row_of(WORDS_OF_TASK, fields))
end

local function upgrade_key(key, digits)
    local kind, id = match(string.sub(key, #P + 1), '^([jtw]):(.*)$')
    if not kind or read('TYPE', key).ok ~= 'hash' then return end
    local fields = fields_of(key)
    if kind == 'w' then
        keep(key, row_of(WORDS_OF_WORKER, fields))
        return
    end
    fields.n = format('%0' .. digits .. '.0f', tonumber(fields.n))
    if kind == 'j' then upgrade_job(id, key, fields) else upgrade_task(id, key, fields) end
end

local function operation()
    local schema, partitions, cursor = arg(), num(), arg()
    known = {}
    local last = read('HGET', META, 'number')
    if last then
        write('HSET', META, 'last', last)
        write('HDEL', META, 'number')
    end
    local page = read('SCAN', cursor, 'MATCH', P .. '[jtw]:*', 'COUNT', 200)
    local seen = {}
    for _, key in ipairs(page[2]) do
        if not seen[key] then upgrade_key(key, partitions > 1 and 16 or 12) end
        seen[key] = true
    end
    if page[1] == '0' then write('HSET', META, 'schema', schema) end
    return shared_done(page[1])
end
