-- The end of every script that writes: all writes, in one go, and the answer.

-- What a row has become; whether that is anything else than it was.
local function write_row(row, text)
    if text == row.TEXT then return false end
    keep(row.KEY, text)
    row.TEXT = text
    return true
end

local totals, touched, armed, disarmed, earliest = {}, {}, {}, {}, nil
local function set_timer(row, kind, due)
    if row.DUE == due then return end
    row.DUE = due
    local member = row.N .. kind .. row.ID
    if not due then
        disarmed[#disarmed + 1] = member
        return
    end
    armed[#armed + 1], armed[#armed + 2] = due, member
    earliest = sooner(earliest, due)
end

local function add_up(name, by) totals[name] = (totals[name] or 0) + by end

local function write_jobs()
    local watched = facts.watched
    for _, row in pairs(jobs) do
        if row then
            if row.FAN then row.fan = fan_text(row.FAN) elseif row.FAN == false then row.fan = nil end
            if row.MONEY then row.money = costs.text(row.MONEY) end
            set_timer(row, 'j', job_time(row))
            if (write_row(row, job_text(row)) or inboxes[row]) and watched then touched[row.ID] = true end
            local before = row.SHOWN
            local after = not row.finished and shown(row.status, row.deliveries)
            if before ~= after then
                if before then add_up(before, -1) end
                if after then add_up(after, 1) end
            end
            if after then
                row.SHOWN, row.STATE, row.FAN, row.MONEY = after, nil, nil, nil
                remember(row)
            end
        end
    end
    for _, box in pairs(inboxes) do
        if box.cleared then
            write('DEL', box.key)
        else
            local gone = {}
            for n in pairs(box.gone) do gone[#gone + 1] = n end
            if gone[1] then write_many('HDEL', box.key, gone) end
            for n, event in pairs(box.put) do
                if not box.gone[n] then write('HSET', box.key, n, event) end
            end
        end
    end
end

local function write_tasks()
    local watched = facts.watched
    for _, row in pairs(tasks) do
        if row then
            set_timer(row, 't', task_time(row))
            if write_row(row, task_text(row)) and watched then touched[row.job] = true end
            if row.place ~= 'over' then remember(row) end
        end
    end
end

local function write_workers()
    for _, row in pairs(workers) do
        if row then
            local held_key = P .. 'held:' .. row.ID
            if row.FRESH then write('DEL', held_key) end
            local set, gone = {}, {}
            for lease_id in pairs(row.CHANGES) do
                local task_id = row.HELD[lease_id]
                if task_id then
                    set[#set + 1], set[#set + 2] = lease_id, task_id
                else
                    gone[#gone + 1] = lease_id
                end
            end
            if gone[1] and not row.FRESH then write_many('HDEL', held_key, gone) end
            if set[1] then write_many('HSET', held_key, set) end
            add_up('held', row.DELTA - (row.DROPPED or 0))
            if row.GONE then
                write('DEL', row.KEY, held_key)
            else
                write_row(row, worker_text(row))
            end
            -- Of a session that has ended it is known whose it was for as long as its leases live.
            local live, node = row.WAS_LIVE, row.WAS_NODE
            if node and (row.GONE or node ~= row.node) then write('SREM', P .. 'sessions:' .. node, row.ID) end
            if row.live and (not live or node ~= row.node) then write('SADD', P .. 'sessions:' .. row.node, row.ID) end
        end
    end
end

local function write_queues()
    for key, one in pairs(queues) do
        local put, gone = {}, {}
        for member, score in pairs(one.put) do
            put[#put + 1], put[#put + 2] = score, member
        end
        for member in pairs(one.gone) do
            if not one.put[member] then gone[#gone + 1] = member end
        end
        if gone[1] and counted[key] > 0 then write_many('ZREM', one.key, gone) end
        if put[1] then write_many('ZADD', one.key, put) end
    end
    for key, was in pairs(counted) do
        local now = counts[key]
        if now ~= was then
            if now == 0 then
                write('HDEL', P .. 'waiting', key)
                write('HDEL', P .. 'needs', key)
            else
                write('HSET', P .. 'waiting', key, now)
                if was == 0 then write('HSET', P .. 'needs', key, queues[key].need) end
            end
        end
        if now > 0 and wanted_keys[key] then
            hints.mine['k' .. key], hints.all['k' .. key] = true, true
        end
    end
end

local function write_gone(one, entries)
    for from = 1, #entries, 4000 do
        local to = math.min(from + 3999, #entries)
        write('XACK', one.key, GROUP, unpack(entries, from, to))
        write('XDEL', one.key, unpack(entries, from, to))
    end
end

local function write_stream(one)
    if one.freed[1] then write_gone(one, one.freed) end
    for _, added in ipairs(one.added) do
        write('XADD', one.key, added[2], 'j', added[1].ID)
        if one == READY then facts.newest = added[2] end
    end
    if one.taken > 0 then
        write('XREADGROUP', 'GROUP', GROUP, NODE, 'COUNT', one.taken, 'STREAMS', one.key, '>')
        change(one.name, one.last)
    end
    if one.stale[1] then write_gone(one, one.stale) end
end

local function joined(set)
    local found = {}
    for word in pairs(set) do found[#found + 1] = word end
    return table.concat(found, ' ')
end

-- An earlier timer than any is told to every node.
local function note_due()
    local due = facts.next_due
    hints.mine['d' .. int(earliest)] = true
    if not due or due <= NOW then due = tonumber(read('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2]) end
    if not due or earliest < due then
        hints.all['d' .. int(earliest)] = true
        due = earliest
    end
    if due ~= facts.next_due then change('due', due) end
end

local function note_watchers()
    local names = {}
    for id in pairs(touched) do names[#names + 1] = id end
    for from = 1, #names, 4000 do
        local watchers = read('HMGET', P .. 'watched', unpack(names, from, math.min(from + 3999, #names)))
        for i, found in ipairs(watchers) do
            for _, node in ipairs(words(found or '')) do tell_node(node, 'j' .. names[from + i - 1]) end
        end
    end
end

-- What others are to know of this; a node that wants jobs is told of those that are left.
local function note_hints()
    if earliest then note_due() end
    if not claiming.asked then
        claiming.left = #READY.added > 0 or #SUSPECTS.added > 0
        claiming.left_for_me = claiming.left
    end
    if claiming.left_for_me then hints.mine.r = true end
    if claiming.left then
        for node in gmatch(facts.idle, '%S+') do
            if node ~= NODE then
                tell_node(node, 'r')
                no_longer_idle(node)
                break
            end
        end
    end
    if next(touched) then note_watchers() end
end

local function write_all()
    -- Texts first: one of them may be of no use any more, and is deleted after that.
    for from = 1, #texts, 4000 do read('MSET', unpack(texts, from, math.min(from + 3999, #texts))) end
    for i = 1, #writes do read(unpack(writes[i])) end
end

-- What has become of the store as a whole. How many there are of some is looked up once they are written.
local function write_meta()
    change('last', NUMBER)
    if facts.idle ~= facts.found_idle then change('idle', facts.idle) end
    if facts.newest ~= facts.found_newest then change('newest', facts.newest) end
    if SUSPECTS.added[1] or SUSPECTS.freed[1] or SUSPECTS.stale[1] then
        change('poisoned', read('XLEN', SUSPECTS.key))
    end
    local watched = P .. 'watched'
    if begun.HSET and begun.HSET[watched] or begun.HDEL and begun.HDEL[watched] then
        change('watched', read('HLEN', watched))
    end
    read('HSET', META, unpack(CHANGED))
end

local function publish()
    if next(hints.all) then read('PUBLISH', facts.id .. ':', NODE .. ' ' .. joined(hints.all)) end
    for node, set in pairs(hints.theirs) do read('PUBLISH', facts.id .. ':' .. node, NODE .. ' ' .. joined(set)) end
end

-- How many leases the workers hold here that this call was about: worker, session, count...
local function holdings()
    local found = {}
    for _, row in pairs(workers) do
        if row and (row.BASE or row.DELTA ~= 0) then
            local n = #found
            found[n + 1], found[n + 2], found[n + 3] = row.ID, row.session, held.count(row)
        end
    end
    return found
end

-- Write it all, and answer; `then_read` adds to the answer what is true after that.
local function done(answer, then_read)
    write_jobs()
    write_tasks()
    write_workers()
    write_queues()
    write_stream(READY)
    write_stream(SUSPECTS)
    if backlog ~= 0 then add_up('history', backlog) end
    for name, by in pairs(totals) do
        if by ~= 0 then write('HINCRBY', P .. 'totals', name, by) end
    end
    if disarmed[1] then write_many('ZREM', P .. 'timers', disarmed) end
    if armed[1] then write_many('ZADD', P .. 'timers', armed) end
    note_hints()
    local holds = PARTITIONS > 1 and holdings() or nil
    write_all()
    write_meta()
    if next(hints.all) or next(hints.theirs) then publish() end
    if then_read then then_read(answer) end
    return {NOW, joined(hints.mine), answer, holds}
end
