-- How rows are stored: as lists of values, packed, with false for what there is not ('\194'), and nothing where that is so
-- of all values at the end. A list begins with its length, in three bytes; in one, where it has less than 16 values. What
-- is long and only handed on is beside rows, as it was given: a job's state, what a task carries, and history.

-- A row is put together out of texts: a call that packs all of it looks through a whole table first, and takes memory
-- again and again, as do several calls for a part of it each. How a text of so many bytes begins:
local BEGINS = {}
local function begins(size)
    local begin
    if size < 32 then
        begin = string.char(160 + size)
    elseif size < 256 then
        begin = '\217' .. string.char(size)
    else
        -- Seldom: it need not be known how.
        begin = string.sub(pack(string.rep(' ', size)), 1, size < 65536 and 3 or 5)
    end
    if size < 256 then BEGINS[size] = begin end
    return begin
end

-- Numbers, packed, and false: most are small, or times that many have.
local NUMBERS, number_count = {[false] = '\194'}, 0
local function packed_number(number)
    if number_count == 1000 then NUMBERS, number_count = {[false] = '\194'}, 0 end
    local text = pack(number)
    -- In rows of an earlier release some are texts.
    if type(number) ~= 'number' then return text end
    NUMBERS[number], number_count = text, number_count + 1
    return text
end

-- The tables below name what they nearly always hold, so that there is room for it, and little more: one of up to 32
-- fields costs half of one with more, and each field costs, also without a value. What is seldom there is added.
local function job_row(id, key, text)
    local _, status, inbox, cancels, claim, entry, ready, fan, n, finished, step, progress, told, arrived, till,
        deliveries, wake, wake_step, spawn, open_step, open_count, created, updated, commit, made, reply, message, owner,
        blueprint, request, digest, cost, money = unpacked(text, 32, 3)
    local row = {
        ID = id, KEY = key, TEXT = text, N = n, DUE = nil, SHOWN = nil, STATE = nil, status = status, step = step,
        told = told or nil, open_step = open_step or nil, open_count = open_count or nil, created = created,
        updated = updated, commit = commit or nil, made = made or nil, owner = owner, blueprint = blueprint,
    }
    if inbox then row.inbox = inbox end
    if cancels then row.cancels = cancels end
    if claim then row.claim = claim end
    if entry then row.entry = entry end
    if ready then row.ready = ready end
    if fan then row.fan = fan end
    if finished then row.finished = finished end
    if progress then row.progress = progress end
    if arrived then row.arrived = arrived end
    if till then row['until'] = till end
    if deliveries then row.deliveries = deliveries end
    if wake then row.wake = wake end
    if wake_step then row.wake_step = wake_step end
    if spawn then row.spawn = spawn end
    if reply then row.reply = reply end
    if message then row.message = message end
    if request then row.request, row.digest = request, digest end
    if cost then row.cost = cost end
    if money then row.money = money end
    return row
end

local function job_text(row)
    local whole = row.request or row.cost or row.money
    local status, n, owner, blueprint = row.status, row.N, row.owner, row.blueprint
    local commit, made, created, updated = row.commit, row.made, row.created, row.updated
    local finished, progress, told = row.finished or false, row.progress or false, row.told or false
    local open_step, open_count, step = row.open_step or false, row.open_count or false, row.step
    return (whole and '\220\0\32' or '\220\0\28')
        .. (BEGINS[#status] or begins(#status)) .. status
        .. ((row.inbox or row.claim or row.entry or row.ready or row.fan or row.cancels) and pack(
            row.inbox or false, row.cancels or false, row.claim or false, row.entry or false, row.ready or false,
            row.fan or false) or '\194\194\194\194\194\194')
        .. (BEGINS[#n] or begins(#n)) .. n
        .. (NUMBERS[finished] or packed_number(finished)) .. (NUMBERS[step] or packed_number(step))
        .. (NUMBERS[progress] or packed_number(progress)) .. (NUMBERS[told] or packed_number(told))
        .. ((row.arrived or row['until'] or row.deliveries or row.wake or row.wake_step or row.spawn) and pack(
            row.arrived or false, row['until'] or false, row.deliveries or false, row.wake or false,
            row.wake_step or false, row.spawn or false) or '\194\194\194\194\194\194')
        .. (NUMBERS[open_step] or packed_number(open_step)) .. (NUMBERS[open_count] or packed_number(open_count))
        .. (NUMBERS[created] or packed_number(created)) .. (NUMBERS[updated] or packed_number(updated))
        .. (commit and (BEGINS[#commit] or begins(#commit)) or '\194') .. (commit or '')
        .. (made and (BEGINS[#made] or begins(#made)) or '\194') .. (made or '')
        .. ((row.reply or row.message) and pack(row.reply or false, row.message or false) or '\194\194')
        .. (BEGINS[#owner] or begins(#owner)) .. owner
        .. (BEGINS[#blueprint] or begins(#blueprint)) .. blueprint
        .. (whole and pack(row.request or false, row.digest or false, row.cost or false, row.money or false) or '')
end

-- What a task was made with: priority, execution timeout, the policy of its retries, and, if it says so, how long it stays
-- its worker's without a word, and what an attempt reserves: '*' is what whoever takes it declares.
local function terms_of(text)
    local priority, execution, retry, lost_after, reserves =
        match(text, '^(%S+) (%S+) (%S+ %S+ %S+) ?(%d*) ?([%d*]*)$')
    lost_after = tonumber(lost_after)
    return priority, tonumber(execution), retry, lost_after ~= 0 and lost_after or nil, tonumber(reserves), reserves == '*'
end

-- A task's row begins with what it was made with. That stays as it is, but where the task is given another need; so it is
-- packed once. The id is there for the sake of Lua, which tells long texts apart by some of their letters.
local function head_of(row)
    return pack(row.ID, row.N, row.key, row.need, row.priority, row.execution, row.retry, row.lost_after or false)
end

local function task_row(id, key, text, owner_id, step)
    local from, _, n, match_key, need, priority, execution, retry, lost_after = unpacked(text, 8, 3)
    local _, place, accepted, who, session, lease, applied, avoid, attempts, branch, till, dispatch_due, result_due,
        execution_due, attempt, progress, generation, losses, reason, late, reserves, reserved, at_once,
        written_off, by_price = unpacked(text, 24, from)
    local row = {
        ID = id, KEY = key, TEXT = text, HEAD = string.sub(text, 4, from), N = n, DUE = nil, PLACE = nil, job = owner_id,
        step = step, key = match_key, need = need, priority = priority, execution = execution, retry = retry,
        place = place, worker = who or nil, lease = lease or nil, generation = generation or 1,
    }
    if lost_after then row.lost_after = lost_after end
    if accepted then row.accepted = accepted end
    if session then row.session = session end
    if applied then row.applied = applied end
    if avoid then row.avoid = avoid end
    if attempts then row.attempts = attempts end
    if branch then row.branch = branch end
    if till then row['until'] = till end
    if dispatch_due then row.dispatch_due = dispatch_due end
    if result_due then row.result_due = result_due end
    if execution_due then row.execution_due = execution_due end
    if attempt then row.attempt = attempt end
    if progress then row.progress = progress end
    if losses then row.losses = losses end
    if reason then row.reason = reason end
    if late then row.late = late end
    if reserves then row.reserves = reserves end
    if reserved then row.reserved = reserved end
    if at_once then row.at_once = at_once end
    if written_off then row.written_off = written_off end
    if by_price then row.by_price = by_price end
    return row
end

local function task_text(row)
    local whole = row.losses or row.reason or row.late or row.reserves or row.reserved or row.at_once or row.written_off
        or row.by_price
    local place, generation = row.place, row.generation
    local begin, rest = '\220\0\24', ''
    if whole then
        begin = '\220\0\32'
        rest = pack(row.losses or false, row.reason or false, row.late or false, row.reserves or false,
            row.reserved or false, row.at_once or false, row.written_off or false, row.by_price or false)
    end
    local dues = '\194\194\194\194\194\194'
    if row['until'] or row.dispatch_due or row.result_due or row.execution_due or row.attempt or row.progress then
        local till, dispatch_due, result_due = row['until'] or false, row.dispatch_due or false, row.result_due or false
        local execution_due, attempt, progress = row.execution_due or false, row.attempt or false, row.progress or false
        dues = (NUMBERS[till] or packed_number(till)) .. (NUMBERS[dispatch_due] or packed_number(dispatch_due))
            .. (NUMBERS[result_due] or packed_number(result_due))
            .. (NUMBERS[execution_due] or packed_number(execution_due))
            .. (NUMBERS[attempt] or packed_number(attempt)) .. (NUMBERS[progress] or packed_number(progress))
    end
    local attempts, who, session, id, applied = row.attempts, row.worker, row.session, row.lease, row.applied
    if not (attempts or who or session or id or applied or row.branch or row.avoid or row.accepted) then
        return begin .. (row.HEAD or head_of(row)) .. (BEGINS[#place] or begins(#place)) .. place
            .. '\194\194\194\194\194\194\194\194' .. dues .. (NUMBERS[generation] or packed_number(generation)) .. rest
    end
    local accepted = row.accepted or false
    return begin .. (row.HEAD or head_of(row)) .. (BEGINS[#place] or begins(#place)) .. place
        .. (NUMBERS[accepted] or packed_number(accepted))
        .. (who and (BEGINS[#who] or begins(#who)) or '\194') .. (who or '')
        .. (session and (BEGINS[#session] or begins(#session)) or '\194') .. (session or '')
        .. (id and (BEGINS[#id] or begins(#id)) or '\194') .. (id or '')
        .. (applied and (BEGINS[#applied] or begins(#applied)) or '\194') .. (applied or '')
        .. (row.avoid and pack(row.avoid) or '\194')
        .. (attempts and (BEGINS[#attempts] or begins(#attempts)) or '\194') .. (attempts or '')
        .. (row.branch and pack(row.branch) or '\194')
        .. dues .. (NUMBERS[generation] or packed_number(generation)) .. rest
end

-- `keeps` is how long its leases last, and `takes` how long its tasks may execute that name no time, if it says so. `proof`
-- ranks what proved the worker's id.
local function worker_row(id, key, text)
    local _, session, live, node, credits, keeps, takes, opened, instance, proof
    if text then _, session, live, node, credits, keeps, takes, opened, instance, proof = unpacked(text, 9, 1) end
    return {
        ID = id, KEY = key, TEXT = text, WAS_LIVE = live or nil, WAS_NODE = node, HELD = {}, CHANGES = {}, DELTA = 0,
        BASE = nil, GONE = nil, session = session, live = live or nil, node = node, credits = credits,
        keeps = keeps or nil, takes = takes or nil, opened = opened or nil, instance = instance or '',
        proof = proof or nil,
    }
end

local function worker_text(row)
    return pack({
        row.session, row.live or false, row.node, row.credits, row.keeps or false, row.takes or false,
        row.opened or false, row.instance, row.proof or false,
    })
end
