-- Nodes: who is here. One that was not seen for a while is away: its sessions get nothing, and go on when it is back;
-- in the end it is gone.

local AWAY, GONE = 30000, 86400000

local function sessions_of(node) return read('SMEMBERS', P .. 'sessions:' .. node) end

-- A node's sessions have ended; what was there for it to hear is over with them.
local function end_node(node)
    for _, id in ipairs(sessions_of(node)) do
        local holder = worker(id)
        if holder and holder.live and holder.node == node then end_session(holder) end
    end
    local watched = read('HGETALL', P .. 'watched')
    for i = 1, #watched, 2 do
        local rest = {}
        for _, other in ipairs(words(watched[i + 1])) do
            if other ~= node then rest[#rest + 1] = other end
        end
        if not rest[1] then
            write('HDEL', P .. 'watched', watched[i])
        elseif #rest < #words(watched[i + 1]) then
            write('HSET', P .. 'watched', watched[i], table.concat(rest, ' '))
        end
    end
    write('DEL', P .. 'stops:' .. node)
    write('SREM', P .. 'idle', node)
end

local function set_away(node, away)
    for _, id in ipairs(sessions_of(node)) do
        local holder = worker(id)
        if holder and holder.live and holder.node == node then holder.live = away and AWAY_SESSION or '1' end
    end
    if away then write('SREM', P .. 'idle', node) end
end
