-- A node is here, and looks what waits: ready jobs, the next timer, match keys with tasks, stops for its workers.
-- One that has been here for a while sees to those that have not.

local function see_to_others(present)
    local since, gone = int(NOW - nodes.GONE_AFTER), {}
    for _, node in ipairs(read('ZRANGEBYSCORE', present, '-inf', since, 'LIMIT', 0, 100)) do
        if node ~= NODE then
            gone[node] = true
            write('ZREM', present, node)
            write('HDEL', META, 'lane:' .. node, 'process:' .. node, 'keeps:' .. node)
            for _, one in ipairs({READY, SUSPECTS}) do
                if not read('XPENDING', one.key, GROUP, '-', '+', 1, node)[1] then
                    write('XGROUP', 'DELCONSUMER', one.key, GROUP, node)
                end
            end
        end
    end
    if next(gone) then nodes.end_all(gone) end
    -- Those that went last come first: of the others it is known.
    local late = int(NOW - nodes.AWAY_AFTER)
    for _, node in ipairs(read('ZREVRANGEBYSCORE', present, late, '(' .. since, 'LIMIT', 0, 100)) do
        if node ~= NODE then nodes.set_away(node, true) end
    end
end

local function suspects_wait()
    local newest = facts.poisoned > 0 and read('XREVRANGE', SUSPECTS.key, '+', '-', 'COUNT', 1)[1]
    return newest and tonumber(match(newest[1], '^%d+')) > tonumber(match(last_taken(SUSPECTS), '^%d+'))
end

local function operation()
    local watchful, present = flag(), P .. 'nodes'
    local seen_at = tonumber(read('ZSCORE', present, NODE) or NOW)
    if seen_at <= NOW - nodes.AWAY_AFTER then nodes.set_away(NODE, false) end
    write('ZADD', present, NOW, NODE)
    if watchful then see_to_others(present) end
    local found = read('HKEYS', P .. 'needs')
    for i, key in ipairs(found) do found[i] = 'k' .. key end
    local due = read('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2]
    if due then found[#found + 1] = 'd' .. due end
    if facts.newest ~= last_taken(READY) or suspects_wait() then found[#found + 1] = 'r' end
    if read('ZCARD', P .. 'outbox') > 0 then found[#found + 1] = 'n' end
    if read('LLEN', P .. 'stops:' .. NODE) > 0 then found[#found + 1] = 's' end
    return done({table.concat(found, ' '), tonumber(read('HGET', P .. 'totals', 'history') or 0)})
end
