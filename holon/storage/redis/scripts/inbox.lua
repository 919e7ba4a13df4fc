-- Inboxes: what is to happen to a job, in order of arrival. A job's row has the numbers, a hash what they are.

local inbox, inboxes = {}, {}
local function box_of(row)
    local box = inboxes[row]
    if not box then
        box = {key = P .. 'i:' .. row.ID, put = {}, gone = {}}
        inboxes[row] = box
    end
    return box
end

function inbox.deliver(row, event, is_cancel)
    row.arrived = (row.arrived or 0) + 1
    local n = int(row.arrived)
    box_of(row).put[n] = event
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

function inbox.consume(row, numbers)
    local gone, box = {}, box_of(row)
    for _, n in ipairs(numbers) do gone[n], box.gone[n] = true, true end
    row.inbox, row.cancels = without(row.inbox, gone), without(row.cancels, gone)
end

function inbox.clear(row)
    row.inbox, row.cancels = nil, nil
    if row.arrived then box_of(row).cleared = true end
end

-- The unread events of a job: number, event, number, event...
function inbox.unread(row)
    if not row.inbox then return {} end
    local box, numbers, events, stored = box_of(row), words(row.inbox), {}, {}
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
        answer[i] = {row.ID, state_of(row), row.claim, row.deliveries, inbox.unread(row)}
    end
    return answer
end
