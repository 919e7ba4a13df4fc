-- Delete jobs that ended before this time, with all that is theirs, but those that are spared, that are to be moved, or
-- of whose end or events somebody is to be told. Of them the first ones are passed over, which stay; how many were deleted, and how
-- many are to be passed over then, or -1 when all were looked at.
-- The counts of periods that are over go too.

-- A script stops the server while it runs: a job with many tasks is deleted with fewer others.
local MOST = 5000
local LOOK_AT = 1000

-- Whether some of a job's history is still to be moved: what was, is gone from here.
local function is_to_move(row)
    local found = false
    if MAX_BACKLOG then
        history.visit(row.ID, 1, row.told or 0, function()
            found = true
            return true
        end)
    end
    return found
end

-- What of a job's history was to be moved while nodes did so, and goes with it now, waits no more.
local function unlist(row)
    history.visit(row.ID, 1, row.told or 0, function(last, lines)
        local member = row.ID .. ':' .. int(last)
        if read('ZSCORE', P .. 'outbox', member) then
            put('ZREM', P .. 'outbox', member)
            put('HDEL', P .. 'taken', member)
            backlog = backlog - #lines
        end
    end)
end

-- Which steps of a job made tasks: as `note_made` says.
local function made_by(id, made, keys)
    if not made then return NONE end
    if string.sub(made, 1, 1) ~= '+' then return {made} end
    local key = P .. 'm:' .. id
    local found = read('LRANGE', key, 0, -1)
    found[#found + 1] = made
    keys[#keys + 1] = key
    return found
end

-- Take a job out of what is there; its keys are left to be deleted.
local function forgotten(id, row, keys)
    put('ZREM', P .. 'over', id)
    -- Where the server was away, a node may not have said that it hears of it no more.
    if facts.watched then put('HDEL', P .. 'watched', id) end
    if not row then return end
    for _, made in ipairs(made_by(id, row.made, keys)) do
        for step, total in gmatch(made, '(%d+):(%d+)') do
            for index = 0, tonumber(total) - 1 do
                local task_id = id .. '-' .. step .. '-' .. int(index)
                keys[#keys + 1], keys[#keys + 2] = P .. 't:' .. task_id, P .. 'x:' .. task_id
            end
        end
    end
    for last = 1, row.told or 0 do keys[#keys + 1] = history.lines_of(id) .. int(last) end
    keys[#keys + 1], keys[#keys + 2] = row.KEY, P .. 's:' .. id
    if row.arrived then keys[#keys + 1] = P .. 'i:' .. id end
    keys[#keys + 1] = P .. 'd:' .. id
    put('ZREM', P .. 'o:' .. row.owner, id)
    if row.request then put('HDEL', P .. 'r:' .. row.owner, row.request) end
end

local function operation()
    local before_it, limit, stay, spared = num(), num(), num(), {}
    for _ = 1, num() do spared[arg()] = true end
    local ends, events = P .. 'ends', P .. 'events'
    local keys, count, left, untold = {}, 0, false, read('ZCARD', ends) + read('ZCARD', events) > 0
    local listed = not MAX_BACKLOG and read('ZCARD', P .. 'outbox') > 0
    local old = read('ZRANGEBYSCORE', P .. 'over', '-inf', '(' .. int(before_it), 'LIMIT', stay, LOOK_AT)
    for _, id in ipairs(old) do
        left = #keys > MOST or count == limit
        if left then break end
        local stays = spared[id] or untold and (read('ZSCORE', ends, id) or read('ZSCORE', events, id))
        local row = not stays and job(id)
        if stays or row and is_to_move(row) then
            stay = stay + 1
        else
            if row and listed then unlist(row) end
            forgotten(id, row, keys)
            count = count + 1
        end
    end
    for from = 1, #keys, 4000 do write('UNLINK', unpack(keys, from, math.min(from + 3999, #keys))) end
    for _, name in ipairs(read('ZRANGEBYSCORE', P .. 'quota_ends', '-inf', int(NOW), 'LIMIT', 0, 1000)) do
        put('HDEL', P .. 'quotas', name)
        put('ZREM', P .. 'quota_ends', name)
    end
    return done({count, (left or #old == LOOK_AT) and stay or -1})
end
