-- Create jobs, all or none; a repeat of a request id answers with the job that it made.

local requests = {}
local function made_by(owner, request)
    local key = P .. 'r:' .. owner
    local known = requests[key .. '\n' .. request] or read('HGET', key, request)
    return known and job(known)
end

-- Count one more job against a quota: false, when it is used up. Where this partition has to draw on it first, nothing
-- is created.
local quotas, short = {}, false
local function read_quota()
    local quota = {name = arg(), ends = num(), allowed = num(), generation = arg(), last = flag()}
    local known = quotas[quota.name]
    if not known then
        local made, generation = string.match(read('HGET', P .. 'quotas', quota.name) or '0 0', '^(%d+) (%d+)$')
        known = {made = tonumber(made), before = tonumber(made), generation = generation}
        quotas[quota.name] = known
    end
    quota.known = known
    return quota
end
local function count_job(quota)
    local known = quota.known
    if known.generation ~= quota.generation or (known.made >= quota.allowed and not quota.last) then
        known.short, short = true, true
    elseif known.made >= quota.allowed then
        return false
    end
    known.made, known.ends = known.made + 1, quota.ends
    return true
end

-- While too much history waits to be moved, only repeats are answered.
local waits = MAX_BACKLOG and tonumber(read('HGET', P .. 'totals', 'history') or 0)
local full, refused = waits and waits >= MAX_BACKLOG, false

local answer = {}
for i = 1, num() do
    local id, owner, blueprint, status = arg(), arg(), arg(), arg()
    local request = flag() and arg()
    local digest = arg()
    local quota = flag() and read_quota()
    local step = flag() and read_step()
    local state, lines, history
    if not step then state, lines, history = arg(), num(), arg() end
    local row = request and made_by(owner, request)
    if row then
        answer[i] = {row.ID, (row.digest or '') == digest and 'existing' or 'conflict'}
    else
        -- A job that is there was made by this very call, whose reply was lost.
        local over_quota = false
        if not job(id) and full then
            refused = true
        elseif not job(id) then
            over_quota = quota and not count_job(quota)
        end
        if not job(id) and not refused and not over_quota then
            row = new_job(id)
            row.n, row.owner, row.blueprint, row.status = number(), owner, blueprint, status
            row.created, row.updated, row.step = NOW, NOW, 0
            write('ZADD', P .. 'o:' .. owner, row.n, id)
            if request then
                row.request, row.digest = request, digest
                requests[P .. 'r:' .. owner .. '\n' .. request] = id
                write('HSET', P .. 'r:' .. owner, request, id)
            end
            if step then
                land(row, step)
            else
                row.state = state
                if lines > 0 then tell(row, lines, 'e', history) end
            end
            if DUE[row.status] then mark_ready(row) end
        end
        answer[i] = {id, over_quota and 'over_quota' or 'created'}
    end
end
if refused then return done({waits}) end
if short then
    local found = {}
    for name, known in pairs(quotas) do
        if known.short then found[#found + 1] = {name, known.before, tonumber(known.generation)} end
    end
    return {NOW, '', {'short', found}}
end
for name, known in pairs(quotas) do
    if known.made > known.before then
        write('HSET', P .. 'quotas', name, int(known.made) .. ' ' .. known.generation)
        write('ZADD', P .. 'quota_ends', int(known.ends), name)
    end
end
local want = num()
read_seats()
local leased = lease()
return done({answer, told_claims(claim(want)), leased})
