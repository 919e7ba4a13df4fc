-- Ready jobs: two streams, one of them for jobs that were delivered before without a commit. Who claims a job has its
-- entry among its pending ones, until it lets the job go.

local GROUP = 'holon'
local function stream(name) return {name = name, added = {}, taken = 0, freed = {}, stale = {}} end
local READY, SUSPECTS = stream('ready'), stream('suspects')
local STREAMS = {r = READY, s = SUSPECTS}
local function reset_stream(one)
    one.key, one.taken, one.last = P .. one.name, 0, nil
    if one.added[1] or one.freed[1] or one.stale[1] then one.added, one.freed, one.stale = {}, {}, {} end
end

-- The last entry of a stream that was taken; when it is the newest as well, nothing waits there.
local function last_taken(queue)
    queue.known = queue.known or read('HGET', META, queue.name)
    return queue.known
end

-- Whether this call `asked` for jobs, and whether some are `left` for others, and for this node; and whether a suspect may
-- be handed over, as the node has nothing else. Where there are several partitions, a claim says that: no other call knows
-- what its node has of the others.
local claiming = {asked = false, left = false, left_for_me = false, alone = false}

local function mark_ready(row)
    if row.ready or row.claim or over(row) then return end
    local queue = (row.deliveries or 0) > 0 and SUSPECTS or READY
    local entry = int(number()) .. '-0'
    row.ready, row.entry = '1', string.sub(queue.name, 1, 1) .. entry
    queue.added[#queue.added + 1] = {row, entry}
end

local function let_go(row)
    if row.entry then
        local queue = STREAMS[string.sub(row.entry, 1, 1)]
        local entry = string.sub(row.entry, 2)
        queue.freed[#queue.freed + 1] = entry
        queue.freed[entry] = true
        row.entry = nil
    end
    row.claim, row['until'] = nil, nil
end

local function unclaim(row)
    let_go(row)
    if (RUNS[row.status] and not over(row)) or row.inbox then mark_ready(row) end
end

-- The first jobs of a stream that nobody has, at most so many; whether there are more.
local function waiting(queue, count)
    local found = {}
    if queue == SUSPECTS or facts.newest ~= last_taken(queue) then
        local entries = read('XRANGE', queue.key, '(' .. last_taken(queue), '+', 'COUNT', count + 1)
        local keys = {}
        for i, entry in ipairs(entries) do
            keys[2 * i - 1], keys[2 * i] = P .. 'j:' .. entry[2][2], P .. 's:' .. entry[2][2]
        end
        if keys[1] then fetch(keys) end
        for _, entry in ipairs(entries) do
            local row = job(entry[2][2])
            local live = row and row.ready and row.entry == string.sub(queue.name, 1, 1) .. entry[1]
            found[#found + 1] = {live and row, entry[1]}
        end
    end
    for _, one in ipairs(queue.added) do
        if #found > count then break end
        found[#found + 1] = one
    end
    local more = #found > count
    if more then found[#found] = nil end
    return found, more
end

-- Whether this node has claimed a job out of a stream.
local function holds_any(queue)
    local most = #queue.freed + 1
    for _, entry in ipairs(read('XPENDING', queue.key, GROUP, '-', '+', most, NODE)) do
        if not queue.freed[entry[1]] then return true end
    end
    return false
end

-- Go through the jobs that this node has claimed. An entry without one is dropped.
local function each_claimed(visit)
    for _, one in ipairs({READY, SUSPECTS}) do
        for _, entry in ipairs(read('XPENDING', one.key, GROUP, '-', '+', 100000, NODE)) do
            local found = read('XRANGE', one.key, entry[1], entry[1])[1]
            local row = found and job(found[2][2])
            if row and row.claim and row.entry == string.sub(one.name, 1, 1) .. entry[1] then
                visit(row)
            else
                one.stale[#one.stale + 1] = entry[1]
            end
        end
    end
end

local function take(queue, one, claims)
    queue.taken, queue.last = queue.taken + 1, one[2]
    local row = one[1]
    if not row then
        queue.stale[#queue.stale + 1] = one[2]
        return
    end
    row.ready = nil
    row.deliveries = (row.deliveries or 0) + 1
    -- Whose reply was lost can say so: by the call, and the connection on which it came.
    row.claim = TOKEN .. '.' .. args[#args] .. '.' .. int(number())
    row['until'] = NOW + settings.claim
    claims[#claims + 1] = row
end

-- Claim ready jobs, oldest first. A suspect runs alone.
local function claim(want)
    local claims = {}
    if want == 0 then return claims end
    claiming.asked = true
    if facts.poisoned > 0 or #SUSPECTS.added > 0 then
        local found, more = waiting(SUSPECTS, 1)
        if found[1] and not found[1][1] then
            -- Its job is gone; the next one is looked at by the next claim.
            take(SUSPECTS, found[1], claims)
            claiming.left, claiming.left_for_me = true, true
            return claims
        end
        local alone = holds_any(SUSPECTS)
        if found[1] then
            claiming.left = more
            if (claiming.alone or PARTITIONS == 1) and not alone and not holds_any(READY) then
                take(SUSPECTS, found[1], claims)
            else
                claiming.left, hints.mine.x = true, true
            end
            return claims
        end
        if alone then
            -- What waits is for others meanwhile.
            claiming.left = facts.newest ~= last_taken(READY) or #READY.added > 0
            return claims
        end
    end
    local found, more = waiting(READY, want)
    for _, one in ipairs(found) do take(READY, one, claims) end
    claiming.left, claiming.left_for_me = more, more
    if not more and not string.find(facts.idle, ' ' .. NODE .. ' ', 1, true) then
        facts.idle = (facts.idle == '' and ' ' or facts.idle) .. NODE .. ' '
    end
    return claims
end
