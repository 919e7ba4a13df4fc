-- What workers hold, and what they are to be told of it.

local held = {}

-- How many leases: as stored, if that was asked for, and how many more or fewer since.
function held.count(row)
    row.BASE = row.BASE or read('HLEN', P .. 'held:' .. row.ID)
    return row.BASE + row.DELTA
end

function held.has(row, lease_id)
    local found = row.HELD[lease_id]
    if found == nil then
        found = not row.FRESH and read('HGET', P .. 'held:' .. row.ID, lease_id) or false
        row.HELD[lease_id] = found
    end
    return found
end

-- Ask at once whether a worker holds these leases.
function held.look_up(worker_id, leases)
    local row = worker_id ~= '' and leases[1] and worker(worker_id)
    if not row then return end
    for from = 1, #leases, 4000 do
        local to = math.min(from + 3999, #leases)
        local found = read('HMGET', P .. 'held:' .. row.ID, unpack(leases, from, to))
        for i = from, to do row.HELD[leases[i]] = found[i - from + 1] end
    end
end

function held.take(row, lease_id, task_id)
    row.DELTA = row.DELTA + 1
    row.HELD[lease_id], row.CHANGES[lease_id] = task_id, true
end

function held.lose(row, lease_id)
    row.DELTA = row.DELTA - 1
    row.HELD[lease_id], row.CHANGES[lease_id] = false, true
end

-- All that a worker holds: lease, task, lease, task...
function held.all(row) return read('HGETALL', P .. 'held:' .. row.ID) end

function held.give_up(worker_id, lease_id)
    if worker_id == '' then return end
    local row = worker(worker_id)
    if row and held.has(row, lease_id) then
        held.lose(row, lease_id)
        if not row.live and held.count(row) == 0 then row.GONE = true end
    end
end

local function held_by(row, session_id)
    local holder = row.worker and worker(row.worker)
    if not holder or holder.session ~= session_id or row.session ~= session_id then return nil end
    return holder
end

-- What workers are to be told: a list for the node of each.
local function tell_worker(holder, ...)
    put('RPUSH', P .. 'stops:' .. holder.node, table.concat({int(number()), ...}, ' '))
    tell_node(holder.node, 's')
end

local function stop_holder(row, reason)
    if not placed(row) then return end
    local holder = worker(row.worker)
    if not holder then return end
    if holder.live and holder.session == row.session then
        tell_worker(holder, reason, row.worker, row.session, row.ID, row.lease)
    elseif not holder.live then
        held.give_up(row.worker, row.lease)
    end
end
