-- Jobs of an owner, newest first, before an arrival number; where to go on, when not all were looked at, and whether
-- their states have as many bytes as there is room for. Where the page has none yet, one finds room always.

local function set_of(statuses)
    local set
    for status in gmatch(statuses, '%S+') do
        set = set or {}
        set[status] = true
    end
    return set
end

-- Whether a job is asked for, by its row as it is stored: no more of it is unpacked than that takes, and of one that is
-- not asked for nothing else is read.
local function asked_for(text, statuses, blueprint, created_after, created_before)
    if statuses then
        local _, status = unpacked(text, 1, 3)
        if not statuses[status] then return false end
    end
    if blueprint == '' and not created_after and not created_before then return true end
    local created, _, _, _, _, _, _, its = select(22, unpacked(text, 28, 3))
    if created_after and created < created_after or created_before and created >= created_before then return false end
    return blueprint == '' or blueprint == its
end

-- The arrival number in a row.
local function number_in(text) return tonumber((select(9, unpacked(text, 8, 3)))) end

-- Whether a job, by its row, came to be before a time. Those of lower numbers did too.
local function is_before(text, time)
    return (select(22, unpacked(text, 21, 3))) < time
end

-- The rows of so many of these jobs, from there on.
local function rows_from(ids, first, count)
    local rows = {}
    for i = first, math.min(first + count - 1, #ids) do rows[#rows + 1] = P .. 'j:' .. ids[i] end
    fetch(rows)
    return rows
end

local LOOK_AT = 200
local function operation()
    local owner, from, limit, room, blueprint = arg(), arg(), tonumber(arg()), tonumber(arg()), arg()
    local empty, created_after, created_before = arg() ~= '', tonumber(arg()), tonumber(arg())
    local statuses = set_of(arg())
    local found, last = {}, nil
    -- Where any will do, the first ones are enough.
    local some = statuses or blueprint ~= '' or created_after or created_before
    local look_at = some and LOOK_AT or math.min(limit, LOOK_AT)
    local ids = read('ZREVRANGEBYSCORE', P .. 'o:' .. owner, from == '' and '+inf' or '(' .. from, '-inf', 'LIMIT', 0,
        look_at)
    -- The page may be full with the first rows that it has room for; else the others are read as well.
    local rows, before, count = {}, 0, limit
    for i = 1, #ids do
        if #found == limit then break end
        if i > before + #rows then rows, before, count = rows_from(ids, i, count), i - 1, LOOK_AT end
        local key = rows[i - before]
        local text = known[key]
        if text and (not some or asked_for(text, statuses, blueprint, created_after, created_before)) then
            local told = record(ids[i], key)
            room = room - #told[1]
            if room < 0 and not (empty and #found == 0) then return {found, last and number_in(last) or 0, 1} end
            found[#found + 1] = told
        end
        last = text or last
    end
    local more = last and (#found == limit or #ids == look_at and not (created_after and is_before(last, created_after)))
    return {found, more and number_in(last) or 0, 0}
end
