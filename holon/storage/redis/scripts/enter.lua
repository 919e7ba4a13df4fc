-- A node has started: what an earlier process of its name had claimed is ready again, and its sessions have ended.

-- The nodes that are here and move history where this one keeps it, or the other way round.
local function differing()
    local found = {}
    local since = '(' .. int(NOW - nodes.AWAY_AFTER)
    for _, node in ipairs(read('ZRANGEBYSCORE', P .. 'nodes', since, '+inf', 'LIMIT', 0, 100)) do
        local moves = read('HEXISTS', META, 'keeps:' .. node) == 0
        if node ~= NODE and moves ~= (MAX_BACKLOG ~= nil) then found[#found + 1] = node end
    end
    return found
end

local function operation()
    each_claimed(unclaim)
    -- Its workers could not speak meanwhile: their leases run from now, and they are not timed out before these are over.
    for _, id in ipairs(nodes.sessions(NODE)) do
        local holder = worker(id)
        local leases = holder and holder.node == NODE and held.all(holder) or {}
        for i = 1, #leases, 2 do
            local row = task(leases[i + 1])
            if row and row.lease == leases[i] and placed(row) then
                row['until'] = NOW + (row.place == 'leased' and leasing.keeps_for(row) or settings.offer)
                -- What was done in time could not be told while there was nobody to tell it to.
                if row.execution_due then row.execution_due = math.max(row.execution_due, row['until']) end
            end
        end
    end
    -- While a node is here that moves no history, there may be lines that are in no outbox.
    if MAX_BACKLOG then
        write('HDEL', META, 'keeps:' .. NODE)
    else
        write('HSET', META, 'keeps:' .. NODE, 1)
        write('HDEL', META, 'enlisted')
    end
    nodes.end_all({[NODE] = true})
    local taken = read('HGETALL', P .. 'taken')
    for i = 1, #taken, 2 do
        if words(taken[i + 1])[2] == NODE then write('HDEL', P .. 'taken', taken[i]) end
    end
    write('ZADD', P .. 'nodes', NOW, NODE)
    return done(differing())
end
