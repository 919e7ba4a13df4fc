-- Queues: the tasks that wait for a lease, by match key.

local LOOK_PAST = 16

-- How many tasks wait behind each match key.
local counts, counted = {}, {}
local function fetch_counts(keys)
    local asked = {}
    for _, key in ipairs(keys) do
        if counts[key] == nil then
            counts[key] = 0
            asked[#asked + 1] = key
        end
    end
    for from = 1, #asked, 4000 do
        local to = math.min(from + 3999, #asked)
        local found = read('HMGET', P .. 'waiting', unpack(asked, from, to))
        for i = from, to do
            local key = asked[i]
            counts[key] = tonumber(found[i - from + 1] or 0)
            counted[key] = counts[key]
        end
    end
end

-- A queue: what is stored, a page at a time, without what is taken out and with what is put in; lists of members, and the
-- scores of these. The first page has as many tasks as are about to be taken out.
local queues = {}
local PAGE = 1
local function queue(key)
    local one = queues[key]
    if not one then
        fetch_counts({key})
        local nothing = counted[key] == 0
        one = {
            key = P .. 'q:' .. key, members = NONE, scores = NONE, stored = 0, first = 1, size = PAGE, put = {},
            fresh = {}, count = 0, last = -math.huge, next = 1, mixed = false, gone = {}, ended = nothing, need = nil,
        }
        queues[key] = one
    end
    return one
end

local function member_of(row)
    row.PLACE = row.PLACE or row.N .. row.ID
    return row.PLACE
end

-- Match keys with tasks that somebody may be able to take now.
local wanted_keys = {}
local function enqueue(row)
    local one = queue(row.key)
    counts[row.key] = counts[row.key] + 1
    one.need = row.need
    local member, score = member_of(row), -tonumber(row.priority)
    -- Most are put in behind the last.
    local fresh, count = one.fresh, one.count
    if one.gone[member] or score < one.last or (score == one.last and member < fresh[count]) then one.mixed = true end
    one.put[member], fresh[count + 1], one.count, one.last = score, member, count + 1, score
    wanted_keys[row.key] = true
end

local function dequeued(row)
    local one, member = queue(row.key), member_of(row)
    counts[row.key] = counts[row.key] - 1
    one.put[member] = nil
    one.gone[member] = true
end

-- The stored member at a place, if there are as many.
local function stored(one, i)
    while i > one.stored and not one.ended do
        if one.stored == 0 then one.members, one.scores = {}, {} end
        local n = one.stored
        local found = read('ZRANGE', one.key, n, n + one.size - 1, 'WITHSCORES')
        local keys = {}
        for at = 1, #found, 2 do
            local member = found[at]
            local id = id_of(member)
            n = n + 1
            one.members[n], one.scores[n] = member, tonumber(found[at + 1])
            keys[at], keys[at + 1] = P .. 't:' .. id, P .. 'x:' .. id
        end
        if keys[1] then fetch(keys) end
        one.stored, one.ended = n, #found < 2 * one.size
        one.size = math.min(math.max(4, 2 * one.size), 512)
    end
    return one.members[i]
end

-- Put what was put in into its order, without what was taken out again.
local function in_order(one)
    local put, fresh = one.put, {}
    for member in pairs(put) do fresh[#fresh + 1] = member end
    table.sort(fresh, function(a, b) return put[a] < put[b] or (put[a] == put[b] and a < b) end)
    one.fresh, one.count, one.next, one.mixed = fresh, #fresh, 1, false
    one.last = put[fresh[#fresh]] or -math.huge
end

-- The first of a queue that was not passed over, and its score.
local function head(one, passed)
    local i, put, gone = one.first, one.put, one.gone
    local member = stored(one, i)
    while member and (gone[member] or put[member] or passed[member]) do
        if i == one.first and gone[member] then one.first = i + 1 end
        i = i + 1
        member = stored(one, i)
    end
    local score = member and one.scores[i]
    if one.mixed then in_order(one) end
    local fresh, at_fresh = one.fresh, one.next
    local other = fresh[at_fresh]
    while other and (not put[other] or passed[other]) do
        if at_fresh == one.next and not put[other] then one.next = at_fresh + 1 end
        at_fresh = at_fresh + 1
        other = fresh[at_fresh]
    end
    if other and (not member or put[other] < score or (put[other] == score and other < member)) then
        return other, put[other]
    end
    return member, score
end

-- Whether a task is not for this worker now. Some is only for want of another: that is not, where it alone could do it.
local function avoids(row, worker_id, only)
    if not row.avoid then return false end
    local alone = string.find(only, ' ' .. row.key .. ' ', 1, true)
    for _, entry in ipairs(avoided(row)) do
        if entry[1] == worker_id and entry[2] > NOW and not (alone and entry[3] == '1') then return true end
    end
    return false
end

local function any_wait(keys)
    for i = 1, #keys do
        if counts[keys[i]] > 0 then return true end
    end
    return false
end

-- Take the first task of these queues that does not avoid the worker, who alone could do those of some.
local function best(keys, worker_id, only)
    local passed, looked = NONE, NONE
    while true do
        local found, first, lowest
        for i = 1, #keys do
            local key = keys[i]
            if counts[key] > 0 and (looked[key] or 0) <= LOOK_PAST then
                local member, score = head(queue(key), passed)
                if member and (not first or score < lowest or (score == lowest and member < first)) then
                    found, first, lowest = key, member, score
                end
            end
        end
        if not found then return nil end
        local row = task(id_of(first))
        if not avoids(row, worker_id, only) then
            dequeued(row)
            return row
        end
        if passed == NONE then passed, looked = {}, {} end
        passed[first] = true
        looked[found] = (looked[found] or 0) + 1
    end
end
