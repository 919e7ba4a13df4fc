-- Inboxes: what is to happen to a job, in order of arrival. A job's row has the numbers, a hash what they are.

local inboxes = {}
local function inbox(row)
    local box = inboxes[row]
    if not box then
        box = {key = P .. 'i:' .. row.ID, put = {}, gone = {}}
        inboxes[row] = box
    end
    return box
end

local function deliver(row, event, is_cancel)
    row.arrived = (row.arrived or 0) + 1
    local n = int(row.arrived)
    inbox(row).put[n] = event
    row.inbox = row.inbox and row.inbox .. ' ' .. n or n
    if is_cancel then row.cancels = row.cancels and row.cancels .. ' ' .. n or n end
    mark_ready(row)
end

local function without(text, gone)
    if not text then return nil end
    local rest = {}
    for _, n in ipairs(words(text)) do
        if not gone[n] then rest[#rest + 1] = n end
    end
    return rest[1] and table.concat(rest, ' ') or nil
end

local function consume(row, numbers)
    local gone, box = {}, inbox(row)
    for _, n in ipairs(numbers) do gone[n], box.gone[n] = true, true end
    row.inbox, row.cancels = without(row.inbox, gone), without(row.cancels, gone)
end

local function clear_inbox(row)
    row.inbox, row.cancels = nil, nil
    if row.arrived then inbox(row).cleared = true end
end

-- The unread events of a job: number, event, number, event...
local function unread(row)
    if not row.inbox then return {} end
    local box, numbers, events, stored = inbox(row), words(row.inbox), {}, {}
    for _, n in ipairs(numbers) do
        if not box.put[n] then stored[#stored + 1] = n end
    end
    local found = {}
    if stored[1] then
        local values = read('HMGET', box.key, unpack(stored))
        for i, n in ipairs(stored) do found[n] = values[i] end
    end
    for _, n in ipairs(numbers) do
        events[#events + 1] = n
        events[#events + 1] = box.put[n] or found[n]
    end
    return events
end

-- A claim as it is answered.
local function told_claims(claims)
    local answer = {}
    for i, row in ipairs(claims) do
        answer[i] = {row.ID, state_of(row), row.claim, row.deliveries, unread(row)}
    end
    return answer
end

-- History: texts of one or more lines each, by the number of the last one.
local backlog = 0
local function lines_of(id) return P .. 'h:' .. id .. ':' end

-- Go through the lines that are stored of a job, from one number to another: `visit` gets the number of the last of them
-- and what they are, and may end it by answering true.
local function visit_lines(id, from, to, visit)
    for first = from, to, 100 do
        local keys = {}
        for last = first, math.min(first + 99, to) do keys[#keys + 1] = lines_of(id) .. int(last) end
        for i, lines in ipairs(read('MGET', unpack(keys))) do
            if lines and visit(first + i - 1, lines) then return end
        end
    end
end

local function tell(row, count, lines)
    row.told = (row.told or 0) + count
    local last = int(row.told)
    -- As `lines_of` says.
    keep(P .. 'h:' .. row.ID .. ':' .. last, lines)
    if MAX_BACKLOG then
        put('ZADD', P .. 'outbox', number(), row.ID .. ':' .. last)
        backlog = backlog + #lines
        mine.n = true
    end
end
