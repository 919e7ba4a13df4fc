-- Create jobs, all or none; a repeat of a request id answers with the job that it made.

local function read_item()
    local item = {
        id = args[at + 1], owner = args[at + 2], blueprint = args[at + 3], status = args[at + 4], request = nil,
        digest = nil, quota = nil, step = nil, state = nil, lines = nil, history = nil,
    }
    at = at + 4
    item.request = flag() and arg()
    item.digest = arg()
    item.quota = flag() and {
        name = arg(), ends = num(), allowed = num(), generation = arg(), last = flag(),
    }
    item.step = flag() and read_step()
    if not item.step then item.state, item.lines, item.history = arg(), num(), arg() end
    return item
end

-- The jobs that earlier calls made for these requests: by owner, by request.
local function made_before(items)
    local asked, made = {}, {}
    for _, item in ipairs(items) do
        if item.request then
            asked[item.owner] = asked[item.owner] or {}
            table.insert(asked[item.owner], item.request)
        end
    end
    for owner, requests in pairs(asked) do
        local known = {}
        for i, id in ipairs(read('HMGET', P .. 'r:' .. owner, unpack(requests))) do known[requests[i]] = id end
        made[owner] = known
    end
    return made
end

-- Whether any job has one of these ids: one that is there was made by this very call, whose reply was lost.
local function any_is_there(items)
    local keys = {}
    for i, item in ipairs(items) do keys[i] = P .. 'j:' .. item.id end
    return read('EXISTS', unpack(keys)) > 0
end

-- What has been counted against a quota by now, here.
local function counted_of(quota, quotas)
    local known = quotas[quota.name]
    if not known then
        local made, generation = match(read('HGET', P .. 'quotas', quota.name) or '0 0', '^(%d+) (%d+)$')
        known = {made = tonumber(made), before = tonumber(made), generation = generation}
        quotas[quota.name] = known
    end
    return known
end

-- Count one more job against a quota: false, when it is used up. Where this partition has to draw on it first, nothing
-- is created.
local function count_job(quota, quotas)
    local known = counted_of(quota, quotas)
    if known.generation ~= quota.generation or (known.made >= quota.allowed and not quota.last) then
        known.short = true
    elseif known.made >= quota.allowed then
        return false
    end
    known.made, known.ends = known.made + 1, quota.ends
    return true
end

-- The quotas that have to be drawn on first: name, how many jobs were made, and under which generation.
local function short_of(quotas)
    local found = {}
    for name, known in pairs(quotas) do
        if known.short then found[#found + 1] = {name, known.before, tonumber(known.generation)} end
    end
    return found
end

local function write_quotas(quotas)
    for name, known in pairs(quotas) do
        if known.made > known.before then
            put('HSET', P .. 'quotas', name, int(known.made) .. ' ' .. known.generation)
            put('ZADD', P .. 'quota_ends', int(known.ends), name)
        end
    end
end

local function create(item)
    local row = new_job(item.id)
    row.n, row.owner, row.blueprint, row.status = number(), item.owner, item.blueprint, item.status
    row.created, row.updated, row.step = NOW, NOW, 0
    put('ZADD', P .. 'o:' .. item.owner, row.n, item.id)
    if item.request then
        row.request, row.digest = item.request, item.digest
        put('HSET', P .. 'r:' .. item.owner, item.request, item.id)
    end
    if item.step then
        land(row, item.step)
    else
        row.state = item.state
        if item.lines > 0 then tell(row, item.lines, item.history) end
    end
    if RUNS[row.status] then mark_ready(row) end
end

local function operation()
    -- While too much history waits to be moved, only repeats are answered.
    local waits = MAX_BACKLOG and tonumber(read('HGET', P .. 'totals', 'history') or 0)
    local full = waits and waits >= MAX_BACKLOG
    local items, quotas, answer = {}, {}, {}
    for i = 1, num() do items[i] = read_item() end
    local made, some = made_before(items), any_is_there(items)
    for i, item in ipairs(items) do
        local known = item.request and made[item.owner][item.request]
        local row = known and job(known)
        if row then
            answer[i] = {row.ID, large(row, 'digest') == item.digest and 'existing' or 'conflict'}
        else
            local new = not (some and job(item.id))
            if new and full then return done({waits}) end
            local over_quota = new and item.quota and not count_job(item.quota, quotas)
            if new and not over_quota then
                create(item)
                if item.request then made[item.owner][item.request] = item.id end
            end
            answer[i] = {item.id, over_quota and 'over_quota' or 'created'}
        end
    end
    local short = short_of(quotas)
    if short[1] then return {NOW, '', {'short', short}} end
    write_quotas(quotas)
    local want = num()
    read_seats()
    local leased = lease()
    return done({answer, told_claims(claim(want)), leased})
end
