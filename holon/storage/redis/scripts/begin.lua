-- How a call that writes begins.

local function server_time()
    local time = read('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The store's time, which never goes back: the server's, unless its clock was set back, or it is another server whose clock
-- is behind. It does not stand still until that has caught up, for leases and timers would too: it goes on by what passes
-- from call to call, of which each node makes one a second, and no further where the clock leaps once more.
local SET_BACK, LONGEST = 1000, 2000
local function store_time(time, last, seen)
    if time >= last - SET_BACK then return math.max(time, last) end
    change('seen', time)
    return last + math.max(0, math.min(time - (seen or time), LONGEST))
end

local function read_meta()
    local meta = read('HMGET', META, 'last', 'time', 'ready', 'newest', 'poisoned', 'idle', 'watched', 'due',
        'lane:' .. NODE, 'id', 'seen')
    if not meta[1] then return empty_store() end
    if meta[9] ~= args[#args] then return redis.error_reply('OUTDATED this node has connected again since') end
    NUMBER, CHANGED = tonumber(meta[1]), {}
    READY.known, SUSPECTS.known = meta[3], nil
    facts.id, facts.newest, facts.found_newest, facts.poisoned = meta[10], meta[4], meta[4], tonumber(meta[5])
    facts.idle, facts.found_idle, facts.watched, facts.next_due = meta[6], meta[6], meta[7] ~= '0', tonumber(meta[8])
    NOW = store_time(tonumber(args[1]) or server_time(), tonumber(meta[2]), meta[11] and tonumber(meta[11]))
    NOW_TEXT = int(NOW)
    change('time', NOW)
    if PARTITIONS > 1 then follow_time() end
end

-- What a library remembers of the call before is nothing to this one.
local function forget()
    writes, begun, texts, kept, known = {}, {}, {}, 0, {}
    hints.mine, hints.all, hints.theirs = {}, emptied(hints.all), emptied(hints.theirs)
    jobs, tasks, workers = {}, {}, {}
    inboxes, backlog = emptied(inboxes), 0
    counts, counted, queues, wanted_keys = {}, {}, {}, {}
    claiming.asked, claiming.left, claiming.left_for_me, claiming.alone = false, false, false, false
    reset_stream(READY)
    reset_stream(SUSPECTS)
    seats, losses = NONE, NONE
    totals, touched, armed, disarmed, earliest = {}, {}, {}, {}, nil
end

-- Do an operation for a node, on the newest of its connections.
local function run(operation, keys, argv)
    if not read then bind() end
    META, NODE, TOKEN = keys[1], argv[2], argv[3]
    P = string.sub(META, 1, -5)
    args, at = argv, 4
    if argv[4] ~= settings.text then read_settings(argv[4]) end
    local refused = read_meta()
    if refused then return refused end
    forget()
    return operation()
end
