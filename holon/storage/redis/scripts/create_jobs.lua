-- Create jobs, all or none; a repeat of a request id answers with the job that it made.

local requests = {}
local function made_by(owner, request)
    local key = P .. 'r:' .. owner
    local known = requests[key .. '\n' .. request] or read('HGET', key, request)
    return known and job(known)
end

-- Count one more job against a quota, if it is not used up.
local used = {}
local function count_job(quota)
    local key = P .. 'quotas'
    used[quota.name] = used[quota.name] or tonumber(read('HGET', key, quota.name) or 0)
    if used[quota.name] >= quota.limit then return false end
    used[quota.name] = used[quota.name] + 1
    write('HINCRBY', key, quota.name, 1)
    if used[quota.name] == 1 then write('ZADD', P .. 'quota_ends', int(quota.ends), quota.name) end
    return true
end

if MAX_BACKLOG then
    local waits = tonumber(read('HGET', P .. 'totals', 'history') or 0)
    if waits >= MAX_BACKLOG then return done({waits}) end
end

local answer = {}
for i = 1, num() do
    local id, owner, blueprint, status = arg(), arg(), arg(), arg()
    local request = flag() and arg()
    local digest = arg()
    local quota = flag() and {name = arg(), limit = num(), ends = num()}
    local step = flag() and read_step()
    local state, lines, history
    if not step then state, lines, history = arg(), num(), arg() end
    local row = request and made_by(owner, request)
    if row then
        answer[i] = {row.ID, (row.digest or '') == digest and 'existing' or 'conflict'}
    else
        -- A job that is there was made by this very call, whose reply was lost.
        local over_quota = quota and not job(id) and not count_job(quota)
        if not over_quota and not job(id) then
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
local want = num()
read_seats()
local leased = lease()
return done({answer, told_claims(claim(want)), leased})
