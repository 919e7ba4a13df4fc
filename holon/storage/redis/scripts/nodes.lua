-- Nodes: who is here. One that was not seen for a while is away: its sessions get nothing, and go on when it is back;
-- in the end it is gone.

local nodes = {AWAY_AFTER = 30000, GONE_AFTER = 86400000}

function nodes.sessions(node) return read('SMEMBERS', P .. 'sessions:' .. node) end

-- Who watches a job besides these nodes.
function nodes.watchers_without(watchers, gone)
    local rest = {}
    for _, node in ipairs(words(watchers)) do
        if not gone[node] then rest[#rest + 1] = node end
    end
    return table.concat(rest, ' ')
end

function nodes.keep_watchers(id, watchers)
    if watchers == '' then
        put('HDEL', P .. 'watched', id)
    else
        put('HSET', P .. 'watched', id, watchers)
    end
end

-- The sessions of these nodes have ended; what was there for them to hear is over with them.
function nodes.end_all(gone)
    for node in pairs(gone) do
        for _, id in ipairs(nodes.sessions(node)) do
            local holder = worker(id)
            if holder and holder.live and holder.node == node then leasing.end_session(holder) end
        end
        write('DEL', P .. 'stops:' .. node, P .. 'sessions:' .. node)
        no_longer_idle(node)
    end
    local watched = read('HGETALL', P .. 'watched')
    for i = 1, #watched, 2 do
        local rest = nodes.watchers_without(watched[i + 1], gone)
        if #rest < #watched[i + 1] then nodes.keep_watchers(watched[i], rest) end
    end
end

function nodes.set_away(node, away)
    for _, id in ipairs(nodes.sessions(node)) do
        local holder = worker(id)
        if holder and holder.live and holder.node == node then holder.live = away and AWAY_SESSION or '1' end
    end
    if away then no_longer_idle(node) end
end
