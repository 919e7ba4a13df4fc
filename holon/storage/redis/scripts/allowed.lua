-- Quotas: how many jobs this partition has made of each, and may make. A caller's jobs are counted together or not at all.

local quotas = {}
-- The counts that a call has looked at, by name.
local looked_at = {}

function quotas.forget() looked_at = {} end

-- What was counted against a quota by now: before this call, with it, and besides for the caller whose turn it is.
local function counted_of(quota)
    local known = looked_at[quota.name]
    if not known then
        local made, generation = match(read('HGET', P .. 'quotas', quota.name) or '0 0', '^(%d+) (%d+)$')
        known = {made = tonumber(made), before = tonumber(made), generation = generation, own = 0}
        looked_at[quota.name] = known
    end
    return known
end

-- Count one more job against a quota: false, when it is used up. Where this partition has to draw on it first, nothing
-- is created for the caller.
function quotas.count(quota)
    local known = counted_of(quota)
    local made = known.made + known.own
    if known.generation ~= quota.generation or (made >= quota.allowed and not quota.last) then
        known.short = true
    elseif made >= quota.allowed then
        return false
    end
    known.own, known.ends = known.own + 1, quota.ends
    return true
end

-- The quotas that have to be drawn on first: name, how many jobs were made, and under which generation.
function quotas.short()
    if next(looked_at) == nil then return NONE end
    local found = {}
    for name, known in pairs(looked_at) do
        if known.short then found[#found + 1] = {name, known.made, tonumber(known.generation)} end
    end
    return found
end

-- The turn of a caller is over: its jobs are created, or none of them.
function quotas.count_all(created)
    for _, known in pairs(looked_at) do
        if created then known.made = known.made + known.own end
        known.own, known.short = 0, nil
    end
end

function quotas.write()
    for name, known in pairs(looked_at) do
        if known.made > known.before then
            put('HSET', P .. 'quotas', name, int(known.made) .. ' ' .. known.generation)
            put('ZADD', P .. 'quota_ends', int(known.ends), name)
        end
    end
end
